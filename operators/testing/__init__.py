"""Contracts of the operators, for your own as for ours.

``class TestMine(MutationContract)`` with a method ``mutation`` inherits all checks; pytest runs them.
"""

from operators.testing.criterion import CriterionContract
from operators.testing.crossover import CrossoverContract
from operators.testing.initialisation import InitialisationContract
from operators.testing.mutation import MutationContract
from operators.testing.pruning import PruningContract
from operators.testing.rule import RuleContract
from operators.testing.selection import SelectionContract

__all__ = [
    "CriterionContract",
    "CrossoverContract",
    "InitialisationContract",
    "MutationContract",
    "PruningContract",
    "RuleContract",
    "SelectionContract",
]
