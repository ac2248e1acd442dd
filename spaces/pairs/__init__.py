"""Pairs of an encoder and a decoder: of one architecture, or of several."""

from spaces.pairs.mixed import MixedPairs, Pairs
from spaces.pairs.pair import Pair, VariationalPair
from spaces.pairs.space import PairSpace
from spaces.pairs.units import Units

__all__ = ["MixedPairs", "Pair", "PairSpace", "Pairs", "Units", "VariationalPair"]
