"""How good a candidate is: reports, evaluations, and the evaluator that makes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from evaluators.data.base import Data
from spaces.base import Space

if TYPE_CHECKING:
    from evaluators.racing import Rivals

RESUME = "resume"
"""Operator of a candidate that goes on from the checkpoint of its last parent."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A genome with an id, its parents, the operator it came from, and a seed.

    Ids count up from 0 in the order in which candidates were asked. The seed follows from the run's seed and
    the id.

    Attributes:
        rivals: members of the front that it is held against while it is evaluated, where candidates race;
            the loop gives them to what it sends to a worker.
    """

    id: int
    genome: np.ndarray
    parents: tuple[int, ...] = ()
    operator: str = "sample"
    seed: int = 0
    rivals: Rivals | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """Metrics (and arrays, such as activations) of one candidate at one step (an epoch, a rung).

    Attributes:
        stop: one line, where the evaluator itself stops the candidate here: the report is its last one then,
            and the candidate does not count as complete.
    """

    metrics: dict[str, float]
    step: int = 0
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    stop: str = ""


class State(StrEnum):
    COMPLETE = "complete"
    FAILED = "failed"
    PRUNED = "pruned"


class Cause(StrEnum):
    """Why an evaluation is not complete."""

    DIVERGED = "diverged"
    """It was stopped: a report was not finite."""
    PAUSED = "paused"
    """It may go on later, as a new candidate."""
    STOPPED = "stopped"
    """It was stopped: the strategy saw no use in it."""
    BEATEN = "beaten"
    """It was stopped: a member of the front beat it on some of the samples."""
    ERROR = "error"
    """Something was raised."""
    METRIC = "metric"
    """A metric was missing or not finite at the end."""
    TIME_LIMIT = "time limit"
    LOST_WORKER = "lost worker"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of a candidate: the screened metrics joined with those of its last report, or the reason of
    its failure.

    Attributes:
        arrays: of the last report.
        reason: one line, only where the state is not COMPLETE.
        seconds: wall time of the evaluation where it ran.
        worker: the process or node that evaluated it, for people.
        attempts: how often it was started.
        cause: the reason as one of a few; None where the state is COMPLETE, or where it is not known.
    """

    candidate: Candidate
    state: State
    metrics: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0
    worker: str = ""
    attempts: int = 1
    cause: Cause | None = None


class Evaluator(ABC):
    """Gives candidates their metrics: the cheap ones for whole populations in the driver, the others one
    model at a time in a worker.

    Attributes:
        screened: names of the metrics that :meth:`screen` gives.
        metrics: names of the metrics that the last report of :meth:`evaluate` gives.
        structural: which of these metrics depend on what was built and not on its weights: whether a limit on
            them can be kept is tried on the smallest candidate before the search.
        state: the folder of the run's heavy state, where an evaluator may keep checkpoints; None: nothing is
            kept. Workers on other machines need it on a file system that all of them share.
        inherits: whether candidates begin with weights that earlier ones left in ``state``, and end with
            their own: there is such a folder then in a search in memory, too, and fine-tuning goes on from
                these weights.
        private: why a result is of no use to another run, as
            ``latency is that of the machine where it was measured``; empty where the same model, data and
            settings give the same, up to the seed: a run that begins with another one's candidates takes
                those along.
        epochs: that an evaluation trains for at most, with a report after each; None: it does not train by
            epochs.
        goes_on: whether an evaluation that ended can go on to more `epochs` from what it left in ``state``,
            be it that of another run.
        rungs: how many stages of training a candidate may go through; 1: it is evaluated once.
        measures: whether it asks the data for loss and metrics: they are tried on the first samples then,
            before anything starts.
        trains: whether it trains models by gradients of the loss: that is tried likewise.
        raced: names of metrics, means over samples, by one of which it stops candidates that are beaten by
            members of the front; empty: it scores all candidates on all samples.
    """

    screened: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    structural: tuple[str, ...] = ()
    state: Path | None = None
    inherits: bool = False
    private: str = ""
    epochs: int | None = None
    goes_on: bool = False
    rungs: int = 1
    measures: bool = False
    trains: bool = False
    raced: tuple[str, ...] = ()
    space: Space
    data: Data | None = None

    @property
    def parts(self) -> tuple[Evaluator, ...]:
        """The evaluators that this one consists of: itself, unless it joins others."""
        return (self,)

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Receive the space and the data of the run; called once, in the driver, before anything else."""
        self.space, self.data = space, data

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        """Return metrics that need no data, each of shape ``(n,)``; vectorised, called in the driver."""
        return {}

    def retain(self, ids: Collection[int]) -> None:
        """Delete what candidates left in ``state`` to their children, but for these; called in the driver now
        and then.
        """
        return

    def damaged(self) -> dict[int, Path]:
        """Return the files in ``state`` that do not hold what a candidate left, by the candidate; -1 is the
        base model. Called in the driver before a run goes on.
        """
        return {}

    def width_steps(self) -> Mapping[str, int]:
        """Return what the numbers of kept channels should be multiples of to be fast, by the names of groups;
        nothing where that is not known. Called in the driver, after :meth:`bind`.
        """
        return {}

    def write_calibration(self, file: Path) -> bool:
        """Write what was measured on this machine before anything is evaluated; False: that is nothing."""
        return False

    def measured(self, model: nn.Module) -> dict[str, float]:
        """Return those metrics of a finished model that are a machine's (latency), measured on this one, in
        the driver, as the search means them.
        """
        return {}

    @abstractmethod
    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield reports; the last one is final. Random numbers come from torch's generator, which is seeded
        for the candidate.
        """


class Evaluators(Evaluator):
    """Several evaluators in a row as one: the final report carries the metrics and arrays of all of them.

    Every report of a part is passed on as it comes, with what the earlier parts found. Where a part stops a
    candidate those after it do not begin.
    """

    def __init__(self, parts: Sequence[Evaluator]) -> None:
        self._parts = tuple(parts)

    @property
    def parts(self) -> tuple[Evaluator, ...]:
        return self._parts

    @property
    def screened(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for part in self.parts for name in part.screened)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for part in self.parts for name in part.metrics)

    @property
    def structural(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for part in self.parts for name in part.structural)

    @property
    def inherits(self) -> bool:  # type: ignore[override]
        return any(part.inherits for part in self.parts)

    @property
    def private(self) -> str:  # type: ignore[override]
        return next((part.private for part in self.parts if part.private), "")

    @property
    def epochs(self) -> int | None:  # type: ignore[override]
        return next((part.epochs for part in self.parts if part.epochs is not None), None)

    @property
    def rungs(self) -> int:  # type: ignore[override]
        return max((part.rungs for part in self.parts), default=1)

    @property
    def measures(self) -> bool:  # type: ignore[override]
        return any(part.measures for part in self.parts)

    @property
    def trains(self) -> bool:  # type: ignore[override]
        return any(part.trains for part in self.parts)

    @property
    def raced(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for part in self.parts for name in part.raced)

    @property
    def state(self) -> Path | None:
        return self.parts[0].state if self.parts else None

    @state.setter
    def state(self, folder: Path | None) -> None:
        for part in self.parts:
            part.state = folder

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        for part in self.parts:
            part.bind(space, data)

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values for part in self.parts for name, values in part.screen(genomes).items()}

    def retain(self, ids: Collection[int]) -> None:
        for part in self.parts:
            part.retain(ids)

    def damaged(self) -> dict[int, Path]:
        return {id: path for part in self.parts for id, path in part.damaged().items()}

    def measured(self, model: nn.Module) -> dict[str, float]:
        return {name: value for part in self.parts for name, value in part.measured(model).items()}

    def width_steps(self) -> Mapping[str, int]:
        return {name: step for part in self.parts for name, step in part.width_steps().items()}

    def write_calibration(self, file: Path) -> bool:
        return any(part.write_calibration(file) for part in self.parts)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        metrics: dict[str, float] = {}
        arrays: dict[str, np.ndarray] = {}
        step = 0
        for part in self.parts:
            for report in part.evaluate(model, candidate):
                metrics, arrays, step = (
                    metrics | report.metrics,
                    arrays | report.arrays,
                    max(step, report.step),
                )
                yield Report(dict(metrics), step, dict(arrays), report.stop)
                if report.stop:
                    return
