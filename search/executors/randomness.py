"""The global random generators, lent to one candidate at a time: as evaluators have them."""

from evaluators.randomness import Randomness

__all__ = ["Randomness"]
