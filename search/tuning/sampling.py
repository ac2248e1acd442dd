"""An Optuna study in memory, by which strategies draw candidates and have them judged; what is told decides,
never what is timed.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from operators.initialisation import Initialisation
from search.problem import Objective, Problem
from spaces.errors import InputError
from spaces.trials import TrialSpace

SamplerName = Literal["tpe", "random", "qmc", "nsgaii"]
STARTING_POINT = "starting point"
"""Operator of a candidate that the user gave."""
REDRAWS = 8
"""How often a duplicate is drawn again by the sampler."""
PLAIN = 64
"""Plain draws without anything new after which the space counts as exhausted."""


class Window(InMemoryStorage):
    """A study in memory of which, inside :meth:`only`, no more than some trials are seen."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: Container[int] | None = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = super().get_all_trials(study_id, deepcopy, states)
        return found if self._seen is None else [trial for trial in found if trial.number in self._seen]

    @contextmanager
    def only(self, numbers: Container[int] | None) -> Iterator[None]:
        """Show only the trials of these numbers; None shows all."""
        self._seen = numbers
        try:
            yield
        finally:
            self._seen = None


class Drawn(NamedTuple):
    """A trial, its genome ``(length,)``, and what it comes from where that is not the sampler."""

    trial: Trial
    genome: np.ndarray
    origin: str = ""


class Sampling:
    """Draws the genomes of a :class:`TrialSpace` by a sampler of Optuna; every trial minimises, so what is
    maximised goes in negated.

    Args:
        problem: with a TrialSpace.
        sampler: by name, or a sampler of Optuna; a copy of it draws, with all its generators seeded anew.
        pruner: of the study, or None.
        seed: of all that is random.
        startup: random trials before TPE models anything.

    Raises:
        InputError: the space is no TrialSpace; sampler or pruner cannot serve the number of objectives.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: SamplerName | BaseSampler,
        pruner: BasePruner | None,
        seed: int,
        startup: int,
    ) -> None:
        if not isinstance(problem.space, TrialSpace):
            raise InputError(
                f"strategy: {type(problem.space).__name__} has no parameters for Optuna; expected a "
                f"spaces.TrialSpace"
            )
        self.problem, self.space = problem, problem.space
        self._rng = np.random.default_rng(np.random.SeedSequence((seed, 2**32 + 1)))
        self.storage = Window()
        with quiet():
            made = make_sampler(sampler, seed, startup)
            _check_objectives(made, sampler, problem.objectives)
            self.study = optuna.create_study(
                storage=self.storage,
                sampler=made,
                pruner=copy.deepcopy(pruner) or NopPruner(),
                study_name="search",  # Hyperband derives brackets from it
                directions=["minimize"] * len(problem.objectives),
            )
        # its brackets begin now, or they would depend on which trial reports first
        if isinstance(pruner, HyperbandPruner):
            self.study.pruner.prune(self.study, create_trial(state=TrialState.RUNNING))
        self._known: set[bytes] = set()
        self._first: deque[tuple[np.ndarray, str]] = deque()

    def begin_with(self, points: Sequence[Mapping[str, Any]], initialisation: Initialisation | None) -> None:
        """Draw these points first, then what an initialisation has at hand.

        Args:
            points: parameters by name; those that are missing are drawn at random.
            initialisation: such as :class:`~search.FromRun`; nothing is taken of one that only draws.

        Raises:
            InputError: a point names a parameter or holds a value that the space does not have.
        """
        for place, point in enumerate(points):
            try:
                genome = self.space.completed(point, self._rng)
            except InputError as error:
                message = str(error).removeprefix("space: ")
                raise InputError(f"strategy: starting_points.{place}: {message}") from None
            self._first.append((genome, STARTING_POINT))
        while initialisation is not None:
            at_hand = initialisation.at_hand(self.space, self._rng)
            genomes: Iterable[np.ndarray] = (
                initialisation(self.space, at_hand, self.problem.guide, self._rng) if at_hand else ()
            )
            self._first.extend((genome, type(initialisation).__name__) for genome in genomes)
            initialisation = getattr(initialisation, "then", None)

    def draw(self) -> Drawn | None:
        """Return a new trial; None where the space seems to hold nothing new."""
        with quiet():
            return self._draw()

    def _draw(self) -> Drawn | None:
        while self._first:
            genome, origin = self._first.popleft()
            if genome.tobytes() not in self._known:
                self._known.add(genome.tobytes())
                self.study.enqueue_trial(self.space.values(genome))
                trial = self.study.ask()
                self.space.draw(trial)
                return Drawn(trial, genome, origin)
        # a genome that was drawn before is drawn again; at last the sampler is given plain random ones to ask
        for number in range(REDRAWS + PLAIN):
            if number >= REDRAWS:
                self.study.enqueue_trial(self.space.values(self.space.sample(1, self._rng)[0]))
            trial = self.study.ask()
            genome = self.space.encode(self.space.draw(trial))
            if genome.tobytes() not in self._known:
                self._known.add(genome.tobytes())
                return Drawn(trial, genome)
            self.study.tell(trial, state=TrialState.FAIL)  # to samplers it never was
        return None

    def complete(self, trial: Trial, metrics: dict[str, float]) -> None:
        """Tell the values of a trial that came to its end."""
        values = [(-1 if o.maximise else 1) * metrics[o.metric] for o in self.problem.objectives]
        if all(map(math.isfinite, values)):
            self.study.tell(trial, values)
        else:
            self.diverged(trial)

    def pruned(self, trial: Trial) -> None:
        """Tell that a trial was stopped at its last report."""
        self.study.tell(trial, state=TrialState.PRUNED)

    def failed(self, trial: Trial) -> None:
        """Tell that nothing came of a trial."""
        self.study.tell(trial, state=TrialState.FAIL)

    def diverged(self, trial: Trial) -> None:
        """Tell that a trial diverged: the worst that can be, from the start; or samplers would take a late
        end for a good sign. [O]
        """
        parameters, distributions = trial.params, trial.distributions
        self.failed(trial)
        worst = {0: math.inf} if len(self.problem.objectives) == 1 else {}
        self.study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=parameters,
                distributions=distributions,
                intermediate_values=worst,
            )
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna keep to itself what it makes and what is experimental in it."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def make_sampler(sampler: SamplerName | BaseSampler, seed: int, startup: int) -> BaseSampler:
    """Return a sampler whose every generator is seeded."""
    seed = int(np.random.SeedSequence((seed, 2**32)).generate_state(1)[0])
    if sampler == "tpe":
        return TPESampler(n_startup_trials=startup, seed=seed)
    if sampler == "random":
        return RandomSampler(seed=seed)
    if sampler == "qmc":
        return QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)
    if sampler == "nsgaii":
        return NSGAIISampler(seed=seed)
    if not isinstance(sampler, BaseSampler):
        raise InputError(
            f"strategy: sampler {sampler!r}; expected tpe, random, qmc, nsgaii or class_path of a sampler "
            f"of Optuna"
        )
    made = copy.deepcopy(sampler)
    _seed_all(made, seed, set())
    return made


def _seed_all(holder: Any, seed: int, seen: set[int]) -> None:
    """Seed the generators that a sampler holds, those of the samplers inside it too."""
    seen.add(id(holder))
    for name, value in vars(holder).items():
        if isinstance(value, optuna.samplers._lazy_random_state.LazyRandomState):
            value.rng.seed(seed)
        elif name == "_seed" and isinstance(value, int):
            setattr(holder, name, seed)
        elif (
            type(value).__module__.startswith("optuna.samplers")
            and hasattr(value, "__dict__")
            and id(value) not in seen
        ):
            _seed_all(value, seed, seen)


def _check_objectives(
    made: BaseSampler, given: SamplerName | BaseSampler, objectives: Sequence[Objective]
) -> None:
    """Let the sampler draw once from a study of so many objectives that has results: those that cannot say so
    only then.
    """
    if len(objectives) == 1:
        return
    study = optuna.create_study(sampler=copy.deepcopy(made), directions=["minimize"] * len(objectives))
    one: dict[str, BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in "ab"
    }
    try:
        for place in range(3):
            at = {"a": 0.25 * place, "b": 0.5}
            study.add_trial(
                create_trial(params=at, distributions=one, values=[float(place)] * len(objectives))
            )
        study.ask(one)
    except (ValueError, NotImplementedError, RuntimeError) as error:
        name = given if isinstance(given, str) else type(given).__name__
        reason = " ".join(str(error).split())
        raise InputError(
            f"strategy: sampler {name} cannot serve {len(objectives)} objectives ({reason}); expected one, "
            f"or tpe, nsgaii or random"
        ) from None
