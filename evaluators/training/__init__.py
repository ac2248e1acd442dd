"""Training, fine-tuning, and trials of hyper-parameters; checkpoints and weights."""

from evaluators.training.checkpoint import Checkpoint
from evaluators.training.distillation import Distillation
from evaluators.training.evaluator import Training, fit
from evaluators.training.finetuning import FineTuning, OwnTuning, Untuned
from evaluators.training.fitting import Fitting
from evaluators.training.own import OwnTraining
from evaluators.training.settings import TrainingSettings
from evaluators.training.trials import TrialTraining
from evaluators.training.weights import pack_weights, unpack_weights

__all__ = [
    "Checkpoint",
    "Distillation",
    "FineTuning",
    "Fitting",
    "OwnTraining",
    "OwnTuning",
    "Training",
    "TrainingSettings",
    "TrialTraining",
    "Untuned",
    "fit",
    "pack_weights",
    "unpack_weights",
]
