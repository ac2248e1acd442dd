"""Grouping: loci are cut into the segments of the genome, and what the user wants of groups is
done to them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import nn

from spaces.base import Segment
from spaces.channels.loci import Reason
from spaces.channels.notes import Axis, Notes
from spaces.channels.wishes import matching
from spaces.errors import InputError


class Grouping(Notes):
    """Which loci form a group, and how it is called.

    Attributes:
        locus_of: representative atom -> locus in the genome, of the segments made last.
    """

    def __init__(self, model: nn.Module, blocks: list[str]) -> None:
        super().__init__(model, blocks)
        self.locus_of: dict[int, int] = {}
        self._segment_of: dict[int, str] = {}
        self._split: dict[str, int] = {}

    def _loci(self, label: np.ndarray) -> np.ndarray:
        """Return the loci of positions: ``(size,)``, or ``(levels, size)`` where some have several; -1:
        always kept.
        """
        resolved = [
            sorted(self.locus_of[r] for r in self.loci.resolve(a) if r in self.locus_of)
            for a in label.tolist()
        ]
        levels = max((len(r) for r in resolved), default=0)
        if levels <= 1:
            return np.array([r[0] if r else -1 for r in resolved], dtype=np.int64)
        return np.array(
            [[r[level] if level < len(r) else -1 for r in resolved] for level in range(levels)],
            dtype=np.int64,
        )

    def _loci_of(self, name: str) -> set[int]:
        return {locus for locus, segment in self._segment_of.items() if segment == name}

    def _segments(self) -> tuple[list[Segment], dict[int, str]]:
        """Cut the loci into segments: those with the same places on the same axes form one. In order of
        execution.
        """
        segments: list[Segment] = []
        members: dict[int, str] = {}
        taken: dict[str, int] = defaultdict(int)
        self.locus_of = {}
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
                segments.append(Segment(whole, len(part)))
                for root in part.tolist():
                    self.locus_of[root] = len(self.locus_of)
                    members[root] = whole
        self._segment_of = {locus: members[root] for root, locus in self.locus_of.items()}
        return segments, members

    def _alike(self) -> list[tuple[str, list[int]]]:
        """Return the loci that a layer puts out, those of one birth and with the same places together, each
        group with the parameter that makes it.
        """
        signature: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
        produced: dict[int, str] = {}
        for (tensor, dim), axis in self._axes.items():
            occurring = Counter(root for atom in axis.atoms.tolist() for root in self.loci.resolve(atom))
            for root, times in occurring.items():
                signature[root].append((tensor, dim, times))
                if axis.role == "out":
                    produced.setdefault(root, tensor)
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        # atoms are numbered in the order of execution, and so are the groups
        for root in sorted(produced):
            groups[(self.loci.birth(root), *signature[root])].append(root)
        return [(produced[roots[0]], roots) for roots in groups.values()]

    def _ragged(self, members: dict[int, str]) -> list[str]:
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
                for columns in classes(loci, self._segment_of):
                    part = loci[:, columns]
                    # a full grid has every pair of its levels, and each of them equally often
                    cells, times = np.unique(part, axis=1, return_counts=True)
                    if (
                        cells.shape[1] != np.prod([len(np.unique(row)) for row in part])
                        or len(np.unique(times)) > 1
                    ):
                        ragged.update(
                            dict.fromkeys(
                                self._segment_of[locus] for locus in part.ravel().tolist() if locus >= 0
                            )
                        )
        return list(ragged)

    def _freeze_segments(self, members: dict[int, str], reasons: dict[str, str]) -> None:
        lines: dict[str, str] = {}  # of the first number in the code that has to follow
        for literal in self.literals:
            for locus in self._loci(literal.label).ravel().tolist():
                if locus >= 0:
                    lines.setdefault(self._segment_of[locus], literal.where)
        for name, text in reasons.items():
            roots = np.array([root for root, segment in members.items() if segment == name], dtype=np.int64)
            self.loci.freeze(roots, Reason(text, lines.get(name, "")))

    def _grant(self, freeze: Sequence[str], tie: Sequence[Sequence[str]], split: Mapping[str, int]) -> None:
        """Do what the user wants of groups, which are named as they would be without it."""
        segments, members = self._segments()
        names = [segment.name for segment in segments]
        roots: dict[str, list[int]] = defaultdict(list)
        for root, name in members.items():
            roots[name].append(root)
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
                self.loci.unite(np.array(roots[tied[0]]), np.array(roots[name]))
        for pattern, parts in split.items():
            for name in matching("space.split", pattern, names):
                if not 2 <= parts <= len(roots[name]):
                    raise InputError(
                        f"space.split: {name} has {len(roots[name])} channels; expected 2 to "
                        f"{len(roots[name])} parts, got {parts}"
                    )
                self._split[name] = parts

    def _even_out(self, alike: Sequence[Sequence[tuple[str, int]]]) -> None:
        """Have axes that have to be equally long keep the same places, and those that are several times as
        long the same places of every part; then groups of the same kind, whose names differ in numbers alone.
        """
        for axes in alike:
            labels = [self._axes[axis].atoms for axis in axes if axis in self._axes]
            labels.sort(key=len)
            varying = [label for label in labels if label.size > 1]
            for label in varying[1:]:
                if label.size % varying[0].size == 0:
                    self.loci.unite(label, np.tile(varying[0], label.size // varying[0].size))
        if not alike:
            self._tie_by_kind()

    def _tie_by_kind(self) -> None:
        segments, members = self._segments()
        kinds: dict[tuple[str, int], list[str]] = defaultdict(list)
        for segment in segments:
            kinds[re.sub(r"\d+", "*", segment.name), segment.size].append(segment.name)
        roots: dict[str, list[int]] = defaultdict(list)
        for root, name in members.items():
            roots[name].append(root)
        for first, *others in kinds.values():
            for name in others:
                self.loci.unite(np.array(roots[first]), np.array(roots[name]))

    def _freeze_by_name(self, pattern: str, roots: Mapping[str, list[int]]) -> None:
        producers: dict[str, list[Axis]] = defaultdict(list)
        for axis in self._axes.values():
            if axis.role == "out":
                producers[axis.tensor.rpartition(".")[0]].append(axis)
        reason = Reason(f"frozen by the user ({pattern})")
        groups = [name for name in roots if fnmatchcase(name, pattern)]
        for name in groups:
            self.loci.freeze(np.array(roots[name]), reason)
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


def classes(loci: np.ndarray, segment_of: dict[int, str]) -> list[np.ndarray]:
    """Return the columns of ``(levels, size)`` loci, by which segments they belong to."""
    columns: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for column, own in enumerate(loci.T.tolist()):
        columns[tuple(segment_of.get(locus, "") for locus in own)].append(column)
    return [np.array(c) for c in columns.values()]
