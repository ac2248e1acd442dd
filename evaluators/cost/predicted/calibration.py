"""Calibration: some networks of a space are measured whole, and their operations at a grid of widths."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from evaluators.cost.predicted.fit import REST, Fit
from evaluators.cost.predicted.prediction import Group, Prediction, Use
from evaluators.cost.predicted.runtime import Operation, Runtime, Took
from evaluators.cost.predicted.sizes import AxisSizes, Size, matched
from evaluators.cost.predicted.table import Table
from spaces.base import Sliced
from spaces.calling import Example
from spaces.segments import Segment

_DENSITIES = (0.25, 1.0)
_MATTERS = 0.003
"""Share of the whole from which on an operation is measured at all widths."""
_HELD_BYTES, _COPIES = 2 << 30, 3
"""Networks that are measured in the same rounds, and how often a runtime holds their weights, about."""
_CALL = 0.01
"""Milliseconds of a call beside its operations, about: the fit says how many."""


class CannotPredict(ValueError):
    """Why the latency of a space's networks cannot be put together from operations."""


def calibrate(
    space: Sliced,
    inputs: Example,
    runtime: Runtime,
    networks: int = 16,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Prediction:
    """Measure networks of a space and their operations, and fit the sum of these to those. [O]

    Args:
        space: with a slice plan.
        inputs: of one forward call, as many samples as will be fed.
        runtime: that runs them.
        networks: that are built and measured whole, with shares of every group that are drawn.
        seed: of the draws.
        say: is told what is being done.

    Raises:
        CannotPredict: the runtime does something else at other widths, or networks without a block differ in
            more than that.
    """
    genomes = _drawn(space, networks, seed)
    sizes = AxisSizes(space.plan)
    whole = sizes(np.ones((1, space.plan.length), dtype=np.uint8))[:, 0]
    say(f"latency: {networks} networks of {runtime.name} are built and measured")
    seen, measured = _networks(space, genomes, inputs, runtime)
    gates = _gates(space, genomes[1], seen[1], inputs, runtime)
    uses = _uses(seen, sizes(genomes), whole, gates)
    say(f"latency: {len(uses)} kinds of operations are measured at their widths")
    groups, rest = _groups(uses, runtime)
    fit = Fit(_parts(groups, rest, sizes(genomes), genomes))
    return Prediction(tuple(groups), rest, fit.factors(measured), fit.error(measured))


def random_genomes(space: Sliced, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return genomes that keep a share of every segment that is drawn for it, repaired, ``(n, length)``."""
    segments: Sequence[Segment] = space.plan.segments
    shares = rng.uniform(*_DENSITIES, (n, len(segments)))
    density = np.repeat(shares, [segment.size for segment in segments], axis=1)
    return space.repair((rng.random(density.shape) < density).astype(np.uint8))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Shape:
    """What operations of one table share.

    Attributes:
        kind: of the operation.
        template: of the operation.
        largest: its widths in the base model.
        sizes: its numbers; the axis of each is the place among the widths.
    """

    kind: str
    template: str
    largest: tuple[int, ...]
    sizes: tuple[Size, ...]

    def at(self, widths: Sequence[int]) -> Operation:
        numbers = tuple(
            int(size(np.array(widths[size.axis] if size.axis >= 0 else 0))) for size in self.sizes
        )
        return Operation(self.kind, self.template, numbers)


def _drawn(space: Sliced, networks: int, seed: int) -> np.ndarray:
    """Return the base model's genome and random ones, all with all of their blocks."""
    genomes = random_genomes(space, networks, np.random.default_rng(seed))
    genomes[0] = 1
    genomes[:, _gate_loci(space)] = 1
    return genomes


def _gate_loci(space: Sliced) -> list[int]:
    plan = space.plan
    gates = {one.gate for one in plan.tensors} | {one.gate for one in plan.operations}
    return sorted(gates - {-1})


def _networks(
    space: Sliced, genomes: np.ndarray, inputs: Example, runtime: Runtime
) -> tuple[list[list[Operation]], np.ndarray]:
    """Return the operations of networks, and their milliseconds: of as many at once as fit into memory."""
    seen, measured = [], []
    calls: list[Callable[[], object]] = []
    held = 0
    for genome in genomes:
        with torch.random.fork_rng(devices=[]):
            model = space.build(genome)  # type: ignore[attr-defined]
        operations, call = runtime.prepared(model, inputs)
        seen.append(operations)
        calls.append(call)
        held += _COPIES * sum(parameter.nbytes for parameter in model.parameters())
        if held > _HELD_BYTES:
            measured += [*runtime.whole(calls)]
            calls, held = [], 0
    return seen, np.array([*measured, *(runtime.whole(calls) if calls else [])])


def _gates(
    space: Sliced, genome: np.ndarray, operations: list[Operation], inputs: Example, runtime: Runtime
) -> dict[int, int]:
    """Return which operations (by their places) are not there without a block, and its locus."""
    gates: dict[int, int] = {}
    for locus in _gate_loci(space):
        without = genome.copy()
        without[locus] = 0
        left, _ = runtime.prepared(space.build(without), inputs)  # type: ignore[attr-defined]
        matcher = difflib.SequenceMatcher(None, operations, left, autojunk=False)
        there = {i for block in matcher.get_matching_blocks() for i in range(block.a, block.a + block.size)}
        gates |= dict.fromkeys({*range(len(operations))} - there, locus)
    return gates


def _uses(
    seen: list[list[Operation]], sizes: np.ndarray, whole: np.ndarray, gates: dict[int, int]
) -> dict[_Shape, list[Use]]:
    """Return where the networks have operations, by what shares a table."""
    kinds = {tuple((one.kind, len(one.numbers)) for one in operations) for operations in seen}
    if len(kinds) > 1:
        raise CannotPredict(f"{len(kinds)} of {len(seen)} networks do different operations")
    uses: dict[_Shape, list[Use]] = defaultdict(list)
    for place, alike in enumerate(zip(*seen, strict=True)):
        found = [matched(column, sizes) for column in np.array([one.numbers for one in alike], int).T]
        if None in found:
            column = found.index(None)
            raise CannotPredict(
                f"{alike[0].kind} ({place + 1} of {len(seen[0])}): what its size {alike[0].numbers[column]} "
                f"follows from was not found"
            )
        known = [size for size in found if size is not None]
        axes = sorted({size.axis for size in known if size.axis >= 0})
        local = tuple(
            Size(axes.index(size.axis) if size.axis >= 0 else -1, size.times, size.plus, size.block)
            for size in known
        )
        largest = tuple(int(whole[axis]) for axis in axes)
        shape = _Shape(alike[0].kind, alike[0].template, largest, local)
        uses[shape].append(Use(tuple(axes), gates.get(place, -1)))
    return uses


def _groups(uses: dict[_Shape, list[Use]], runtime: Runtime) -> tuple[list[Group], float]:
    """Return the operations that matter with their tables, and what the rest takes."""
    whole = runtime.alone([shape.at(shape.largest) for shape in uses])
    base = dict(zip(uses, whole, strict=True))
    total = sum(sum(base[shape]) * len(where) for shape, where in uses.items())
    groups, rest = [], _CALL
    for shape, where in uses.items():
        if sum(base[shape]) * len(where) < _MATTERS * total:
            rest += sum(base[shape]) * len(where)
            continue
        groups.append(Group(shape.kind, Table(shape.largest, partial(_at, runtime, shape)), tuple(where)))
    return groups, rest


def _at(runtime: Runtime, shape: _Shape, places: Sequence[Sequence[int]]) -> list[Took]:
    return runtime.alone([shape.at(place) for place in places])


def _parts(
    groups: Sequence[Group], rest: float, sizes: np.ndarray, genomes: np.ndarray
) -> dict[str, np.ndarray]:
    """Return by column of the fit what of it networks have, ``(networks,)``."""
    parts: dict[str, np.ndarray] = {REST: np.full(len(genomes), rest)}
    for group in groups:
        for name, factors in zip(group.columns, np.eye(len(Took._fields)).tolist(), strict=True):
            parts[name] = parts.get(name, 0.0) + group.adder(factors)(sizes, genomes)
    return {name: column for name, column in parts.items() if column.any()}
