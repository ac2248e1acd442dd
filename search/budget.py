"""When a search stops."""

from __future__ import annotations

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
    """

    evaluations: int | None = None
    seconds: float | None = None
    stall: int | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("evaluations", self.evaluations),
            ("seconds", self.seconds),
            ("stall", self.stall),
            ("epochs", self.epochs),
        ):
            if value is not None and not value > 0:
                raise InputError(f"budget.{name} {value}: expected more than 0, or null for no limit")
