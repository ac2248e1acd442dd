"""Initialisations: the first candidates of a search."""

from operators.initialisation.base import Initialisation
from operators.initialisation.from_criteria import FromCriteria
from operators.initialisation.given import Given, default_initialisation
from operators.initialisation.sampled import Sampled
from operators.initialisation.uniform_budget import UniformBudget

__all__ = [
    "FromCriteria",
    "Given",
    "Initialisation",
    "Sampled",
    "UniformBudget",
    "default_initialisation",
]
