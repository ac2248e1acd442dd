"""Pairs of an encoder and a decoder: of one architecture, or of several."""

from spaces.pairs.mixed import MixedPairs, Pairs
from spaces.pairs.space import Pair, PairSpace, VariationalPair
from spaces.pairs.units import Units

__all__ = ["MixedPairs", "Pair", "PairSpace", "Pairs", "Units", "VariationalPair"]
