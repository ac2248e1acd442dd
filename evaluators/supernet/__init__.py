"""Supernets: many cells trained as one, from which one is chosen."""

from evaluators.supernet.record import EpochRecord
from evaluators.supernet.search import SupernetSearch
from evaluators.supernet.settings import SupernetSettings
from evaluators.supernet.training import SupernetTraining

__all__ = ["EpochRecord", "SupernetSearch", "SupernetSettings", "SupernetTraining"]
