"""What a candidate costs: parameters, MACs, bytes, and measured latency."""

from evaluators.cost.counting import COSTS, count
from evaluators.cost.evaluator import Cost, smallest
from evaluators.cost.latency import Latency, measure
from evaluators.cost.latency_model import LatencyModel
from evaluators.cost.planned import PlannedCosts

__all__ = ["COSTS", "Cost", "Latency", "LatencyModel", "PlannedCosts", "count", "measure", "smallest"]
