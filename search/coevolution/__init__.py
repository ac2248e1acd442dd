"""Coevolution: cells on a graph, each with an encoder and a decoder, as a graph of tasks."""

from search.coevolution.concepts import BestCase, MeanCase, SolutionConcept, WorstCase
from search.coevolution.grids import make_grid
from search.coevolution.loop import CellLoop, step_seconds
from search.coevolution.replacement import Always, IfBetter, IfNotDominated, Replacement
from search.coevolution.strategy import Coevolution
from search.coevolution.topology import Complete, Edges, RandomRegular, Ring, Topology, Torus

__all__ = [
    "Always",
    "BestCase",
    "CellLoop",
    "Coevolution",
    "Complete",
    "Edges",
    "IfBetter",
    "IfNotDominated",
    "MeanCase",
    "RandomRegular",
    "Replacement",
    "Ring",
    "SolutionConcept",
    "Topology",
    "Torus",
    "WorstCase",
    "make_grid",
    "step_seconds",
]
