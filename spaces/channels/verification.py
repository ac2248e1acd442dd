"""Verification: groups are trusted when a smaller model was run and agreed with the masked one; numbers in
the code follow by trial.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations, islice, product
from typing import Protocol

import numpy as np
import torch
from torch import nn

from spaces.base import Segment
from spaces.calling import Example, Inputs
from spaces.channels.analysis import Analysis
from spaces.channels.depth import DEPTH
from spaces.channels.literals import Follower
from spaces.channels.matching import Calls
from spaces.channels.perturbing import PERTURBATIONS, Perturbation
from spaces.channels.plan import SlicePlan
from spaces.channels.rewriting import Unwritable
from spaces.channels.trace import Trace, tensors_by_name
from spaces.channels.training import EXPECTED, TrainingRun, untouched
from spaces.errors import InputError
from spaces.structures import tensors

PRECISE_TOLERANCE = 1e-6
"""Largest difference between a compact model and its masked reference, relative to max(1, largest output), at
which a group is trusted.

Both compute in double precision, else what hardly matters to the output (the scale of an attention that looks
everywhere alike) would hide.
"""
TOLERANCE, HALF_TOLERANCE = 1e-4, 0.05
"""The same where the code makes tensors of single precision, and of half."""
MOST_TRIALS = 32
"""So many combinations of attributes are tried to make a group follow."""
TOGETHER = 1e-12, 1e-5
"""The same for many groups at once, in double precision and else. Rounding, no more: of the first layers
little comes through where half of every one is gone. What is above that is looked at in halves, which costs
time and nothing else.
"""
FEW = 4
"""So many groups are tried one by one without trying them together first."""
PROGRESS = 5.0
"""Seconds between two lines that tell how far verification is."""


class Verified(Protocol):
    """What verification needs of a space, and changes in it."""

    model: nn.Module
    example: Example
    plan: SlicePlan
    segments: tuple[Segment, ...]
    _analysis: Analysis
    _trace: Trace
    _refused: dict[str, str]
    _whole_blocks: dict[str, str]
    _untrained: str

    @property
    def slices(self) -> dict[str, slice]: ...
    @property
    def length(self) -> int: ...
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray: ...
    def repair(self, genomes: np.ndarray) -> np.ndarray: ...
    def build(self, genome: np.ndarray) -> nn.Module: ...
    def perturbed_difference(
        self, by: Perturbation, precise: bool = False, names: Sequence[str] | None = None
    ) -> tuple[float, float]: ...
    def difference(
        self,
        genome: np.ndarray,
        inputs: Inputs | None = None,
        compact: nn.Module | None = None,
        precise: bool = False,
    ) -> float: ...
    def _accept(self, plan: SlicePlan) -> None: ...


class Verification:
    """Runs what a plan promises, and has everything frozen that is not kept."""

    def __init__(self, space: Verified) -> None:
        self.space = space
        self._calls: Calls | None = None
        self._unwritable: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._runs, self._told = 0, time.monotonic()
        self._training: TrainingRun | None = None
        self._precise, self._tolerance = self._precision()

    def run(self) -> None:
        """Earn trust: reduce every group on its own, then all of them at random; what disagrees is frozen.
        So is what does not run in training mode.

        Raises:
            InputError: a copy of the model computes with the model's own parameters, or changes them.
        """
        space = self.space
        self._judge()
        training = TrainingRun(space)
        with untouched(space.model):
            wrong = space.segments and any(training.wrong(drawn) for drawn in self._drawn())
            space._untrained = training.whole() or ""
            if wrong:
                self._training = training
                self._judge()

    def _judge(self) -> None:
        space = self.space
        refused = self._distrusted()
        space._refused |= refused
        if refused:
            space._accept(space._analysis.plan(space._refused))
        while space.segments and (found := self._culprit()):
            culprit, told = found
            reason = f"reduced together with others {told}"
            if culprit == DEPTH:
                space._whole_blocks |= {block.path: reason for block in space._analysis.blocks}
                space._analysis.blocks = []
            space._refused |= {culprit: reason}
            space._accept(space._analysis.plan(space._refused))

    def _precision(self) -> tuple[bool, float]:
        """Return whether the whole model runs in double precision, and the tolerance.

        The parameters of the copy are others then, and its outputs must be those of the traced model with
        these: one that computes with parameters of the model itself is found out.
        """
        space = self.space
        half = any(
            t.dtype in (torch.float16, torch.bfloat16)
            for t in chain(space.model.parameters(), tensors(space.example))
        )
        loose = HALF_TOLERANCE if half or space._trace.half else TOLERANCE
        for precise, tolerance in ((True, PRECISE_TOLERANCE), (False, loose)):
            if self._moved(precise)[0] <= tolerance:
                return precise, tolerance
            if self._unmoved(precise) <= tolerance:
                self._refuse_unmoved(precise, tolerance)
                return precise, tolerance
        return False, loose

    def _moved(self, precise: bool, names: Sequence[str] | None = None) -> tuple[float, float]:
        """Return how far a copy of the whole model is from the traced one when parameters of both are changed
        alike, as much as leaves the outputs finite, and how far that moves the traced one. NaN where it
        cannot be told.
        """
        for strength in PERTURBATIONS:
            try:
                found = self.space.perturbed_difference(strength, precise, names)
            except Exception:  # what else is wrong with it shows again
                break
            if np.isfinite(found[0]):
                return found
        return float("nan"), float("nan")

    def _unmoved(self, precise: bool) -> float:
        try:
            return self.space.difference(np.ones(self.space.length, dtype=np.uint8), precise=precise)
        except Exception:
            return float("nan")

    def _refuse_unmoved(self, precise: bool, tolerance: float) -> None:
        """Raise an error that names a parameter or buffer that the copy does not follow, if there is one."""
        model = self.space.model
        names = [name for name, tensor in tensors_by_name(model).items() if tensor.is_floating_point()]
        while len(names) > 1 and self._moved(precise, names)[0] > tolerance:
            first = names[: len(names) // 2]
            names = first if self._moved(precise, first)[0] > tolerance else names[len(first) :]
        difference, expected = self._moved(precise, names)
        if difference > max(tolerance, expected / 10):  # else it is rounding that the others make large
            raise InputError(
                f"model {type(model).__name__}: a copy of it does not compute with its own {names[0]}; "
                f"{EXPECTED}"
            )

    def _distrusted(self) -> dict[str, str]:
        """Reduce every group on its own, run it, compare: return the reasons of those that disagree.

        Where one disagrees, attributes of the modules that hold a number which has to follow are made to;
        then their code is rewritten.
        """
        space = self.space
        space._whole_blocks |= self._distrusted_blocks()
        refused = {}
        parts = {name: part for name, part in space.slices.items() if name != DEPTH}
        steps = dict(space.plan.steps)

        def halved(names: Sequence[str]) -> np.ndarray:
            genome = np.ones(space.length, dtype=np.uint8)
            for name in names:
                part, step = parts[name], steps.get(name, 1)
                # the first half goes, so that a hard-coded size or offset shows
                size = part.stop - part.start
                gone = max(1, size // 2) if step == 1 else size - -(-size // 2 // step) * step
                genome[part][:gone] = 0
            return genome

        for name in self._suspects([*parts], halved):
            wrong = self._wrong(halved([name]))
            if wrong is not None and not self._helped(name, halved([name])):
                refused[name] = "; ".join([f"reduced on its own {wrong}", *self._reasons(name)])
        return refused

    def _distrusted_blocks(self) -> dict[str, str]:
        """Leave out every block on its own, run it, compare: return the reasons of those that disagree, which
        stay.
        """
        space, wrong = self.space, {}
        gates = space._analysis.gates()

        def without(paths: Sequence[str]) -> np.ndarray:
            genome = np.ones(space.length, dtype=np.uint8)
            genome[[gates[path] for path in paths]] = 0
            return genome

        for path in self._suspects([*gates], without):
            told = self._wrong(without([path]))
            if told is not None:
                wrong[path] = f"left out on its own {told}"
        if wrong:
            space._analysis.blocks = [block for block in space._analysis.blocks if block.path not in wrong]
            space._accept(space._analysis.plan())
        return wrong

    def _suspects(
        self, names: Sequence[str], reduced: Callable[[Sequence[str]], np.ndarray]
    ) -> Iterator[str]:
        """Yield, in order, those of `names` that have to be tried alone.

        Many are trusted at once where every run of :func:`separating` agrees; else both halves of them are
        looked at. So a model of n groups that are all right takes 2 log n runs, each of which may cost as
        much as the model has operations.
        """
        if len(names) <= FEW:
            yield from names
        elif any(
            self._wrong(reduced(some), TOGETHER[not self._precise]) is not None for some in separating(names)
        ):
            middle = len(names) // 2
            yield from self._suspects(names[:middle], reduced)
            yield from self._suspects(names[middle:], reduced)

    def _wrong(self, genome: np.ndarray, tolerance: float | None = None) -> str | None:
        """Return what is wrong with a compact model, or None."""
        told = self._differs(genome, tolerance)
        return self._training.wrong(genome) if told is None and self._training is not None else told

    def _differs(self, genome: np.ndarray, tolerance: float | None) -> str | None:
        """Return what is wrong with it in eval mode, or None."""
        tolerance = self._tolerance if tolerance is None else tolerance
        self._runs += 1
        if time.monotonic() - self._told > PROGRESS:
            self._told = time.monotonic()
            print(f"space: {self._runs} smaller models are verified", file=sys.stderr, flush=True)
        try:
            difference = self.space.difference(genome, precise=self._precise)
        except Exception as error:
            return (
                f"the model does not run: {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}"
            )
        return None if difference <= tolerance else f"it differs from the masked model by {difference:.2g}"

    def _helped(self, name: str, genome: np.ndarray) -> bool:
        """Make numbers in the code follow: attributes that hold them, unless a factor has to stay, then the
        code itself.
        """
        ways = [self._followed, self._rewritten]
        if self.space._analysis.pin_of(name):
            ways.reverse()
        return any(self._found(way, name, genome) for way in ways)

    def _found(self, way: Callable[[str, np.ndarray], bool], name: str, genome: np.ndarray) -> bool:
        """Return whether a way makes a group right; else, and where it fails itself, all is as it was."""
        analysis = self.space._analysis
        before = analysis.followers, analysis.rewritings
        try:
            if way(name, genome):
                return True
        except Exception as error:  # a model that it was not made for; the group stays
            self._failures[name] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        analysis.followers, analysis.rewritings = before
        self.space._accept(analysis.plan())
        return False

    def _followed(self, name: str, genome: np.ndarray) -> bool:
        """Try to have attributes follow, some for each number in the code or none; keep the first that make
        it right.
        """
        analysis = self.space._analysis
        before = analysis.followers
        taken = {(f.module, f.name) for f in before}
        candidates = [
            [f for f in holders if (f.module, f.name) not in taken] for holders in analysis.candidates(name)
        ]
        # one set of attributes for each number; an attribute cannot follow two of them
        trials = ([*chain(*choice)] for choice in product(*map(_subsets, candidates)))
        for trial in islice(
            (t for t in trials if t and len({(f.module, f.name) for f in t}) == len(t)), MOST_TRIALS
        ):
            analysis.followers = before + trial
            self.space._accept(analysis.plan())
            if self._wrong(genome) is None:
                return True
        return False

    def _rewritten(self, name: str, genome: np.ndarray) -> bool:
        """Try to rewrite the code of modules that hold a number which has to follow; keep it where that makes
        it right.
        """
        analysis = self.space._analysis
        before = analysis.rewritings
        for paths in analysis.writable(name):
            made = dict(before)
            for path in paths:
                if path not in made and path not in self._unwritable:
                    try:
                        made[path] = self._call_of(path).rewriting(path, analysis.numbers_of(path))
                    except Unwritable as error:
                        self._unwritable[path] = str(error)
            if len(made) > len(before):
                analysis.rewritings = made
                self.space._accept(analysis.plan())
                if self._wrong(genome) is None:
                    return True
        return False

    def _call_of(self, path: str) -> Calls:
        if self._calls is None:
            paths = dict.fromkeys(entry.path for entry in self.space._analysis.entries())
            self._calls = Calls(self.space.model, self.space.example, paths)
        return self._calls

    def _reasons(self, name: str) -> Iterator[str]:
        """Tell what the group wanted, and why code could not be rewritten."""
        pin = self.space._analysis.pin_of(name)
        if pin:
            yield pin
        paths = self.space._analysis.writable(name)[-1]
        told = dict.fromkeys(
            f"{path or 'the model'}: {self._unwritable[path]}" for path in paths if path in self._unwritable
        )
        if told:
            yield "its code cannot be rewritten: " + next(iter(told))
        elif name in self._failures:
            yield f"its numbers cannot follow ({self._failures[name]})"

    def _drawn(self) -> Sequence[np.ndarray]:
        """Return genomes that reduce all groups at random, and one that does as far as they go."""
        space = self.space
        least = space.repair(np.zeros((1, space.length), dtype=np.uint8))
        least[:, space.slices.get(DEPTH, slice(0))] = 1  # a block that is left out would hide what is in it
        return [*space.sample(2, np.random.default_rng(0)), *least]

    def _culprit(self) -> tuple[str, str] | None:
        """Reduce all groups at random, and as far as they go; where that is wrong, return the first group
        with which it is, and what is wrong.
        """
        space = self.space
        # of a genome that is wrong the groups are reduced one after the other, up to the first that is wrong
        for drawn in self._drawn():
            if self._wrong(drawn) is None:
                continue
            genome = np.ones(space.length, dtype=np.uint8)
            for name, part in space.slices.items():
                genome[part] = drawn[part]
                if (told := self._wrong(genome)) is not None:
                    return name, told
        return None


def separating(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield subsets of `names` such that of any two there is one that has the first without the second.

    So two groups that should have been one never shrink alike in all of them.
    """
    for bit in range((len(names) - 1).bit_length()):
        for side in (0, 1):
            yield [name for position, name in enumerate(names) if position >> bit & 1 == side]


def _subsets(holders: list[Follower]) -> list[tuple[Follower, ...]]:
    """Return single attributes, then pairs, and so on, none at last: the likeliest first."""
    return [*chain(*(combinations(holders, n) for n in range(1, len(holders) + 1))), ()]
