"""Changes of one genome."""

from operators.mutation.activation_guided import ActivationGuided
from operators.mutation.base import Mutation
from operators.mutation.bit_flip import BitFlip
from operators.mutation.budget_shift import BudgetShift
from operators.mutation.criterion_guided import CriterionGuided
from operators.mutation.guided import Guided

__all__ = ["ActivationGuided", "BitFlip", "BudgetShift", "CriterionGuided", "Guided", "Mutation"]
