"""Hyper-parameter searches: Optuna's samplers propose, pruners or brackets stop."""

from search.tuning.halving import SuccessiveHalving
from search.tuning.sampling import Sampling
from search.tuning.strategy import Tuning

__all__ = ["Sampling", "SuccessiveHalving", "Tuning"]
