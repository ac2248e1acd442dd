"""What the code of a model says of the sizes of groups: numbers that have to follow, the attributes that hold
them, and the modules whose code that is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from torch import nn

from spaces.channels.grouping import Grouping
from spaces.channels.literals import Follower, holders
from spaces.channels.matching import Number, Numbers, Rewriting
from spaces.channels.trace import Trace, first_call, is_within


class Numbered(Grouping):
    """Groups, and the numbers in the code that count them.

    Attributes:
        labels_of: for the first trace, the labels of every node that gives a tensor, by node name.
        followers: attributes that follow literals; to be added to.
        rewritings: modules whose code is rewritten, by path; to be added to.
        ties: pairs of literals, by their places, which count axes that keep the same places.
    """

    def __init__(self, model: nn.Module, blocks: list[str], traces: Sequence[Trace]) -> None:
        super().__init__(model, blocks)
        self._traces = traces
        self.labels_of: dict[str, Any] = {}
        self.ties: list[tuple[int, int]] = []
        self.followers: list[Follower] = []
        self.rewritings: dict[str, Rewriting] = {}

    def candidates(self, name: str) -> list[list[Follower]]:
        """Return, for every number that must follow a group, the attributes that hold it: those of the
        innermost modules first.
        """
        found: dict[tuple[str, bytes], list[Follower]] = {}
        own = self._loci_of(name)
        for index, literal in enumerate(self.literals):
            loci = self._loci(literal.label)
            key = (literal.path, loci.tobytes())
            if key not in found and np.isin(loci, own).any():
                found[key] = [*holders(self.model, self._paths, literal, index, self._known)]
        return [some for some in found.values() if some]

    def unfollowed(self, name: str) -> bool:
        """Whether there is a number of a group that attributes hold, and none of these follows it."""

        def of(follower: Follower) -> tuple[str, str, bytes]:
            loci = self._loci(self.literals[follower.literal].label)
            return follower.module, follower.name, loci.tobytes()

        following = {*map(of, self.followers)}
        return any(
            following.isdisjoint(map(of, some)) and self.literals[some[0].literal].path not in self.rewritings
            for some in self.candidates(name)
        )

    def writable(self, name: str) -> list[list[str]]:
        """Return the modules whose code may have to be rewritten for a group: those with its numbers; then
        all that it runs through.
        """
        own = self._loci_of(name)

        def touched(label: np.ndarray) -> bool:
            return self._has_any(label, own)

        numbered = dict.fromkeys(entry.path for entry in self.entries())
        direct = dict.fromkeys(entry.path for entry in self.entries() if touched(entry.label))
        through = dict(direct)
        for node in self._traces[0].graph.graph.nodes:
            labels = self.labels_of.get(node.name)
            if isinstance(labels, tuple) and any(map(touched, labels)):
                through |= dict.fromkeys(
                    path for path in numbered if path not in through and is_within(node, path)
                )
        return [[*direct], [*through]] if len(through) > len(direct) else [[*direct]]

    def sharing(self, name: str, others: Collection[str]) -> list[tuple[int, int]]:
        """Return pairs of numbers, one of a group and one of another of `others`, that an attribute of a
        module holds; by their places among the literals.
        """
        own, pairs = self._loci_of(name), []
        mine: dict[tuple[str, int], int] = {}
        for index, literal in enumerate(self.literals):
            if self._has_any(literal.label, own):
                mine.setdefault((literal.path, literal.value), index)
        for index, literal in enumerate(self.literals):
            first = mine.get((literal.path, literal.value))
            if first is None or self.literals[first].label.shape != literal.label.shape:
                continue
            names = {*self._names_of(self._loci(literal.label).ravel())}
            is_other = names and name not in names and names <= {*others}
            if is_other and holders(self.model, self._paths, literal, index, self._known):
                pairs.append((first, index))
        return pairs

    def tie(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Have the axes that pairs of literals count keep the same places; what `loci` was before stays as it
        was.
        """
        if pairs:
            self.loci, self.ties = self.loci.copied(), [*self.ties, *pairs]
        for one, other in pairs:
            self.loci.unite(self.literals[one].label, self.literals[other].label)

    def mark_of(self, name: str) -> frozenset[tuple[Any, ...]]:
        """Return what the code says of the size of a group, equal for modules that run the same lines."""
        own = self._loci_of(name)
        return frozenset(
            (type(self.model.get_submodule(entry.path)), *entry.told)
            for entry in self.entries()
            if self._has_any(entry.label, own)
        )

    def has(self, name: str) -> bool:
        """Whether there is a group of this name."""
        return name in self.names

    def group_of(self, literal: int) -> str | None:
        """Return the first group that a literal counts, None where what it counts always stays."""
        return next(iter(self._names_of(self._loci(self.literals[literal].label).ravel())), None)

    def pin_of(self, name: str) -> str:
        """Return why a group needs code that is rewritten, or an empty string."""
        own = self._loci_of(name)
        return next((pin.reason.text for pin in self.pins if self._has_any(pin.label, own)), "")

    def numbers_of(self, path: str) -> list[Numbers]:
        """Return for every trace the operations that the code of a module makes when it is first called, the
        values of the trace, and what must follow.
        """
        found = []
        for training, trace in enumerate(self._traces):
            operations = [
                node
                for node in trace.graph.graph.nodes
                if node.op == "call_function" and first_call(node) == path
            ]
            names = {node.name for node in operations}
            numbers = [
                Number(literal.node, literal.place, literal.value, index, self._loci(literal.label).tobytes())
                for index, literal in enumerate(self.literals)
                if literal.path == path and literal.node in names and literal.training == bool(training)
            ]
            found.append(Numbers(operations, trace.values, numbers))
        return found
