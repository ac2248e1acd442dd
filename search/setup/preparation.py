"""From what the user gave to a problem that can be searched: model, space, evaluator, goals, each checked
before the next.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from evaluators.base import Candidate, Evaluator, State
from evaluators.data.base import Data
from evaluators.rehearsal import check_tensors
from operators.criteria import Activation, Criterion, Magnitude, Taylor, score_all
from search.ask_and_tell import candidate_seed
from search.executors.base import Finished
from search.executors.racing import raced_objective
from search.executors.work import evaluate
from search.problem import Constraint, Objective, Problem
from search.progress import Progress
from search.record.identity import FORMAT, Identity, source_digest, weights_digest
from search.record.identity_format1 import former_structure, identify
from search.setup.baseline import Baseline
from search.setup.limits import attainable, check_attainable, check_metrics
from search.setup.needs import Needs, check_needs
from spaces.base import Sliced, Space
from spaces.calling import Example
from spaces.errors import InputError
from spaces.names import former_names, public_name

MakeSpace = Callable[[nn.Module, Example], Space]
_GUIDE_BATCH = 256


def default_criteria() -> list[Criterion]:
    """What the guide holds where nothing else is asked for."""
    return [Magnitude(), Taylor(), Activation()]


@dataclass(eq=False)
class Preparation:
    """What is searched, and the steps that make a problem of it.

    Attributes:
        model: the base model, or None for a space that builds its own.
        data: of the run.
        space: the space itself, or a function of model and example that makes it.
        evaluator: of candidates.
        objectives: at least one.
        constraints: perhaps none.
        baseline: how the base model is trained; None: it comes with its weights.
        criteria: what the guide holds of the base model.
        seed: of the run.
        device: where this process trains and evaluates.
        steps: of widths, where the space left them to the runtime; None: not known yet.
        needs: what the run asks of model and data beyond its evaluators.
    """

    model: nn.Module | None
    data: Data | None
    space: Space | MakeSpace
    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    baseline: Baseline | None = None
    criteria: Sequence[Criterion] = field(default_factory=default_criteria)
    seed: int = 0
    device: str = "cpu"
    steps: Mapping[str, int] | None = None
    needs: Needs = field(default_factory=Needs)

    def __post_init__(self) -> None:
        if self.data is not None:
            self.data.validate()
        self._described = identify("evaluators", self.evaluator.parts)

    def untrained(self) -> bool:
        """Load weights that were trained before; whether there are none, so that the base model is yet to be
        trained.
        """
        return self.baseline is not None and not self.baseline.load()

    def train(self, progress: Progress) -> None:
        """Train the base model."""
        assert self.baseline is not None
        epochs = self.baseline.training.epochs
        with progress.stage():
            self.baseline.train(lambda report: progress.training(report, epochs), self.device)

    def identity(self, space: Space) -> Identity:
        """Return what space, model, weights, data, goals and evaluators are; known before any training."""
        common = {
            "data": self.data.fingerprint if self.data is not None else "none",
            "objectives": ", ".join(map(str, self.objectives)),
            "constraints": ", ".join(map(str, self.constraints)),
        }
        with former_names():
            former = {"space": space.fingerprint[:16]} | self._former_model()
        lines = {"format": FORMAT, "space": space.fingerprint[:16]} | self._model(space.program)
        described = self._described | identify("criteria", list(self.criteria))
        return Identity(lines | common, former | common) | described

    def untraced(self) -> dict[str, str]:
        """Return what model, weights and data are, as far as that is known before anything is traced."""
        return {"data": self.data.fingerprint if self.data is not None else "none"} | self._model()

    def _model(self, program: str = "") -> dict[str, str]:
        """Return what the base model is and computes, and where its weights come from."""
        if self.model is None:
            return {"model": "none", "weights": "none"}
        program = program or source_digest(self.model)
        weights = f"trained {self.baseline.key}" if self.baseline is not None else weights_digest(self.model)
        return {"model": f"{public_name(type(self.model))} {program}", "weights": weights}

    def _former_model(self) -> dict[str, str]:
        """Return the same as format 1 had it, which knew a model by its layers alone."""
        if self.model is None:
            return {"model": "none", "weights": "none"}
        structure = hashlib.sha256(former_structure(self.model).encode()).hexdigest()[:16]
        weights = weights_digest(self.model)
        if self.baseline is not None:
            weights = f"trained {self.baseline.former_key}"
        return {"model": f"{public_name(type(self.model))} {structure}", "weights": weights}

    def make_space(self) -> Space:
        """Return the space over the model as it is now."""
        if not callable(self.space):
            return self.space
        if self.data is None:
            raise InputError(
                "data: missing; expected class_path of an evaluators.data.Data, to trace the model with"
            )
        if self.model is None:
            raise InputError(
                "model: missing; expected class_path of a torch.nn.Module, which this space prunes"
            )
        check_tensors(self.model)
        return self.space(self.model, self.data.example())

    def check(self, space: Space, rehearse: bool = False, reachable: bool = True) -> Problem:
        """Bind the evaluator and see that the goals can be reached.

        Args:
            rehearse: bind a copy of the evaluator, since the space will be made once more.
            reachable: whether limits out of reach are refused.

        Raises:
            InputError: of the first that does not fit.
        """
        evaluator = copy.deepcopy(self.evaluator) if rehearse else self.evaluator
        evaluator.bind(space, self.data)
        self.steps = space.settle(lambda: self._liked(evaluator) if self.steps is None else self.steps)
        check_metrics(evaluator, self.objectives, self.constraints, space)
        raced_objective(evaluator, self.objectives)
        of_parent = frozenset(_name(criterion) for criterion in self.criteria if criterion.of_parent)
        problem = Problem(space, evaluator, self.objectives, self.constraints, of_parent=of_parent)
        if reachable:
            check_attainable(
                attainable(space, self.data, evaluator, self.constraints, problem.screened_base())
            )
        return problem

    def _liked(self, evaluator: Evaluator) -> Mapping[str, int]:
        """Return the steps of widths that are fast, where the goals say that this counts."""
        goals = {one.metric for one in self.objectives} | {one.metric for one in self.constraints}
        parts = [part for part in evaluator.parts if goals & {*part.screened}]
        return {name: step for part in parts for name, step in part.width_steps().items()}

    def check_needs(self, problem: Problem) -> None:
        """See on the first samples that model and data give what evaluators, guide and finishing ask for.

        Raises:
            InputError: of the first that does not fit.
        """
        check_needs(self.needs, problem.space, problem.evaluator, self.data, self.seed)

    def base(self, problem: Problem) -> dict[str, float]:
        """Evaluate the base model; empty where the space has none.

        Raises:
            InputError: where it cannot be evaluated: then no candidate can.
        """
        genome = problem.space.base
        if genome is None:
            return {}
        candidate = Candidate(-1, genome, (), "base", candidate_seed(self.seed, 2**31))
        for event in evaluate(problem.space, problem.evaluator, candidate, device=self.device):
            if isinstance(event, Finished):
                if event.evaluation.state is not State.COMPLETE:
                    raise InputError(f"model: the base model cannot be evaluated: {event.evaluation.reason}")
                return dict(event.evaluation.metrics)
        raise AssertionError("an evaluation always finishes")

    def guide(self, problem: Problem) -> dict[str, np.ndarray]:
        """Return scores of every locus of the base model; empty where the space has no slice plan."""
        space = problem.space
        if not isinstance(space, Sliced) or self.data is None or not self.criteria:
            return {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            scores = score_all(
                self.criteria,
                space.model,
                self.data.batches("calibration", _GUIDE_BATCH),
                space.plan,
                self.data.loss,
            )
        return {_name(criterion): scores[criterion.name] for criterion in self.criteria}


def _name(criterion: Criterion) -> str:
    """Return what the base model's scores are called, beside those of every parent where there are such."""
    return f"base_{criterion.name}" if criterion.of_parent else criterion.name
