"""Loci: which channel positions stand or fall together (union-find), which are products of others, and why
some may not fall at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from spaces.channels.divisions import shared_blocks


@dataclass(frozen=True)
class Reason:
    """Why channels are frozen, and the line of the model's source where that was found."""

    text: str
    where: str = ""


UNFITTING = Reason("two divisions of one axis meet that do not fit each other")


class Loci:
    """A growing set of atoms (one a channel position of a producer), joined into loci.

    An atom may be a product of others: it is kept where all of them are. The features of an attention are
    products of heads and places within a head, those behind a flatten of two pruned axes products of both.
    [O]

    Every function takes integer arrays of atoms of any shape; arrays that meet are broadcast against each
    other.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._birth: list[int] = []
        self._frozen: dict[int, Reason] = {}
        self._factors: dict[int, tuple[int, ...]] = {}
        self._products: dict[tuple[int, ...], int] = {}
        self._plain: dict[Reason, int] = {}
        self._tags: dict[int, str] = {}
        self._table: np.ndarray | None = None

    def copied(self) -> Loci:
        """Return a copy, of which what is joined or frozen from here on is not seen here."""
        other = Loci()
        vars(other).update((name, copy(value)) for name, value in vars(self).items())
        return other

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self._parent)

    def new(self, n: int) -> np.ndarray:
        """Return `n` fresh atoms, int64 of shape ``(n,)``; a single one is frozen at once: a layer keeps at
        least one channel.
        """
        start = len(self._parent)
        self._parent.extend(range(start, start + n))
        self._birth.extend([start] * n)
        atoms = np.arange(start, start + n)
        if n == 1:
            self.freeze(atoms, Reason("a single channel, which always stays"))
        return atoms

    def frozen(self, reason: Reason) -> int:
        """Return an atom that is frozen for `reason`: the label of everything that is no channel."""
        if reason not in self._plain:
            atom = int(self.new(1)[0])
            self._frozen[atom] = reason
            self._plain[reason] = atom
        return self._plain[reason]

    def find(self, atoms: np.ndarray) -> np.ndarray:
        """Return the representative of each atom, same shape."""
        distinct, places = np.unique(atoms, return_inverse=True)
        roots = np.array([self._find(int(a)) for a in distinct], dtype=np.int64)
        return roots[places].reshape(np.shape(atoms))

    def birth(self, atom: int) -> int:
        """Return the first of the atoms that were made together with this one's representative."""
        return self._birth[self._find(int(atom))]

    def tag(self, atoms: np.ndarray, text: str) -> None:
        """Name what the loci stand for (``heads``); the first name stays."""
        for atom in np.unique(atoms).tolist():
            for root in self.resolve(atom):
                self._tags.setdefault(root, text)

    def tag_of(self, atom: int) -> str:
        """Return what a locus stands for, empty for plain channels."""
        return self._tags.get(self._find(int(atom)), "")

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join the loci of `first` with those of `second`, elementwise; frozen with anything is frozen."""
        a, b = np.broadcast_arrays(first, second)
        pairs = dict.fromkeys(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
        if not self._unite_plain(pairs):
            for x, y in pairs:
                self._unite(x, y)

    def freeze(self, atoms: np.ndarray, reason: Reason) -> None:
        """Keep these loci always; the first reason stays."""
        self._freeze(np.unique(atoms).tolist(), reason)

    def _freeze(self, atoms: Iterable[int], reason: Reason) -> None:
        waiting = [*atoms]
        for atom in waiting:  # which become more on the way
            root = self._find(atom)
            if root not in self._frozen:
                self._frozen[root], self._table = reason, None
                waiting += self._factors.get(root, ())

    def reason(self, atom: int) -> Reason | None:
        """Return why an atom is frozen, or None."""
        root = self._find(int(atom))
        if root in self._frozen or root not in self._factors or self.resolve(root):
            return self._frozen.get(root)
        return next(iter(self.reasons(root)), UNFITTING)

    def reasons(self, atom: int) -> list[Reason]:
        """Return all reasons for which an atom, or what it is a product of, is frozen."""
        return [self._frozen[root] for root in self._made_of(atom, False) if root in self._frozen]

    def resolve(self, atom: int) -> tuple[int, ...]:
        """Return the representatives that must all be kept for this atom to be, none where it is frozen."""
        return tuple(
            root
            for root in self._made_of(atom, True)
            if root not in self._frozen and root not in self._factors
        )

    def _made_of(self, atom: int, vary: bool) -> list[int]:
        """Return the representatives of an atom and of its factors, of their factors, and so on, each once.

        Divisions that meet can make a product lead back to itself: that asks for nothing more.

        Args:
            vary: what is frozen is not looked into.
        """
        found: dict[int, None] = {}
        waiting = [int(atom)]
        while waiting:
            root = self._find(waiting.pop())
            if root not in found:
                found[root] = None
                if not (vary and root in self._frozen):
                    waiting += reversed(self._factors.get(root, ()))
        return [*found]

    def levels(self, atoms: np.ndarray) -> np.ndarray:
        """Return the same for many atoms, int64 ``(levels, size)``: in no order, each once, -1 last."""
        if self._table is None or self._table.shape[1] != len(self._parent):
            self._table = self._resolved()
        return self._table[:, atoms]

    def _resolved(self) -> np.ndarray:
        """Resolve all atoms at once: ``(levels, atoms)``."""
        roots = np.array(self._parent, dtype=np.int64)
        while not np.array_equal(up := roots[roots], roots):
            roots = up
        factors = {root: self.resolve(root) for root in self._factors if root not in self._frozen}
        table = np.full((max(map(len, factors.values()), default=1) or 1, len(roots)), -1, dtype=np.int64)
        table[0] = np.arange(len(roots))
        table[0, [*self._frozen, *factors]] = -1
        by_count: dict[int, list[int]] = {}
        for root, found in factors.items():
            by_count.setdefault(len(found), []).append(root)
        for count, some in by_count.items():
            table[:count, some] = np.array([factors[root] for root in some], dtype=np.int64).T
        return table[:, roots]

    def product(self, atoms: Sequence[int]) -> int:
        """Return an atom that is kept where all of `atoms` are; the same one for the same atoms."""
        roots = tuple(dict.fromkeys(self._find(int(a)) for a in atoms))
        if len(roots) == 1:
            return roots[0]
        if roots not in self._products:
            atom = len(self._parent)
            self._parent.append(atom)
            self._birth.append(atom)
            self._factors[atom] = roots
            self._products[roots] = atom
        return self._products[roots]

    def split(self, atoms: np.ndarray, sizes: Sequence[int], reason: Reason) -> list[np.ndarray]:
        """Divide an axis into several: return the atoms of each, ``(size,)``, or ``(1,)`` where nothing
        varies.

        What is kept must be a full grid of what is kept of each, so single channels become products.

        Args:
            atoms: ``(n,)``, or ``(1,)`` where the axis has no channels.
            sizes: of the new axes, with the product n.
            reason: for those of the new axes that have no channels.
        """
        if atoms.size == 1:
            return [atoms for _ in sizes]
        if [s for s in sizes if s > 1] == [atoms.size]:
            return [atoms if s > 1 else self.plain(reason) for s in sizes]
        alone = [self._find(atom) for atom in atoms.tolist()]
        if self._are_plain(alone) and len({*alone}) == len(alone):
            return self._grid(alone, sizes, reason)
        places: dict[int, list[int]] = {}
        for place, atom in enumerate(atoms.tolist()):
            for root in self.resolve(atom):
                places.setdefault(root, []).append(place)
        # A locus that fills whole rows of one new axis is a factor of those rows. Any other locus is taken
        # for a product of fresh atoms, one a position of every new axis.
        factors: list[list[list[int]]] = [[[] for _ in range(size)] for size in sizes]
        rest: list[tuple[int, np.ndarray]] = []
        for root, flat in places.items():
            where = np.stack(np.unravel_index(np.array(flat), sizes))
            axis = _axis_of(where, sizes)
            if axis is None:
                rest.append((root, where))
            else:
                for index in np.unique(where[axis]).tolist():
                    factors[axis][index].append(root)
        if rest and self._fitted(rest, atoms.size, sizes):
            return self.split(atoms, sizes, reason)
        if rest:
            self._cross(rest, sizes, reason, factors)
        return [self._axis(positions, reason) for positions in factors]

    def _fitted(self, loci: Sequence[tuple[int, np.ndarray]], size: int, sizes: Sequence[int]) -> bool:
        """Join what two divisions of an axis have to share; return whether there was anything."""
        places = {root: np.sort(np.ravel_multi_index(tuple(where), sizes)) for root, where in loci}
        shared = shared_blocks(places, size, sizes[1]) if len(sizes) == 2 else []
        for roots, is_only in shared:
            self.unite(np.array(roots[:1]), np.array(roots))
            if is_only:
                self.freeze(np.array(roots[:1]), UNFITTING)
        return bool(shared)

    def _grid(self, loci: Sequence[int], sizes: Sequence[int], reason: Reason) -> list[np.ndarray]:
        """Make each of as many loci as a grid has places the product of fresh atoms of the axes."""
        fresh = [self.new(size) if size > 1 else None for size in sizes]
        axes = [made.tolist() for made in fresh if made is not None]
        rows = [*itertools.product(*axes)]
        start = len(self._parent)
        atoms = range(start, start + len(rows))
        self._parent.extend(loci)
        self._birth.extend(atoms)
        self._products.update(zip(rows, atoms, strict=True))
        self._factors.update(zip(loci, rows, strict=True))
        self._table = None
        return [self.plain(reason) if made is None else made for made in fresh]

    def _cross(
        self,
        loci: Sequence[tuple[int, np.ndarray]],
        sizes: Sequence[int],
        reason: Reason,
        factors: list[list[list[int]]],
    ) -> None:
        """Make loci products of fresh atoms of all new axes, which become factors of their positions.

        Args:
            loci: each with its places in the grid, ``(axes, places)``.
        """
        fresh = [self.new(size) if size > 1 else None for size in sizes]
        empty = np.ones(math.prod(sizes), dtype=bool)
        for root, where in loci:
            for place in where.T.tolist():
                row = [int(made[i]) for made, i in zip(fresh, place, strict=True) if made is not None]
                self._unite(root, self.product(row))
            empty[np.ravel_multi_index(tuple(where), sizes)] = False
        # a place that none of these loci has always stays, and so do its row and its column
        always = np.stack(np.unravel_index(np.flatnonzero(empty), sizes))
        for axis, made in enumerate(fresh):
            if made is not None:
                self.freeze(made[np.unique(always[axis])], reason)
                for position, atom in zip(factors[axis], made.tolist(), strict=True):
                    position.append(atom)

    def _axis(self, positions: Sequence[Sequence[int]], reason: Reason) -> np.ndarray:
        """Return the atoms of an axis from the factors of its positions; one without factors is frozen."""
        if not any(positions):
            return self.plain(reason)
        atoms = [self.product(sorted(own)) if own else self.frozen(reason) for own in positions]
        return np.array(atoms, dtype=np.int64)

    def merge(self, parts: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
        """Flatten several axes into one: return its atoms ``(product of sizes,)``, or ``(1,)`` where none
        varies.
        """
        whole, size = parts[0], sizes[0]
        for part, n in zip(parts[1:], sizes[1:], strict=True):
            if n == 1:
                continue
            if size == 1:
                whole, size = part, n
                continue
            if part.size == 1 and whole.size > 1:
                whole = np.repeat(whole, n)
            elif whole.size == 1 and part.size > 1:
                whole = np.tile(part, size)
            elif part.size > 1:
                rows, columns = self.find(whole).tolist(), self.find(part).tolist()
                whole = np.array(
                    [self.product([row, column]) for row in rows for column in columns], dtype=np.int64
                )
            size *= n
        return whole

    def plain(self, reason: Reason) -> np.ndarray:
        """Return the label of an axis without channels, ``(1,)``."""
        return np.array([self.frozen(reason)], dtype=np.int64)

    def _find(self, atom: int) -> int:
        parent = self._parent
        # every second atom on the way up gets its grandparent for a parent, which keeps ways short
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    def _are_plain(self, roots: Sequence[int]) -> bool:
        """Whether none of them is frozen, or a product."""
        return self._frozen.keys().isdisjoint(roots) and self._factors.keys().isdisjoint(roots)

    def _unite_plain(self, pairs: Iterable[tuple[int, int]]) -> bool:
        """Join pairs that have nothing to do with each other, if that is what they are; whether they were."""
        roots = [(self._find(x), self._find(y)) for x, y in pairs]
        others = [(x, y) for x, y in roots if x != y]
        flat = [root for pair in others for root in pair]
        if len({*flat}) < len(flat) or not self._are_plain(flat):
            return False
        for x, y in others:
            self._join(min(x, y), max(x, y))
        return True

    def _unite(self, first: int, second: int) -> None:
        waiting = [(first, second)]
        while waiting:
            waiting += reversed(self._united(*waiting.pop()))

    def _united(self, first: int, second: int) -> list[tuple[int, int]]:
        """Join two loci; return the pairs that have to be joined for that."""
        x, y = sorted((self._find(first), self._find(second)))
        if x == y:
            return []
        held = self._frozen.get(x) or self._frozen.get(y)
        if held is not None:  # nothing needs to be joined: both always stay
            self._freeze((x, y), held)
            return []
        mine, others = self._factors.get(x), self._factors.get(y)
        if mine is None and others is None:
            self._join(x, y)
        elif mine is not None and others is not None:
            # joined before their factors are evened out: these may lead back to this very pair
            self._join(x, y)
            if len(mine) == len(others):
                return self._evened_out([self._find(a) for a in mine], [self._find(b) for b in others])
            return self._evened_out(self._resolve_all(mine), self._resolve_all(others))
        else:
            single, product = (x, y) if mine is None else (y, x)
            factors = self.resolve(product)
            if single in factors:  # kept where it is kept itself, and more: the rest must always stay
                self._hold([f for f in factors if f != single])
            else:
                self._factors[single] = factors
                self._join(x, y)
        return []

    def _join(self, older: int, younger: int) -> None:
        """Make the older atom represent both: names and order follow the order of execution."""
        self._parent[younger], self._table = older, None
        factors = self._factors.pop(younger, None)
        if factors is not None:
            self._factors.setdefault(older, factors)
        tag = self._tags.pop(younger, None)
        if tag is not None:
            self._tags.setdefault(older, tag)

    def _resolve_all(self, atoms: Sequence[int]) -> list[int]:
        return list(dict.fromkeys(r for a in atoms for r in self.resolve(a)))

    def _evened_out(self, first: list[int], second: list[int]) -> list[tuple[int, int]]:
        """Two products that must be the same: what they share goes, as many others are returned to be joined,
        and what is left always stays.
        """
        common = {*first} & {*second}
        a, b = [f for f in first if f not in common], [f for f in second if f not in common]
        if len(a) == len(b):
            return [*zip(a, b, strict=True)]
        self._hold([*a, *b])
        return []

    def _hold(self, atoms: list[int]) -> None:
        if atoms:
            self.freeze(np.array(atoms), UNFITTING)


def _axis_of(where: np.ndarray, sizes: Sequence[int]) -> int | None:
    """Return the axis of a grid of these sizes of which places ``(axes, places)`` fill some rows whole; the
    longest one where they fill the grid, None where they fill no rows.
    """
    cells, places = math.prod(sizes), where.shape[1]
    for axis, size in enumerate(sizes):
        rows = len(np.unique(where[axis]))
        if rows < size and places == rows * (cells // size):
            return axis
    return int(np.argmax(sizes)) if places == cells else None
