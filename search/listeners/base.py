"""What a listener hears of a run."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.base import Evaluation
from spaces.errors import InputError

if TYPE_CHECKING:
    from search.result import Result
    from search.tally import SearchLoop


@dataclass(frozen=True)
class RunFacts:
    """What a run is.

    Attributes:
        name: of its folder; ``search`` where it has none.
        directory: its folder, None where it is kept in memory.
        objectives: as they are written in a config.
        constraints: likewise.
        settings: all that makes the run this run, as text by dotted names: strategy, evaluators, seed, data.
        describe: what a person reads of a genome ``(length,)``: its parameters or choices, by name.
    """

    name: str
    directory: Path | None = None
    objectives: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    describe: Callable[[np.ndarray], Mapping[str, Any]] = lambda genome: {}


class Listener:
    """Told of a run by :class:`~search.Search`; a listener overrides what it wants to hear. [O]

    All calls come from one thread of the process that searches, which waits meanwhile. An exception in a
    listener does not stop the search: it is said once, and the listener hears no more.
    """

    def begin(self, run: RunFacts) -> None:
        """Hear of a run before it searches; not of one that is complete already."""

    def evaluated(self, evaluation: Evaluation, joined_front: bool) -> None:
        """Hear of a new result as it is told to the strategy, and whether it joined the front.

        Results that an earlier call of the run found are not told again.
        """

    def tick(self, loop: SearchLoop) -> None:
        """Look at the search, about twice a second and after every batch of events: its ``front``,
        ``states``, ``elapsed``, and ``interrupt()``, which ends it.
        """

    def end(self, result: Result | None) -> None:
        """Hear what the run found once models and report are written; None where it broke off."""


def library(name: str, listener: str, package: str = "") -> Any:
    """Import the library that a listener needs.

    Args:
        name: of the module.
        listener: for the refusal.
        package: that has it, where that is called otherwise.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = package or name
        raise InputError(
            f"listeners: {listener} needs the library {package}, which cannot be imported "
            f"({' '.join(str(error).split())}); expected it installed: pip install {package}"
        ) from None


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those metrics that are finite numbers: what charts can show."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
