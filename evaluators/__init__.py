"""How good a candidate is: data, cost, quality, latency, training and fine-tuning."""

from typing import TYPE_CHECKING, Any

from evaluators.assessment import assess
from evaluators.base import Candidate, Evaluation, Evaluator, Evaluators, Report, State
from evaluators.cost.counting import count
from evaluators.cost.evaluator import Cost, smallest
from evaluators.cost.latency import Latency, measure
from evaluators.cost.latency_model import LatencyModel
from evaluators.data import (
    Arrays,
    Augmented,
    BinaryClusters,
    CifarFolder,
    Classification,
    Data,
    Digits,
    ImageFolder,
    Loaders,
    MnistFolder,
    MultiLabel,
    NiftiFolder,
    NpzFile,
    Phantoms,
    Reconstruction,
    Regression,
    Restoring,
    Segmentation,
    Strings,
    Task,
    TokenClassification,
    WeightedClassification,
    WithSplitMetrics,
    overlap_by_case,
)
from evaluators.inherited.channel_worth import CriterionWorth, RemovalTrials, Worth
from evaluators.inherited.evaluator import InheritedTraining
from evaluators.pairs.corruption import Corruption, Denoising, Variational
from evaluators.pairs.evaluator import PairTraining
from evaluators.quality import Quality
from evaluators.racing import PairedRace, Rivals
from evaluators.repeated import Repeated
from evaluators.supernet import SupernetSearch, SupernetSettings, SupernetTraining
from evaluators.training.distillation import Distillation
from evaluators.training.evaluator import Training, fit
from evaluators.training.finetuning import FineTuning
from evaluators.training.own import OwnTraining
from evaluators.training.settings import TrainingSettings
from evaluators.training.trials import TrialTraining
from evaluators.training.weights import pack_weights, unpack_weights
from spaces.calling import mode
from spaces.names import renamed

__all__ = [
    "Arrays",
    "Augmented",
    "BinaryClusters",
    "Candidate",
    "CifarFolder",
    "Classification",
    "Corruption",
    "Cost",
    "CriterionWorth",
    "Data",
    "Denoising",
    "Digits",
    "Distillation",
    "Evaluation",
    "Evaluator",
    "Evaluators",
    "FineTuning",
    "ImageFolder",
    "InheritedTraining",
    "Latency",
    "LatencyModel",
    "Loaders",
    "MnistFolder",
    "MultiLabel",
    "NiftiFolder",
    "NpzFile",
    "OwnTraining",
    "PairTraining",
    "PairedRace",
    "Phantoms",
    "Quality",
    "Reconstruction",
    "Regression",
    "RemovalTrials",
    "Repeated",
    "Report",
    "Restoring",
    "Rivals",
    "Segmentation",
    "State",
    "Strings",
    "SupernetSearch",
    "SupernetSettings",
    "SupernetTraining",
    "Task",
    "TokenClassification",
    "Training",
    "TrainingSettings",
    "TrialTraining",
    "Variational",
    "WeightedClassification",
    "WithSplitMetrics",
    "Worth",
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

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return renamed(__name__, name)
