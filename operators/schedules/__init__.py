"""When pruning happens: the chance of an event at each step of a run."""

from operators.schedules.base import Schedule
from operators.schedules.decrease import Decrease
from operators.schedules.exponential import Exponential
from operators.schedules.final_n import FinalN
from operators.schedules.fixed import Fixed
from operators.schedules.increase import Increase
from operators.schedules.never import Never
from operators.schedules.population import Population
from operators.schedules.prune_after import PruneAfter

__all__ = [
    "Decrease",
    "Exponential",
    "FinalN",
    "Fixed",
    "Increase",
    "Never",
    "Population",
    "PruneAfter",
    "Schedule",
]
