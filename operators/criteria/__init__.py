"""What a channel is worth: one score a locus, higher means keep."""

from operators.criteria.activation import Activation
from operators.criteria.activations import Activations, record
from operators.criteria.base import Batches, Criterion, Loss
from operators.criteria.magnitude import Magnitude
from operators.criteria.random import Random
from operators.criteria.removal import removal_losses
from operators.criteria.scoring import score_all
from operators.criteria.taylor import Taylor

__all__ = [
    "Activation",
    "Activations",
    "Batches",
    "Criterion",
    "Loss",
    "Magnitude",
    "Random",
    "Taylor",
    "record",
    "removal_losses",
    "score_all",
]
