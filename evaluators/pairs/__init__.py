"""Training of an encoder and a decoder as a pair, step by step."""

from evaluators.pairs.corruption import Corruption, Denoising, Variational
from evaluators.pairs.evaluator import PairTraining
from evaluators.pairs.state import CellFiles, PairState

__all__ = ["CellFiles", "Corruption", "Denoising", "PairState", "PairTraining", "Variational"]
