"""An evaluation over several seeds: what is reported is the mean."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from torch import nn

from evaluators.base import Candidate, Evaluator, Evaluators, Report
from evaluators.data.base import Data
from evaluators.randomness import Randomness
from spaces.base import Space
from spaces.calling import device_of
from spaces.errors import InputError, require

DEVIATION = "_deviation"
"""How the names of the metrics end that say how far the seeds scatter."""


class Repeated(Evaluator):
    """Evaluates every candidate from several seeds, side by side, and reports the mean of each metric. [O]

    Beside each metric ``loss`` there is ``loss_deviation``, the standard deviation over the seeds (of a
    sample: over n - 1). All seeds advance by a report before the mean is reported, so a pruner judges means,
    and a trial is stopped on all seeds at once. A seed that ends earlier counts with its last report.

    The first seed is the candidate's own: it evaluates the model that was built, which is the one that is
    exported, and gives the arrays. For each other one the model is built anew, so what is drawn when it is
    built differs, too. All models are in memory at once. Checkpoints of the other seeds lie in
    ``state/seeds``.

    Args:
        evaluator: that is repeated, such as TrialTraining.
        seeds: how many; at least 2.

    Raises:
        InputError: `seeds` is below 2; an evaluator that leaves weights to the children of a candidate.
    """

    def __init__(self, evaluator: Evaluator, seeds: int = 3) -> None:
        require(
            "evaluator Repeated",
            (seeds >= 2, f"seeds {seeds}; expected at least 2"),
            (
                not evaluator.inherits,
                f"{type(evaluator).__name__} hands weights down from parents to children; expected an "
                "evaluator that begins anew",
            ),
        )
        self.evaluator, self.seeds = evaluator, seeds

    @property
    def screened(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.evaluator.screened

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        own = self.evaluator.metrics
        return (*own, *(f"{name}{DEVIATION}" for name in own))

    @property
    def structural(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.evaluator.structural

    @property
    def private(self) -> str:  # type: ignore[override]
        return self.evaluator.private

    @property
    def epochs(self) -> int | None:  # type: ignore[override]
        return self.evaluator.epochs

    @property
    def rungs(self) -> int:  # type: ignore[override]
        return self.evaluator.rungs

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        self.evaluator.bind(space, data)
        if self.evaluator.raced:
            raise InputError(
                "evaluator Repeated: candidates race in what is repeated; expected race null there"
            )
        if clashing := [name for name in self.evaluator.metrics if name.endswith(DEVIATION)]:
            raise InputError(
                f"evaluator Repeated: the evaluator reports {clashing[0]!r}; expected no metric that ends "
                f"with {DEVIATION}"
            )

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        return self.evaluator.screen(genomes)

    def retain(self, ids: Collection[int]) -> None:
        self.evaluator.retain(ids)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        courses = [self._evaluator(0).evaluate(model, candidate)]
        streams = [Randomness(_seed(candidate.seed, place)) for place in range(1, self.seeds)]
        for place, stream in enumerate(streams, start=1):
            with stream:
                other = self.space.build(candidate.genome).to(device_of(model))
                courses.append(self._course(place, other, candidate))
        last: list[Report | None] = [None] * self.seeds
        running = set(range(self.seeds))
        while running:
            for place in sorted(running):
                report = _next(courses[place], None if place == 0 else streams[place - 1])
                if report is None:
                    running.remove(place)
                else:
                    last[place] = report
            if running:
                yield self._joined([report for report in last if report is not None])
        for stream in streams:
            stream.close()

    def _course(self, place: int, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        seeded = replace(candidate, seed=_seed(candidate.seed, place))
        return self._evaluator(place).evaluate(model, seeded)

    def _evaluator(self, place: int) -> Evaluator:
        """Return the evaluator with a folder of state that no other seed has."""
        if self.state is None or place == 0:
            return _with_state(self.evaluator, self.state)
        return _with_state(self.evaluator, Path(self.state) / "seeds" / str(place))

    def _joined(self, reports: list[Report]) -> Report:
        metrics: dict[str, float] = {}
        names = [name for name in reports[0].metrics if all(name in report.metrics for report in reports)]
        for name in names:
            values = [report.metrics[name] for report in reports]
            metrics[name] = fmean(values)
            metrics[f"{name}{DEVIATION}"] = _deviation(values)
        step = max(report.step for report in reports)
        if self.epochs is not None:  # the report of a seed whose earlier weights were put back is no epoch
            step = min(step, self.epochs)
        return Report(metrics, step, reports[0].arrays)


def _next(course: Iterator[Report], stream: Randomness | None) -> Report | None:
    if stream is None:
        return next(course, None)
    with stream:
        return next(course, None)


def _deviation(values: list[float]) -> float:
    return stdev(values) if all(np.isfinite(values)) and len(values) > 1 else fmean(values) * 0.0


def _seed(seed: int, place: int) -> int:
    """Return the seed of a repetition: 63 bits from ``SeedSequence((candidate's seed, place))``."""
    return int(np.random.SeedSequence((seed, place)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _with_state(evaluator: Evaluator, state: Path | None) -> Evaluator:
    """Return the evaluator with another folder of state, everything else shared."""
    if len(evaluator.parts) > 1:
        joined = Evaluators([_with_state(part, state) for part in evaluator.parts])
        joined.space, joined.data = evaluator.space, evaluator.data
        return joined
    twin = copy.copy(evaluator)
    twin.state = state
    return twin
