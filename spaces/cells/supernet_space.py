"""Searches of cells as candidates: each trains a supernet of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from spaces.base import Segment, Space
from spaces.calling import Example
from spaces.cells.design import Design
from spaces.cells.graph import CellGraph
from spaces.cells.network import CellNetwork
from spaces.cells.operations import DARTS
from spaces.cells.space import CellSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class SupernetSpace(Space):
    """Repeats of one search of cells: a genome says which repeat, 0 to 255. What it builds is the network
    without cells.

    :class:`~evaluators.supernet.SupernetSearch` searches, and leaves in the network the cell that it found;
    how many repeats there are is for the budget to say. :attr:`cells` is the space of what may be found. The
    arguments are those of :class:`~spaces.cells.design.Design`.

    Raises:
        InputError: of the first that does not fit.
    """

    dotted_arguments = ("operations",)
    """Arguments that may be dotted names."""

    def __init__(
        self,
        model: nn.Module,
        example: Example,
        graph: CellGraph | None = None,
        operations: Sequence[str] = DARTS,
        at: Sequence[str] | None = None,
        width: int | None = None,
        inputs_per_node: int = 2,
        freeze: bool | None = None,
    ) -> None:
        self.design = Design(model, example, graph, operations, at, width, inputs_per_node, freeze)
        self.segments = (Segment("repeat", 1, 256),)

    @cached_property
    def cells(self) -> CellSpace:
        """The space that is searched: of cells that begin anew."""
        return CellSpace.of(self.design)

    @property
    def trained(self) -> bool:
        """Whether what is built has been trained: all but hollow networks."""
        return not self.design.hollow

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """A genome holds no parameters of a trial."""
        return {}

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(f"searches {self.design.fingerprint}".encode(), digest_size=16).hexdigest()

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 256, size=(n, 1)).astype(np.uint8)

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        return genomes.copy()

    def build(self, genome: np.ndarray) -> CellNetwork:
        self.check(genome[None])
        return self.design.network()

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        self.check(genome[None])
        return {"repeat": int(genome[0])}

    def finish(
        self, genome: np.ndarray, arrays: Callable[[], Mapping[str, np.ndarray]]
    ) -> tuple[Space, np.ndarray]:
        """Return the space of cells and the cell that the search found, its array ``genotype``."""
        return self.cells, self.cells.encode(str(arrays()["genotype"]))
