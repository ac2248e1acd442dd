"""How good a candidate is: data, cost, quality, latency, training and fine-tuning."""

from evaluators.assessment import assess
from evaluators.base import Candidate, Evaluation, Evaluator, Evaluators, Report, State
from evaluators.corruption import Corruption, Denoising, Variational
from evaluators.cost import Cost, smallest
from evaluators.counting import count
from evaluators.data import (
    Arrays,
    Augmented,
    BinaryClusters,
    CifarFolder,
    Classification,
    Data,
    Digits,
    MnistFolder,
    NiftiFolder,
    NpzFile,
    Phantoms,
    Reconstruction,
    Regression,
    Restoring,
    Segmentation,
    Strings,
    Task,
    overlap_by_case,
)
from evaluators.distillation import Distillation
from evaluators.finetuning import FineTuning
from evaluators.latency import Latency, measure
from evaluators.lineage import LineageTraining
from evaluators.pairs import PairTraining
from evaluators.quality import Quality
from evaluators.supernet import SupernetSearch, SupernetSettings, SupernetTraining
from evaluators.training import Training, fit
from evaluators.trial_training import TrialTraining
from evaluators.weights import pack_weights, unpack_weights
from spaces.channels.trace import mode

__all__ = [
    "Arrays",
    "Augmented",
    "BinaryClusters",
    "Candidate",
    "CifarFolder",
    "Classification",
    "Corruption",
    "Cost",
    "Data",
    "Denoising",
    "Digits",
    "Distillation",
    "Evaluation",
    "Evaluator",
    "Evaluators",
    "FineTuning",
    "Latency",
    "LineageTraining",
    "MnistFolder",
    "NiftiFolder",
    "NpzFile",
    "PairTraining",
    "Phantoms",
    "Quality",
    "Reconstruction",
    "Regression",
    "Report",
    "Restoring",
    "Segmentation",
    "State",
    "Strings",
    "SupernetSearch",
    "SupernetSettings",
    "SupernetTraining",
    "Task",
    "Training",
    "TrialTraining",
    "Variational",
    "assess",
    "count",
    "fit",
    "measure",
    "mode",
    "overlap_by_case",
    "pack_weights",
    "smallest",
    "unpack_weights",
]
