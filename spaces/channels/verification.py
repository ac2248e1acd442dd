"""Verification: groups are trusted when a smaller model was run and agreed with the masked one; numbers in
the code follow by trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, combinations, count
from math import comb
from typing import Protocol
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from spaces.base import Segment
from spaces.calling import Inputs
from spaces.channels.depth import DEPTH
from spaces.channels.doubled import Doubled
from spaces.channels.following import Analysed, Following, kind_of
from spaces.channels.perturbing import PERTURBATIONS, Perturbation
from spaces.channels.plan import SlicePlan
from spaces.channels.progress import Progress
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
TOGETHER = 1e-12, 1e-5
"""The same for many groups at once, in double precision and else. Rounding, no more: of the first layers
little comes through where half of every one is gone. What is above that is looked at more closely.
"""
FEW = 4
"""So many groups are tried one by one without trying them together first."""


class Verified(Analysed, Protocol):
    """What verification needs of a space, and changes in it."""

    plan: SlicePlan
    segments: tuple[Segment, ...]
    _trace: Trace
    _whole_blocks: dict[str, str]
    _untrained: str
    _doubled: Doubled | None

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


class Verification:
    """Runs what a plan promises, and has everything frozen that is not kept."""

    def __init__(self, space: Verified, progress: Progress | None = None) -> None:
        self.space = space
        self._progress, self._at = progress or Progress(), "whole model"
        self._following = Following(space, self._wrong)
        self._runs, self._disagreeing = 0, set[str]()
        self._training: TrainingRun | None = None
        self._precise, self._tolerance = self._precision()

    def run(self) -> None:
        """Earn trust: reduce every group on its own, then all of them at random; what disagrees is frozen.
        So is what does not run in training mode.

        Raises:
            InputError: a copy of the model computes with the model's own parameters, or changes them.
        """
        space = self.space
        with self._doubled():
            self._judge()
        training = TrainingRun(space)
        with untouched(space.model):
            wrong = space.segments and any(training.wrong(drawn) for drawn in self._drawn())
            space._untrained = training.whole() or ""
            if wrong:
                self._training = training
                with self._doubled():
                    self._judge()
            self._follow_when_exported()

    def _follow_when_exported(self) -> None:
        """Have numbers follow that only code reads which is exported.

        Code may take another way then, or with other inputs: the attention of transformers does, which reads
        how many queries share a key where there is a mask. A smaller model that is right, but not where it
        takes that way, lacks such a number.
        """
        analysis = self.space._analysis
        names = [name for name in analysis.names if analysis.unfollowed(name)]
        with self._doubled():
            self._at = "code that is exported"
            if (
                not names
                or self._wrong_exported(self._halved([]))
                or not self._wrong_exported(self._halved(names))
            ):
                return
            following = Following(
                self.space, lambda genome: self._wrong(genome) or self._wrong_exported(genome)
            )
            for name, *others in by_kind(names).values():
                genome = self._halved([name])
                if self._wrong_exported(genome) and following.helped(name, genome):
                    following.carry(name, others)

    def _wrong_exported(self, genome: np.ndarray) -> str | None:
        """Return what is wrong with a compact model that believes it is exported, or None."""
        with (
            patch.object(torch.compiler, "is_compiling", lambda: True),
            patch.object(torch.compiler, "is_exporting", lambda: True),
        ):
            return self._wrong(genome)

    @contextmanager
    def _doubled(self) -> Iterator[None]:
        """Keep one copy in double precision while runs need it."""
        self.space._doubled = Doubled(self.space.model) if self._precise else None
        try:
            yield
        finally:
            self.space._doubled = None

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
        """Reduce groups, run them, compare: return the reasons of those that disagree on their own, whatever
        is done for them.

        Where not all of them agree together, the first of each kind is reduced alone. What helped it is done
        for the others of its kind at once, which are then tried together.
        """
        space, analysis = self.space, self.space._analysis
        space._whole_blocks |= self._distrusted_blocks()
        names, refused = [*analysis.names], dict[str, str]()
        if len(names) > FEW and self._agree(names, self._halved):
            return refused
        kinds = by_kind(names)
        tried = names if len(names) <= FEW else [some[0] for some in kinds.values()]
        for name in tried:
            self._try(name, refused)
        self._at = "groups that an attribute holds the numbers of"
        for name in self._following.tied([*refused], self._halved):
            refused.pop(name, None)
        others = [name for name in analysis.names if name not in tried]
        for name in [name for name in others if kind_of(name) in map(kind_of, refused)]:
            others.remove(name)
            if not self._is_hopeless(name, refused):
                self._try(name, refused)
        if not self._carried(tried, others):
            for name in self._doubted(others, tried):
                self._try(name, refused)
        return {name: refused[name] for name in analysis.names if name in refused}

    def _try(self, name: str, refused: dict[str, str]) -> None:
        """Reduce a group on its own; add the reason to `refused` where it disagrees."""
        names = self.space._analysis.names
        self._at = f"group {names.index(name) + 1} of {len(names)}, {name}"
        wrong = self._wrong(genome := self._halved([name]))
        if wrong is not None:
            self._disagreeing.add(name)
            if not self._following.helped(name, genome):
                refused[name] = "; ".join([f"reduced on its own {wrong}", *self._following.reasons(name)])

    def _is_hopeless(self, name: str, refused: dict[str, str]) -> bool:
        """Whether two groups of a kind were refused whose code is the same, and whose reason then holds for
        this one too.
        """
        mark = self.space._analysis.mark_of
        alike = [other for other in refused if kind_of(other) == kind_of(name) and mark(other) == mark(name)]
        if len(alike) > 1 and mark(name):
            refused[name] = f"{refused[alike[0]]}; the code of {alike[0]} is the same"
        return name in refused

    def _carried(self, tried: Sequence[str], others: Sequence[str]) -> bool:
        """Do for others what helped the first of their kind; return whether all of them agree then. Else
        all is as it was.
        """
        before, kinds = self._following.state(), by_kind(others)
        carried = [
            name for first in tried for name in self._following.carry(first, kinds.get(kind_of(first), ()))
        ]
        if carried and self._agree(others, self._halved):
            return True
        if carried:
            self._following.put(before)
        return False

    def _doubted(self, others: Sequence[str], tried: Sequence[str]) -> Iterator[str]:
        """Yield those that have to be tried alone where not all agree: of the kinds of those that disagreed
        all.
        """
        kinds = {kind_of(name) for name in tried if name in self._disagreeing}
        yield from (name for name in others if kind_of(name) in kinds)
        rest = [name for name in others if kind_of(name) not in kinds]
        half = len(rest) if kinds else len(rest) // 2
        yield from self._suspects(rest[:half], self._halved)
        yield from self._suspects(rest[half:], self._halved)

    def _halved(self, names: Sequence[str]) -> np.ndarray:
        """Return the genome of a model in which groups are reduced to their second half, so that a hard-coded
        size or offset shows.
        """
        space, steps = self.space, dict(self.space.plan.steps)
        genome = np.ones(space.length, dtype=np.uint8)
        for name in names:
            part, step = space.slices[name], steps.get(name, 1)
            size = part.stop - part.start
            gone = max(1, size // 2) if step == 1 else size - -(-size // 2 // step) * step
            genome[part][:gone] = 0
        return genome

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
            self._disagreeing |= {path} if told is not None else set()
            if told is not None:
                wrong[path] = f"left out on its own {told}"
        if wrong:
            space._analysis.blocks = [block for block in space._analysis.blocks if block.path not in wrong]
            space._accept(space._analysis.plan())
        return wrong

    def _suspects(
        self, names: Sequence[str], reduced: Callable[[Sequence[str]], np.ndarray]
    ) -> Iterator[str]:
        """Yield those of `names` that have to be tried alone.

        Where many do not agree together, one of each kind is tried, and where one disagrees all of its kind.
        Where none does, both halves are looked at.
        """
        if len(names) <= FEW:
            yield from names
            return
        if self._agree(names, reduced):
            return
        first = [some[0] for some in by_kind(names).values()]
        yield from first
        wrong = {kind_of(name) for name in first if name in self._disagreeing}
        yield from (name for name in names if name not in first and kind_of(name) in wrong)
        others = [name for name in names if name not in first and kind_of(name) not in wrong]
        half = len(others) if wrong else len(others) // 2
        yield from self._suspects(others[:half], reduced)
        yield from self._suspects(others[half:], reduced)

    def _agree(self, names: Sequence[str], reduced: Callable[[Sequence[str]], np.ndarray]) -> bool:
        """Whether every run of :func:`separating` agrees: so n groups that are all right take few more than
        log n runs.
        """
        self._at = f"{len(names)} groups from {names[0]} to {names[-1]}"
        tolerance = TOGETHER[not self._precise]
        return all(self._wrong(reduced(some), tolerance) is None for some in separating(names))

    def _wrong(self, genome: np.ndarray, tolerance: float | None = None) -> str | None:
        """Return what is wrong with a compact model, or None."""
        told = self._differs(genome, tolerance)
        return self._training.wrong(genome) if told is None and self._training is not None else told

    def _differs(self, genome: np.ndarray, tolerance: float | None) -> str | None:
        """Return what is wrong with it in eval mode, or None."""
        tolerance = self._tolerance if tolerance is None else tolerance
        self._runs += 1
        self._progress.tell(f"verification run {self._runs}: {self._at}")
        try:
            difference = self.space.difference(genome, precise=self._precise)
        except Exception as error:
            return (
                f"the model does not run: {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}"
            )
        return None if difference <= tolerance else f"it differs from the masked model by {difference:.2g}"

    def _drawn(self) -> Sequence[np.ndarray]:
        """Return genomes that reduce all groups at random, and one that does as far as they go."""
        space = self.space
        least = space.repair(np.zeros((1, space.length), dtype=np.uint8))
        least[:, space.slices.get(DEPTH, slice(0))] = 1  # a block that is left out would hide what is in it
        return [*space.sample(2, np.random.default_rng(0)), *least]

    def _culprit(self) -> tuple[str, str] | None:
        """Reduce all groups at random, and as far as they go; where that is wrong, return a group that makes
        it wrong with those before it, which are right, and what is wrong.
        """
        space, self._at = self.space, "all groups together"
        for drawn in self._drawn():
            if (told := self._wrong(drawn)) is None:
                continue
            names = [*space.slices]
            right, wrong = 0, len(names)  # with so many of the first groups
            while wrong - right > 1:
                middle = (right + wrong) // 2
                genome = drawn.copy()
                genome[space.slices[names[middle]].start :] = 1
                found = self._wrong(genome)
                right, wrong, told = (middle, wrong, told) if found is None else (right, middle, found)
            return names[wrong - 1], told
        return None


def by_kind(names: Sequence[str]) -> dict[str, list[str]]:
    """Return names by their kinds, in their order."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(kind_of(name), []).append(name)
    return kinds


def separating(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield subsets of `names` such that of any two there is one that has the first without the second.

    So two groups that should have been one never shrink alike in all of them. Every name is in another half
    of the subsets, which are as few as there can be (Spencer 1970 [P]).
    """
    runs = next(n for n in count(1) if comb(n, n // 2) >= len(names))
    halves = [*combinations(range(runs), runs // 2)]
    chosen = [halves[position * len(halves) // len(names)] for position in range(len(names))]
    for run in range(runs):
        yield [name for name, half in zip(names, chosen, strict=True) if run in half]
