"""Before the first candidate: the base model, what can be reached, and what a run would be."""

from search.setup.baseline import Baseline
from search.setup.limits import Attainable
from search.setup.planning import RunPlan, make_plan
from search.setup.preparation import MakeSpace, Preparation

__all__ = ["Attainable", "Baseline", "MakeSpace", "Preparation", "RunPlan", "make_plan"]
