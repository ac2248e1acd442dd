"""The user's data: four disjoint splits, a loss, and metrics."""

from evaluators.data.arrays import Arrays
from evaluators.data.augmented import Augmented
from evaluators.data.base import SPLITS, Data, Inputs, Split
from evaluators.data.cifar import CifarFolder
from evaluators.data.clusters import BinaryClusters
from evaluators.data.digits import Digits
from evaluators.data.image_folder import ImageFolder
from evaluators.data.loaders import Loaders
from evaluators.data.mnist import MnistFolder
from evaluators.data.nifti import NiftiFolder
from evaluators.data.npz import NpzFile
from evaluators.data.phantoms import Phantoms
from evaluators.data.preloaded import Preloaded
from evaluators.data.reconstruction import Reconstruction, Restoring
from evaluators.data.segmentation import Segmentation, overlap_by_case
from evaluators.data.split_metrics import WithSplitMetrics
from evaluators.data.strings import Strings
from evaluators.data.task import Classification, Regression, Task, WeightedClassification
from evaluators.data.tokens import MultiLabel, TokenClassification

__all__ = [
    "SPLITS",
    "Arrays",
    "Augmented",
    "BinaryClusters",
    "CifarFolder",
    "Classification",
    "Data",
    "Digits",
    "ImageFolder",
    "Inputs",
    "Loaders",
    "MnistFolder",
    "MultiLabel",
    "NiftiFolder",
    "NpzFile",
    "Phantoms",
    "Preloaded",
    "Reconstruction",
    "Regression",
    "Restoring",
    "Segmentation",
    "Split",
    "Strings",
    "Task",
    "TokenClassification",
    "WeightedClassification",
    "WithSplitMetrics",
    "overlap_by_case",
]
