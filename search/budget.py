"""When a search stops."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from spaces.errors import InputError

COMPUTE = "training_macs"
"""The metric by which evaluators tell what a candidate's training took, in multiply-accumulates."""


@dataclass(frozen=True)
class Budget:
    """When to stop; whatever is reached first. None is no limit.

    Attributes:
        evaluations: number of candidates.
        seconds: wall time, that of earlier calls for the same run included. What runs then may finish, for a
            quarter of this time and ten seconds more.
        stall: number of evaluations in a row of which none enlarged the front's hypervolume (none joined the
            front).
        epochs: what training all candidates may take, in epochs of training the base model (3 of its forward
            passes a sample), counted by the metric ``training_macs``. What has been asked when it is spent is
            still finished.
        target: values of objectives, ``{error: 0.05}``: the search ends when one feasible candidate is at
            least as good in all of them (which is at most the value, or at least where an objective is
            maximised). What has been asked by then is still finished.
    """

    evaluations: int | None = None
    seconds: float | None = None
    stall: int | None = None
    epochs: float | None = None
    target: dict[str, float] | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("evaluations", self.evaluations),
            ("seconds", self.seconds),
            ("stall", self.stall),
            ("epochs", self.epochs),
        ):
            if value is not None and not value > 0:
                raise InputError(f"budget.{name} {value}: expected more than 0, or null for no limit")
        for metric, value in (self.target or {}).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"budget.target.{metric} {value!r}: expected a number")

    def check(self, objectives: Collection[str]) -> None:
        """See that what is limited is there.

        Args:
            objectives: metrics of the search's objectives.

        Raises:
            InputError: the target names something else.
        """
        for metric in self.target or {}:
            if metric not in objectives:
                raise InputError(
                    f"budget.target.{metric}: no objective of this search; expected {' or '.join(objectives)}"
                )

    def as_note(self) -> dict[str, float | Mapping[str, float] | None]:
        """Return it as a ledger keeps it: a target only where there is one."""
        limits = {name: getattr(self, name) for name in ("evaluations", "seconds", "stall", "epochs")}
        return limits | ({"target": dict(self.target)} if self.target else {})
