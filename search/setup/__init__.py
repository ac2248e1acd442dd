"""Before the first candidate: the base model, what can be reached, and what a run would be."""

from search.setup.baseline import Baseline
from search.setup.limits import Reach
from search.setup.planning import Plan, make_plan
from search.setup.preparation import MakeSpace, Preparation

__all__ = ["Baseline", "MakeSpace", "Plan", "Preparation", "Reach", "make_plan"]
