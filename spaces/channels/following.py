"""Numbers in the user's code follow what is kept of a group: by attributes that hold them, by code that is
rewritten, or by groups that become one, since an attribute holds a number of each. What was found for a group
serves others of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, combinations, islice, product
from typing import Any, Protocol

import numpy as np
from torch import nn

from spaces.calling import Example
from spaces.channels.analysis import Analysis
from spaces.channels.literals import Follower
from spaces.channels.matching import Calls, Rewriting
from spaces.channels.plan import SlicePlan
from spaces.channels.rewriting import Unwritable

MOST_TRIALS = 32
"""So many combinations of attributes are tried to make a group follow."""

_NUMBERS = re.compile(r"\d+")


def kind_of(name: str) -> str:
    """Return what names have in common that differ by their numbers alone: they are of a kind."""
    return _NUMBERS.sub("#", name)


State = tuple[list[Follower], dict[str, Rewriting]]


class Analysed(Protocol):
    """What is needed of a space, and changes in it."""

    model: nn.Module
    example: Example
    _analysis: Analysis
    _refused: dict[str, str]

    def _accept(self, plan: SlicePlan) -> None: ...


class Following:
    """Makes numbers in the code of one model follow its groups.

    Args:
        space: analysed.
        wrong: runs the smaller model of a genome; returns what is wrong with it, or None.
    """

    def __init__(self, space: Analysed, wrong: Callable[[np.ndarray], str | None]) -> None:
        self._space, self._wrong = space, wrong
        self._calls: Calls | None = None
        self._unwritable: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._found: dict[str, State] = {}

    def helped(self, name: str, genome: np.ndarray) -> bool:
        """Make numbers in the code follow: attributes that hold them, unless a factor has to stay, then the
        code itself. Return whether that makes a group right; else, and where it fails itself, all is as it
        was.
        """
        ways = [self._followed, self._rewritten]
        if self._space._analysis.pin_of(name):
            ways.reverse()
        return any(self._succeeds(way, name, genome) for way in ways)

    def _succeeds(self, way: Callable[[str, np.ndarray], bool], name: str, genome: np.ndarray) -> bool:
        before = self.state()
        try:
            if way(name, genome):
                analysis = self._space._analysis
                self._found[name] = (
                    [f for f in analysis.followers if f not in before[0]],
                    {path: made for path, made in analysis.rewritings.items() if path not in before[1]},
                )
                return True
        except Exception as error:  # a model that it was not made for; the group stays
            self._failures[name] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        self.put(before)
        return False

    def state(self) -> State:
        """Return what follows now, and how."""
        analysis = self._space._analysis
        return analysis.followers, analysis.rewritings

    def put(self, state: State) -> None:
        """Have that follow."""
        analysis = self._space._analysis
        analysis.followers, analysis.rewritings = state
        self._space._accept(analysis.followed())

    def _followed(self, name: str, genome: np.ndarray) -> bool:
        """Try to have attributes follow, some for each number in the code or none, alike in modules of a
        kind; keep the first that make it right.
        """
        before, rewritings = self.state()
        taken = {(f.module, f.name) for f in before}
        candidates = [
            [f for f in holders if (f.module, f.name) not in taken]
            for holders in self._space._analysis.candidates(name)
        ]
        # one set of attributes for each number; an attribute cannot follow two of them
        possible = (trial for trial in _trials(candidates) if trial and _are_distinct(trial))
        for trial in islice(possible, MOST_TRIALS):
            self.put((before + trial, rewritings))
            if self._wrong(genome) is None:
                return True
        return False

    def _rewritten(self, name: str, genome: np.ndarray) -> bool:
        """Try to rewrite the code of modules that hold a number which has to follow; keep it where that makes
        it right.
        """
        followers, before = self.state()
        for paths in self._space._analysis.writable(name):
            made = before | self._rewritings(path for path in paths if path not in before)
            if len(made) > len(before):
                self.put((followers, made))
                if self._wrong(genome) is None:
                    return True
        return False

    def _rewritings(self, paths: Iterable[str]) -> dict[str, Rewriting]:
        """Return how the code of modules is rewritten, of those where it can be."""
        made = {}
        for path in paths:
            if path not in self._unwritable:
                try:
                    made[path] = self._call_of(path).rewriting(path, self._space._analysis.numbers_of(path))
                except Unwritable as error:
                    self._unwritable[path] = str(error)
        return made

    def _call_of(self, path: str) -> Calls:
        if self._calls is None:
            paths = dict.fromkeys(entry.path for entry in self._space._analysis.entries())
            self._calls = Calls(self._space.model, self._space.example, paths)
        return self._calls

    def tied(self, names: Collection[str], halved: Callable[[Sequence[str]], np.ndarray]) -> set[str]:
        """Make one of groups that were wrong alone where an attribute of a module holds a number of each,
        and of others of their kinds; keep what is right then.

        Args:
            names: of the groups that were wrong.
            halved: makes the genome in which groups are reduced.

        Returns:
            Those of `names` that are gone or right.
        """
        gone = set[str]()
        for name in names:
            if name not in gone and (joint := self._joined(name, {*names} - gone, halved)):
                gone |= {other for other in names if other == joint or not self._space._analysis.has(other)}
        return gone

    def _joined(
        self, name: str, names: Collection[str], halved: Callable[[Sequence[str]], np.ndarray]
    ) -> str | None:
        """Return the name of what a group becomes a part of, None where that is not right either."""
        space, analysis = self._space, self._space._analysis
        kinds = {*map(kind_of, names)}
        wrong = [other for other in analysis.names if kind_of(other) in kinds]
        pairs = {other: analysis.sharing(other, wrong) for other in wrong if kind_of(other) == kind_of(name)}
        if not pairs.get(name):
            return None
        before, loci, ties = self.state(), analysis.loci, analysis.ties
        analysis.tie([*chain(*pairs.values())])
        space._accept(analysis.plan(space._refused))
        joint = analysis.group_of(pairs[name][0][0])
        if joint:
            genome = halved([joint])
            if self._wrong(genome) is None or self.helped(joint, genome):
                return joint
        analysis.loci, analysis.ties = loci, ties
        analysis.followers, analysis.rewritings = before
        space._accept(analysis.plan(space._refused))
        return None

    def carry(self, first: str, others: Iterable[str]) -> list[str]:
        """Have the numbers of other groups follow as those of the first of their kind do, without a run;
        return those of which there is all that it took.
        """
        if first not in self._found:
            return []
        analysis, (chosen, written) = self._space._analysis, self._found[first]
        followers, rewritings = self.state()
        kinds, model = {*map(kind_of, written)}, analysis.candidates(first)
        carried = []
        for name in others:
            alike = [
                own
                for its, holders in zip(model, analysis.candidates(name), strict=False)
                for one, own in zip(its, holders, strict=False)
                if one in chosen and _kind(one) == _kind(own) and own not in followers
            ]
            paths = [p for p in analysis.writable(name)[-1] if kind_of(p) in kinds and p not in rewritings]
            made = self._rewritings(paths)
            if (alike or made) and len(made) == len(paths) and _are_distinct([*followers, *alike]):
                followers, rewritings = [*followers, *alike], rewritings | made
                carried.append(name)
        self.put((followers, rewritings))
        return carried

    def reasons(self, name: str) -> Iterator[str]:
        """Tell what a group wanted, and why code could not be rewritten."""
        pin = self._space._analysis.pin_of(name)
        if pin:
            yield pin
        paths = self._space._analysis.writable(name)[-1]
        told = dict.fromkeys(
            f"{path or 'the model'}: {self._unwritable[path]}" for path in paths if path in self._unwritable
        )
        if told:
            yield "its code cannot be rewritten: " + next(iter(told))
        elif name in self._failures:
            yield f"its numbers cannot follow ({self._failures[name]})"


def _trials(candidates: Sequence[Sequence[Follower]]) -> Iterator[list[Follower]]:
    """Yield choices of attributes for numbers that have to follow, the likeliest first: of those that hold a
    number single ones, then pairs, and so on, none at last. Numbers whose attributes are of a kind choose
    alike, unless they are the very same ones.
    """
    kinds: dict[tuple[Any, ...], list[Sequence[Follower]]] = {}
    for position, holders in enumerate(candidates):
        places = [_place(f) for f in holders]
        same = sum(places == [_place(f) for f in others] for others in candidates[:position])
        kinds.setdefault((same, *map(_kind, holders)), []).append(holders)
    choices = [_subsets(len(alike[0])) for alike in kinds.values()]
    for choice in product(*choices):
        yield [
            holders[number]
            for chosen, alike in zip(choice, kinds.values(), strict=True)
            for holders in alike
            for number in chosen
        ]


def _subsets(count: int) -> list[tuple[int, ...]]:
    return [*chain(*(combinations(range(count), n) for n in range(1, count + 1))), ()]


def _place(follower: Follower) -> tuple[str, str]:
    return follower.module, follower.name


def _kind(follower: Follower) -> tuple[str, str]:
    return kind_of(follower.module), follower.name


def _are_distinct(followers: Sequence[Follower]) -> bool:
    return len({*map(_place, followers)}) == len(followers)
