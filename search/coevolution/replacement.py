"""Replacement: whether a new pair takes the place of the cell's old one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping


class Replacement(ABC):
    """Decides between the pair that a cell holds and the one that its step made."""

    @abstractmethod
    def replaces(self, old: Mapping[str, float], new: Mapping[str, float]) -> bool:
        """Whether the new pair takes the place, by the metrics of both: ``loss`` on the search split,
        ``alive``, ...
        """


class Always(Replacement):
    """Without comparison. [P]"""

    def replaces(self, old: Mapping[str, float], new: Mapping[str, float]) -> bool:
        return True


class IfBetter(Replacement):
    """Where the loss is lower (Lipizzaner [P]); with a tolerance, not higher than by this share of the old
    one.

    Args:
        tolerance: 0 asks for a lower loss.
    """

    def __init__(self, tolerance: float = 0.0) -> None:
        self.tolerance = tolerance

    def replaces(self, old: Mapping[str, float], new: Mapping[str, float]) -> bool:
        return (
            new["loss"] < old["loss"]
            if self.tolerance <= 0
            else new["loss"] <= old["loss"] * (1 + self.tolerance)
        )


class IfNotDominated(Replacement):
    """Unless the old pair is at least as good in loss and in parameters alive, and better in one
    of them. [O]
    """

    def replaces(self, old: Mapping[str, float], new: Mapping[str, float]) -> bool:
        pairs = [(old[name], new[name]) for name in ("loss", "alive")]
        return any(b < a for a, b in pairs) or all(a == b for a, b in pairs)
