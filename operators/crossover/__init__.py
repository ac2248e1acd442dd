"""Crossover: one child of two parents."""

from operators.crossover.base import Crossover
from operators.crossover.segment_wise import SegmentWise
from operators.crossover.uniform import Uniform

__all__ = ["Crossover", "SegmentWise", "Uniform"]
