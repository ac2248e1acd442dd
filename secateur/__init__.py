"""Secateur: a search engine for smaller neural networks.

Everything public is here, under a name that is unique and stays: ``from secateur import Search, Evolution``.
A name is imported when it is first used, so that this package alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from search.packages import require_own
except ModuleNotFoundError:
    _here = Path(__file__).resolve().parents[1]
    raise ImportError(
        f"secateur: expected the package 'search' in {_here}, found another; put {_here} first on PYTHONPATH"
    ) from None

if TYPE_CHECKING:
    from evaluators import *  # noqa: F403
    from evaluators.data import *  # noqa: F403
    from evaluators.supernet import *  # noqa: F403
    from evaluators.tic import *  # noqa: F403
    from operators.controller import *  # noqa: F403
    from operators.criteria import *  # noqa: F403
    from operators.crossover import *  # noqa: F403
    from operators.initialisation import *  # noqa: F403
    from operators.mutation import *  # noqa: F403
    from operators.schedules import *  # noqa: F403
    from operators.selection import *  # noqa: F403
    from operators.stability import *  # noqa: F403
    from search import *  # noqa: F403
    from search.coevolution import *  # noqa: F403
    from search.executors import *  # noqa: F403
    from search.listeners import *  # noqa: F403
    from search.pruners import *  # noqa: F403
    from spaces import *  # noqa: F403
    from spaces.cells import *  # noqa: F403
    from spaces.models import *  # noqa: F403
    from spaces.pretrained import *  # noqa: F403

_EXPORTS = {
    "search": """
        Budget CellLoop Coevolution Constraint Evolution Executor ExpectedImprovement Finish FromRun Front
        InlineExecutor Ladder LeadersPruner Ledger Listener Loop MLflow NonDominationPruner Objective
        Preselection Problem PruningLines
        RandomSearch RayExecutor Result RunPlan Search SearchStrategy SimulatedExecutor Stages Strategy
        StudyScheduler StudySearch SuccessiveHalving Surrogate TICPruner TensorBoard Tuning WandB load
    """,
    "search.listeners": """
        RunFacts
    """,
    "search.coevolution": """
        Always BestCase Complete Edges IfBetter IfNotDominated MeanCase RandomRegular Replacement Ring
        SolutionConcept Topology Torus WorstCase
    """,
    "search.executors": """
        Event Finished Reported Started
    """,
    "evaluators": """
        Arrays Augmented BinaryClusters Candidate CifarFolder Classification Corruption Cost
        CriterionWorth Data Denoising Digits Distillation Evaluation Evaluator Evaluators FineTuning
        ImageFolder InheritedTraining Latency LatencyModel Loaders MnistFolder MultiLabel NiftiFolder NpzFile
        OwnTraining PairTraining PairedRace Phantoms Quality Reconstruction Regression RemovalTrials Repeated
        Report Restoring Rivals Segmentation State Strings SupernetSearch SupernetSettings SupernetTraining
        Task TokenClassification Training TrainingSettings TrialTraining Variational
        WeightedClassification WithSplitMetrics Worth
        assess count fit measure smallest
    """,
    "evaluators.data": """
        Inputs Preloaded Split
    """,
    "evaluators.tic": """
        CrossEntropy Likelihood NonFiniteGradients Prediction RegimeGauge SquaredError TIC
    """,
    "evaluators.supernet": """
        EpochRecord
    """,
    "operators.controller": """
        Controller
    """,
    "operators.criteria": """
        Activation Activations Batches Criterion Loss Magnitude Random Taylor
    """,
    "operators.mutation": """
        ActivationGuided BitFlip BudgetShift ConjunctivePruning ContributionPruning CriterionGuided
        Growth Guided Mutation Pruning RandomPruning RemovalPruning VariancePruning
    """,
    "operators.crossover": """
        Crossover SegmentWise Uniform
    """,
    "operators.initialisation": """
        FromCriteria Given Initialisation Sampled UniformBudget
    """,
    "operators.selection": """
        NSGA2Selection NSGA3Selection Selection
    """,
    "operators.schedules": """
        Decrease Exponential FinalN Fixed Increase Never Population PruneAfter Schedule
    """,
    "operators.stability": """
        EdgeHistory Entropy FixedStop HistogramIntersection Histories NoRemoval RandomRemoval RankStop
        Rule Stability
    """,
    "spaces": """
        Categorical CellSpace ChannelSpace Choice ChoiceSpace Float HyperParameters InputError Integer
        JointSpace Masked MixedPairs Pair PairSpace Pairs Part Segment Sliced Space SupernetSpace
        Trained TrialSpace VariationalPair
    """,
    "spaces.cells": """
        Cell CellGraph CellNetwork CellPlan CellStack DenseGraph Design EdgeGraph Insertion Operations
        Place SkipUNet Supernet
    """,
    "spaces.pretrained": """
        HuggingFace Timm Torchvision load_pretrained
    """,
    "spaces.models": """
        Bits DenseNet Perceptron ResidualBlock ResidualNet
    """,
}

HOMES: dict[str, str] = {name: package for package, names in _EXPORTS.items() for name in names.split()}
"""Public name -> the package that exports it."""

__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})


require_own("secateur", ("search", "evaluators", "operators", "spaces"))
