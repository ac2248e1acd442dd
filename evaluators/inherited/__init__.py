"""Short trainings that begin with the weights of a parent."""

from evaluators.inherited.accounting import Accounting
from evaluators.inherited.allowance import Allowance
from evaluators.inherited.channel_worth import CriterionWorth, RemovalTrials, Worth
from evaluators.inherited.evaluator import LineageTraining
from evaluators.inherited.files import Inheritance, LineageFiles
from evaluators.inherited.parentage import Parentage
from evaluators.inherited.steps import BriefTraining
from evaluators.inherited.teaching import Teacher
from evaluators.inherited.transfer import Heritage

__all__ = [
    "Accounting",
    "Allowance",
    "BriefTraining",
    "CriterionWorth",
    "Heritage",
    "Inheritance",
    "LineageFiles",
    "LineageTraining",
    "Parentage",
    "RemovalTrials",
    "Teacher",
    "Worth",
]
