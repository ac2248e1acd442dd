"""What pruning mutations share: bits go off, within limits, and never all of a segment."""

from __future__ import annotations

import copy
from abc import abstractmethod

import numpy as np

from operators.base import Guide
from operators.mutation.base import Mutation
from operators.mutation.guided import entry, keep_bits
from spaces.base import Space
from spaces.errors import InputError, require


class Pruning(Mutation):
    """Switches keep bits off and none on; a pruning mutation writes ``_to_remove``.

    ``guide["own"]``, bool ``(length,)``, limits which bits may change (those of an encoder, say), and so does
    the space's ``active`` (:class:`spaces.MixedPairs`). No segment falls below what the space keeps at least:
    there loci of the highest worth stay, though they were to go. Where a space counts in multiples, as many
    more go, or stay, as the nearest multiple asks for.

    Args:
        amount: how much one event takes, 0 .. 1; each mutation says of what.
        probability: share of the genomes that are changed at all.
    """

    amount: float

    def __init__(self, amount: float = 1.0, probability: float = 1.0) -> None:
        super().__init__(probability)
        require(type(self).__name__, (0 <= amount <= 1, f"amount {amount}; expected a share of 0 to 1"))
        self.amount = amount
        self.kept_by_floor = 0

    def __call__(
        self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> np.ndarray:
        self.kept_by_floor = 0
        return super().__call__(space, genomes, guide, rng)

    def quiet(self) -> Pruning:
        """Return a copy that leaves as little to chance as it can."""
        return copy.copy(self)

    def _apply(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        own = np.broadcast_to(guide.get("own", True), genomes.shape).astype(bool) & keep_bits(space, self)
        own &= space.active(genomes)
        to_remove, worth = self._to_remove(space, genomes, own, guide, rng)
        may = own & (genomes == 1)
        # repair says how many loci of a segment are accepted, and their worth decides which
        pruned = np.where(to_remove & may, 0, genomes).astype(np.uint8)
        repaired = space.repair(pruned)
        for part in space.slices.values():
            for row in np.flatnonzero((repaired[:, part] != pruned[:, part]).any(axis=1)):
                self._settle(
                    genomes[row, part],
                    pruned[row, part],
                    int(repaired[row, part].sum()),
                    may[row, part],
                    worth[row, part],
                )
        return pruned

    @abstractmethod
    def _to_remove(
        self, space: Space, genomes: np.ndarray, own: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which loci ought to go, bool, and what each is worth, float (the highest stay first), both
        ``(n, length)``.

        Args:
            own: the keep bits that may change, bool ``(n, length)``; what is said of others, or of bits that
                are off, counts for nothing.
        """

    def _settle(
        self, before: np.ndarray, pruned: np.ndarray, target: int, may: np.ndarray, worth: np.ndarray
    ) -> None:
        """Bring one segment's kept loci to the number that the space accepts, in place: by loci that were to
        go, or by others that may.
        """
        kept = int(pruned.sum())
        if kept < target:  # too few are left: the best of those that went come back
            fallen = np.flatnonzero((before == 1) & (pruned == 0))
            back = fallen[np.argsort(-worth[fallen], kind="stable")][: target - kept]
            pruned[back] = 1
            self.kept_by_floor += len(back)
            return
        left = np.flatnonzero(may & (pruned == 1))
        if len(left) < kept - target:  # too few may go to reach the lower number: the segment stays as it was
            pruned[:] = before
            return
        pruned[left[np.argsort(worth[left], kind="stable")][: kept - target]] = 0


def outputs_of(space: Space, n: int, guide: Guide, operator: object) -> np.ndarray:
    """Return the recorded outputs ``(n, examples, units)``.

    Raises:
        InputError: there are none, or they are not those of the space's units.
    """
    outputs = np.asarray(entry(guide, "outputs", operator))
    table = outputs[None] if outputs.ndim == 2 else outputs
    units = len(space.unit_layers)
    if table.ndim != 3 or len(table) not in (1, n) or table.shape[2] != units:
        raise InputError(
            f"{type(operator).__name__}: outputs {outputs.shape}; expected (examples, {units}) or ({n}, "
            f"examples, {units})"
        )
    return np.broadcast_to(table, (n, *table.shape[1:]))


def living(units: np.ndarray, genome: np.ndarray, count: int) -> np.ndarray:
    """Return which of `count` units have a kept locus, bool."""
    return np.bincount(units[(units >= 0) & (genome == 1)], minlength=count) > 0


def by_locus(units: np.ndarray, values: np.ndarray, otherwise: float) -> np.ndarray:
    """Return what is known of each locus's unit, ``(length,)``."""
    return np.append(values, otherwise)[units]
