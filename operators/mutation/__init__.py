"""Mutations: changes of one genome."""

from operators.mutation.activation_guided import ActivationGuided
from operators.mutation.base import Mutation
from operators.mutation.bit_flip import BitFlip
from operators.mutation.budget_shift import BudgetShift
from operators.mutation.conjunctive_pruning import ConjunctivePruning
from operators.mutation.contribution_pruning import ContributionPruning
from operators.mutation.criterion_guided import CriterionGuided
from operators.mutation.growth import Growth
from operators.mutation.guided import Guided
from operators.mutation.pruning import Pruning
from operators.mutation.random_pruning import RandomPruning
from operators.mutation.removal_pruning import RemovalPruning
from operators.mutation.variance_pruning import VariancePruning

__all__ = [
    "ActivationGuided",
    "BitFlip",
    "BudgetShift",
    "ConjunctivePruning",
    "ContributionPruning",
    "CriterionGuided",
    "Growth",
    "Guided",
    "Mutation",
    "Pruning",
    "RandomPruning",
    "RemovalPruning",
    "VariancePruning",
]
