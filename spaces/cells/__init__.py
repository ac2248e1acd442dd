"""Cells: small graphs of operations that are searched, in networks that have places for them."""

from typing import TYPE_CHECKING, Any

from spaces.cells.cell import Cell, Place
from spaces.cells.design import Design
from spaces.cells.graph import CellGraph, CellPlan, DenseGraph, EdgeGraph
from spaces.cells.insertion import Insertion
from spaces.cells.mixed import Supernet
from spaces.cells.network import CellNetwork
from spaces.cells.networks import CellStack, SkipUNet
from spaces.cells.operations import DARTS, NONE, OPERATIONS, Operations
from spaces.cells.space import CellSpace
from spaces.cells.supernet_space import SupernetSpace
from spaces.names import renamed

__all__ = [
    "DARTS",
    "NONE",
    "OPERATIONS",
    "Cell",
    "CellGraph",
    "CellNetwork",
    "CellPlan",
    "CellSpace",
    "CellStack",
    "DenseGraph",
    "Design",
    "EdgeGraph",
    "Insertion",
    "Operations",
    "Place",
    "SkipUNet",
    "Supernet",
    "SupernetSpace",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return renamed(__name__, name)
