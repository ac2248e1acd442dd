"""Grouping: loci are cut into the segments of the genome, and what the user wants of groups is
done to them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from spaces.base import Segment
from spaces.channels.loci import Reason
from spaces.channels.notes import Axis, Notes
from spaces.channels.wishes import matching
from spaces.errors import InputError

_NONE = np.empty(0, dtype=np.int64)


class Grouping(Notes):
    """Which loci form a group, and how it is called.

    Attributes:
        names: of the segments made last, without that of depth.
        count: of their loci.
    """

    def __init__(self, model: nn.Module, blocks: list[str]) -> None:
        super().__init__(model, blocks)
        self.names: list[str] = []
        self.count = 0
        # of every atom its locus, and of every locus the number of its segment; the last entry is for none
        self._locus = self._number = np.full(1, -1, dtype=np.int64)
        self._split: dict[str, int] = {}

    def _loci(self, label: np.ndarray) -> np.ndarray:
        """Return the loci of positions: ``(size,)``, or ``(levels, size)`` where some have several; -1:
        always kept.
        """
        # a locus that is none sorts behind all others
        loci = np.sort(self._locus[self.loci.levels(label)].astype(np.uint64), axis=0).astype(np.int64)
        levels = int((loci >= 0).sum(axis=0).max(initial=0))
        return loci[0] if levels <= 1 else loci[:levels]

    def _loci_of(self, name: str) -> np.ndarray:
        return np.flatnonzero(self._number[:-1] == self.names.index(name)) if name in self.names else _NONE

    def _has_any(self, label: np.ndarray, loci: np.ndarray) -> bool:
        return bool(np.isin(self._locus[self.loci.levels(label)], loci).any())

    def _names_of(self, loci: np.ndarray) -> list[str]:
        """Return the segments of loci, each once, in their order."""
        numbers = self._number[loci[loci >= 0]]
        found, first = np.unique(numbers, return_index=True)
        return [self.names[number] for number in found[np.argsort(first)]]

    def _segments(self) -> tuple[list[Segment], dict[str, np.ndarray]]:
        """Cut the loci into segments: those with the same places on the same axes form one. In order of
        execution. Return them, and the representative atoms of each.
        """
        members: dict[str, np.ndarray] = {}
        taken: dict[str, int] = defaultdict(int)
        for producer, roots in self._alike():
            if len(roots) < 2:
                self.loci.freeze(np.array(roots), Reason("a single channel, which always stays"))
                continue
            name = producer.rpartition(".")[0] or producer
            tag = self.loci.tag_of(roots[0])
            name = f"{name}.{tag}" if tag else name
            taken[name] += 1
            name = name if taken[name] == 1 else f"{name}#{taken[name]}"
            parts = self._split.get(name, 1)
            for number, part in enumerate(np.array_split(roots, parts), 1):
                whole = name if parts == 1 else f"{name}/{number}"
                members[whole] = part
        self.names = [*members]
        sizes = [len(part) for part in members.values()]
        self.count = sum(sizes)
        self._number = np.append(np.repeat(np.arange(len(sizes)), sizes), -1)
        self._locus = np.full(len(self.loci) + 1, -1, dtype=np.int64)
        self._locus[np.concatenate([*members.values(), _NONE])] = np.arange(self.count)
        return [Segment(name, len(part)) for name, part in members.items()], members

    def _alike(self) -> list[tuple[str, list[int]]]:
        """Return the loci that a layer puts out, those of one birth and with the same places together, each
        group with the parameter that makes it.
        """
        atoms = len(self.loci)
        kind, producer = np.zeros(atoms, dtype=np.int64), np.full(atoms, -1, dtype=np.int64)
        axes = [*self._axes.values()]
        for number, axis in enumerate(axes):
            found = self.loci.levels(axis.atoms)
            roots, times = np.unique(found[found >= 0], return_counts=True)
            # two of one kind stay of one where they are as often on this axis
            kind[roots] = _numbered(kind[roots], times) + (number + 1) * atoms
            if axis.role == "out":
                producer[roots[producer[roots] < 0]] = number
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        # atoms are numbered in the order of execution, and so are the groups
        for root in np.flatnonzero(producer >= 0).tolist():
            groups[self.loci.birth(root), int(kind[root])].append(root)
        return [(axes[producer[roots[0]]].tensor, roots) for roots in groups.values()]

    def _ragged(self) -> list[str]:
        """Return the groups of products that are no full grid: what is kept of them could not be told by
        counts.
        """
        ragged: dict[str, None] = {}
        # axes and operations: the costs of both are products of kept counts, which only grids have
        labels = [axis.atoms for axis in self._axes.values()] + [
            label for _, scaled in self._operations.values() for label in scaled
        ]
        for label in labels:
            loci = self._loci(label)
            if loci.ndim > 1:
                for columns in classes(self._number[loci]):
                    part = loci[:, columns]
                    # a full grid has every pair of its levels, and each of them equally often
                    cells, times = np.unique(part, axis=1, return_counts=True)
                    if (
                        cells.shape[1] != np.prod([len(np.unique(row)) for row in part])
                        or len(np.unique(times)) > 1
                    ):
                        ragged.update(dict.fromkeys(self._names_of(part.ravel())))
        return list(ragged)

    def _freeze_segments(self, members: Mapping[str, np.ndarray], reasons: Mapping[str, str]) -> None:
        lines: dict[str, str] = {}  # of the first number in the code that has to follow
        for literal in self.literals:
            for name in self._names_of(self._loci(literal.label).ravel()):
                lines.setdefault(name, literal.where)
        for name, text in reasons.items():
            self.loci.freeze(members.get(name, _NONE), Reason(text, lines.get(name, "")))

    def _grant(self, freeze: Sequence[str], tie: Sequence[Sequence[str]], split: Mapping[str, int]) -> None:
        """Do what the user wants of groups, which are named as they would be without it."""
        _, roots = self._segments()
        names = [*roots]
        for pattern in freeze:
            self._freeze_by_name(pattern, roots)
        for patterns in tie:
            tied = list(
                dict.fromkeys(name for pattern in patterns for name in matching("space.tie", pattern, names))
            )
            for name in tied[1:]:
                if len(roots[name]) != len(roots[tied[0]]):
                    sizes = ", ".join(f"{n} has {len(roots[n])}" for n in (tied[0], name))
                    raise InputError(
                        f"space.tie: groups of different sizes cannot keep the same places; {sizes}"
                    )
                self.loci.unite(roots[tied[0]], roots[name])
        for pattern, parts in split.items():
            for name in matching("space.split", pattern, names):
                if not 2 <= parts <= len(roots[name]):
                    raise InputError(
                        f"space.split: {name} has {len(roots[name])} channels; expected 2 to "
                        f"{len(roots[name])} parts, got {parts}"
                    )
                self._split[name] = parts

    def _freeze_by_name(self, pattern: str, roots: Mapping[str, np.ndarray]) -> None:
        producers: dict[str, list[Axis]] = defaultdict(list)
        for axis in self._axes.values():
            if axis.role == "out":
                producers[axis.tensor.rpartition(".")[0]].append(axis)
        reason = Reason(f"frozen by the user ({pattern})")
        groups = [name for name in roots if fnmatchcase(name, pattern)]
        for name in groups:
            self.loci.freeze(roots[name], reason)
        if not groups and not any(fnmatchcase(module, pattern) for module in producers):
            others = ", ".join(name for name in roots if name not in producers)
            raise InputError(
                f"space.freeze: {pattern!r} matches no layer; there are {', '.join(producers)}"
                + (f", and groups {others}" if others else "")
            )
        for module, axes in producers.items():
            if fnmatchcase(module, pattern):
                for axis in axes:
                    self.loci.freeze(axis.atoms, reason)


def classes(numbers: np.ndarray) -> list[np.ndarray]:
    """Return the columns of ``(levels, size)`` numbers, those that are equal together, in their order."""
    kinds = numbers[0]
    for row in numbers[1:]:
        kinds = _numbered(kinds, row)
    found, first = np.unique(kinds, return_index=True)
    return [np.flatnonzero(kinds == kind) for kind in found[np.argsort(first)]]


def _numbered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a number for every pair, equal for equal ones."""
    width = int(second.max(initial=0)) + 2
    return np.unique(first * width + second, return_inverse=True)[1]
