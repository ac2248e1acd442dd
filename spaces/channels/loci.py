"""Loci: which channel positions stand or fall together (union-find), and why some may not fall at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reason:
    """Why channels are frozen, and the line of the model's source where that was found."""

    text: str
    where: str = ""


class Loci:
    """A growing set of atoms (one a channel position of a producer), joined into loci.

    Every function takes integer arrays of atoms of any shape; arrays that meet are broadcast against each other.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._frozen: dict[int, Reason] = {}

    def new(self, n: int) -> np.ndarray:
        """Return `n` fresh atoms, int64 of shape ``(n,)``; a single one is frozen at once: a layer keeps at least one channel."""
        start = len(self._parent)
        self._parent.extend(range(start, start + n))
        atoms = np.arange(start, start + n)
        if n == 1:
            self.freeze(atoms, Reason("a single channel, which always stays"))
        return atoms

    def frozen(self, reason: Reason) -> int:
        """Return one fresh atom that is frozen for `reason`: the label of everything that is no channel."""
        atom = int(self.new(1)[0])
        self._frozen[atom] = reason
        return atom

    def find(self, atoms: np.ndarray) -> np.ndarray:
        """Return the representative of each atom, same shape."""
        flat = np.array([self._find(int(a)) for a in np.ravel(atoms)], dtype=np.int64)
        return flat.reshape(np.shape(atoms))

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join the loci of `first` with those of `second`, elementwise; frozen with anything is frozen."""
        a, b = np.broadcast_arrays(first, second)
        for pair in {*zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)}:
            x, y = sorted(map(self._find, pair))
            if x != y:
                self._parent[y] = x  # the older atom represents: names and order follow the order of execution
                reason = self._frozen.pop(y, None)
                if reason is not None:
                    self._frozen.setdefault(x, reason)

    def freeze(self, atoms: np.ndarray, reason: Reason) -> None:
        """Keep these loci always; the first reason stays."""
        for atom in np.unique(atoms).tolist():
            self._frozen.setdefault(self._find(atom), reason)

    def reason(self, atom: int) -> Reason | None:
        """Return why an atom is frozen, or None."""
        return self._frozen.get(self._find(int(atom)))

    def _find(self, atom: int) -> int:
        parent = self._parent
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom
