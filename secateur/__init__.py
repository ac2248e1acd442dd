"""Secateur: a search engine for smaller neural networks.

Everything public is here, under a name that is unique and stays: ``from secateur import Search, Evolution``.
A name is imported when it is first used, so that this package alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluators import *  # noqa: F403
    from evaluators.data import *  # noqa: F403
    from evaluators.supernet import *  # noqa: F403
    from evaluators.tic import *  # noqa: F403
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
    from search.pruners import *  # noqa: F403
    from spaces import *  # noqa: F403
    from spaces.cells import *  # noqa: F403
    from spaces.models import *  # noqa: F403

_EXPORTS = {
    "search": """
        Budget CellLoop Coevolution Constraint Evolution Executor Finish FromRun Front InlineExecutor
        Ladder Ledger Loop NonDominationPruner Objective Problem PruningLines RandomSearch RayExecutor
        Result RunPlan Search SimulatedExecutor Stages Strategy StudyScheduler StudySearch
        SuccessiveHalving Surrogate TICPruner Tuning load
    """,
    "search.coevolution": """
        Always BestCase Complete Edges IfBetter IfNotDominated MeanCase RandomRegular Replacement Ring
        SolutionConcept Topology Torus WorstCase
    """,
    "search.executors": """
        Event Finished Reported Started
    """,
    "evaluators": """
        Arrays Augmented BinaryClusters Candidate CifarFolder Classification Corruption Cost Data
        Denoising Digits Distillation Evaluation Evaluator Evaluators FineTuning InheritedTraining
        Latency MnistFolder NiftiFolder NpzFile PairTraining Phantoms Quality Reconstruction Regression
        Report Restoring Segmentation State Strings SupernetSearch SupernetSettings SupernetTraining
        Task Training TrialTraining Variational assess count fit measure smallest
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
        FromCriteria Initialisation Sampled UniformBudget
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


def _see_that_packages_are_ours() -> None:
    """Refuse a package of somebody else's that stands in front of one of ours: ``spaces`` is also on the
    index.

    Raises:
        ImportError: one line that names the package and where it lies.
    """
    here = Path(__file__).resolve().parents[1]
    for name in ("spaces", "operators", "evaluators", "search"):
        spec = find_spec(name)
        places = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or ""])
        if here / name not in [Path(place).resolve() for place in places]:
            found = f"the one in {places[0]}" if places else "none"
            raise ImportError(
                f"secateur: expected the package {name!r} in {here}, found {found}; put {here} first on "
                f"PYTHONPATH, or remove the other package"
            )


_see_that_packages_are_ours()
