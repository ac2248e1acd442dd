"""From a configuration to a search."""

from __future__ import annotations

import torch
from torch import nn

from evaluators.base import Evaluator
from evaluators.repeated import Repeated
from search.coevolution import Coevolution
from search.config.settings import Settings
from search.engine import Search
from search.executors import InlineExecutor
from search.executors.base import Executor
from search.finish.export import ModelSource
from search.progress import Progress
from search.setup.baseline import load_checkpoint
from search.setup.preparation import MakeSpace
from search.strategy import Strategy
from search.warm_start.from_run import FromRun
from spaces.base import Space
from spaces.calling import Example
from spaces.errors import InputError


def _warm(strategy: Strategy | Coevolution, run: str | None) -> Strategy | Coevolution:
    """Let a strategy begin with the candidates of another run, where one is named."""
    if run is None:
        return strategy
    if not hasattr(strategy, "initialisation"):
        name = type(strategy).__name__
        raise InputError(
            f"warm_start: {name} begins in a way of its own; expected search.Evolution, search.RandomSearch, "
            f"search.Tuning or search.SuccessiveHalving as strategy"
        )
    strategy.initialisation = FromRun(run, then=strategy.initialisation)
    return strategy


def _over_seeds(evaluators: list[Evaluator], seeds: int) -> list[Evaluator]:
    """Return evaluators of which those that train do so from several seeds."""
    if seeds == 1:
        return evaluators
    if all(evaluator.epochs is None for evaluator in evaluators):
        raise InputError(
            f"search.seeds {seeds}: no evaluator trains; expected one such as evaluators.TrialTraining, or 1"
        )
    return [evaluator if evaluator.epochs is None else Repeated(evaluator, seeds) for evaluator in evaluators]


def assemble(settings: Settings, progress: Progress | None = None, searches: bool = True) -> Search:
    """Make the objects that a configuration names, and a search of them; nothing is trained or evaluated yet.

    Torch gets as many threads in this process as a task has: what is trained or scored here would come out
    the same there. For the same reason the base model goes to this machine's GPU, if it has one, where tasks
    hold a share of one.

    Args:
        progress: where the run is shown; None: nowhere.
        searches: whether it will search; what only exports or plans needs no database for the Optuna view,
            and so no password.

    Raises:
        InputError: a constructor refuses its arguments, or a checkpoint does not fit.
    """
    ray = settings.make("ray")
    # as in every task: results depend on the number of threads
    torch.set_num_threads(max(1, int(ray.cpus_per_task)))
    executor: Executor = ray if settings.executor == "ray" else InlineExecutor(ray.time_limit)
    model = None if builds(settings) else _model(settings)
    strategy = _warm(settings.make("strategy"), settings.warm_start)
    # a stack of cells is nothing without them
    whole = model is not None and not getattr(type(model), "hollow", False)
    trained = whole and settings.checkpoint is None and strategy.starts_from_base
    return Search(
        model,
        settings.make("data") if settings.has("data") else None,
        space=_space(settings),
        evaluators=_over_seeds(settings.make("evaluators"), settings.search.seeds),
        objectives=settings.objectives,
        constraints=settings.constraints,
        strategy=strategy,
        executor=executor,
        directory=settings.directory,
        training=settings.make("training") if trained else None,
        criteria=settings.make("criteria"),
        finish=settings.make("finish"),
        seed=settings.seed,
        order=settings.search.order,
        lag=settings.search.lag,
        chunk=settings.search.chunk,
        study=settings.study.view and (searches or not settings.study.is_in_database),
        storage=settings.storage if searches and settings.study.view else None,
        origin=_origin(settings),
        config=settings.dump(),
        progress=progress,
        listeners=settings.make("listeners") or (),
        device="cuda"
        if settings.executor == "ray" and ray.gpus_per_task and torch.cuda.is_available()
        else "cpu",
    )


def _model(settings: Settings) -> nn.Module | None:
    """The base model: with the weights of the checkpoint, or those that the seed gives."""
    if not settings.has("model"):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = settings.make("model")
    if settings.checkpoint is not None:
        load_checkpoint(model, settings.checkpoint)
    return model


def builds(settings: Settings) -> bool:
    """Whether the space makes models of the class that the config names, instead of changing one that is
    there.
    """
    return settings.accepts("space", "model") and not settings.accepts("space", "example")


def _origin(settings: Settings) -> ModelSource:
    space = settings.spec("space")
    if not builds(settings) or space is None:
        return ModelSource(settings.spec("model"), space)
    return ModelSource(
        None, space | {"init_args": {**(space.get("init_args") or {}), "model": settings.spec("model")}}
    )


def _space(settings: Settings) -> Space | MakeSpace:
    """A space that prunes a model is made once there is one; others are made at once."""
    if builds(settings):
        return settings.make("space", model=settings.spec("model"))
    if not settings.accepts("space", "model"):
        return settings.make("space")

    def make(model: nn.Module, example: Example) -> Space:
        return settings.make("space", model=model, example=example)

    return make
