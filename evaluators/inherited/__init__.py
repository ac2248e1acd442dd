"""Short trainings that begin with the weights of a parent."""

from evaluators.inherited.accounting import Accounting
from evaluators.inherited.allowance import Allowance
from evaluators.inherited.channel_worth import CriterionWorth, RemovalTrials, Worth
from evaluators.inherited.evaluator import InheritedTraining
from evaluators.inherited.files import InheritedFiles, ParentRecord
from evaluators.inherited.parentage import Parentage
from evaluators.inherited.steps import BriefTraining
from evaluators.inherited.teaching import Teacher
from evaluators.inherited.transfer import WeightTransfer

__all__ = [
    "Accounting",
    "Allowance",
    "BriefTraining",
    "CriterionWorth",
    "InheritedFiles",
    "InheritedTraining",
    "ParentRecord",
    "Parentage",
    "RemovalTrials",
    "Teacher",
    "WeightTransfer",
    "Worth",
]
