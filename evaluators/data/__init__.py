"""The user's data: four disjoint splits, a loss, and metrics."""

from evaluators.data.arrays import Arrays
from evaluators.data.base import SPLITS, Data, Inputs, Split
from evaluators.data.digits import Digits
from evaluators.data.npz import NpzFile
from evaluators.data.preloaded import Preloaded
from evaluators.data.task import Classification, Regression, Task

__all__ = ["SPLITS", "Arrays", "Classification", "Data", "Digits", "Inputs", "NpzFile", "Preloaded", "Regression", "Split", "Task"]
