"""Takeuchi's information criterion: the bias of a model's training loss."""

from evaluators.tic.criterion import TIC, NonFiniteGradients
from evaluators.tic.gauge import RegimeGauge
from evaluators.tic.likelihood import CrossEntropy, Likelihood, SquaredError
from evaluators.tic.prediction import Prediction, attribute

__all__ = [
    "TIC",
    "CrossEntropy",
    "Likelihood",
    "NonFiniteGradients",
    "Prediction",
    "RegimeGauge",
    "SquaredError",
    "attribute",
]
