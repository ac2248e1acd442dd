"""How much training a candidate gets that goes on from another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluators.cost.planned import PlannedCosts


@dataclass(frozen=True, eq=False)
class Allowance:
    """Gradient steps by rung, by what there is to inherit, and by size.

    Attributes:
        steps: of every rung, not rounded.
        first_steps: of a candidate that has nothing to inherit; None: those of its rung.
        stretch: smaller models take more steps: the power of the base model's MACs over their own.
        planned: costs of genomes; None: they are not known, and nothing is stretched.
        base: genome of the base model ``(length,)``; None: there is none.
    """

    steps: tuple[float, ...]
    first_steps: int | None
    stretch: float
    planned: PlannedCosts | None
    base: np.ndarray | None

    def __call__(self, genome: np.ndarray, rung: int, inherits: bool, orphan: bool) -> int:
        """Return the gradient steps of a candidate.

        Args:
            genome: of the candidate, ``(length,)``.
            rung: on which it stands.
            inherits: whether it goes on from another.
            orphan: whether it has no parents of its own.
        """
        steps = self.steps[min(rung, len(self.steps) - 1)]
        if self.first_steps is not None and not inherits:
            steps = self.first_steps
        elif self.first_steps is not None and orphan and self._is_base(genome):
            return 0  # the base model itself, once more
        if not self.stretch or self.planned is None or self.base is None:
            return round(steps)
        macs = self.planned(np.stack([genome, self.base]))["macs"]
        return round(steps * float(macs[1] / max(macs[0], 1.0)) ** self.stretch)

    def _is_base(self, genome: np.ndarray) -> bool:
        return self.base is not None and np.array_equal(genome, self.base)
