"""Who searches a table: ours by its public interface, and the others with their defaults.

Every arm is given a table, the metrics to minimise, a number of evaluations and a seed, and returns the
positions in the flattened table that it asked, in that order; who asks twice has wasted an evaluation. With
one objective a search may end at the optimum: nothing that comes later could change its regret.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna

from benchmarks.tables.recorded import Recorded, Table
from evaluators.base import Evaluation
from search import Evolution, Search, Strategy

Metrics = tuple[str, ...]
Arm = Callable[[Table, Metrics, int, int], np.ndarray]


class Asked:
    """A listener: which positions were asked, in the order of their ids."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._found: dict[int, int] = {}

    def evaluated(self, evaluation: Evaluation, joined: bool) -> None:
        self._found[evaluation.candidate.id] = self._table.index(evaluation.candidate.genome)

    @property
    def positions(self) -> np.ndarray:
        return np.array([self._found[id] for id in sorted(self._found)])


def ours(make: Callable[[], Strategy] = Evolution) -> Arm:
    """Return an arm of a strategy of ours, one candidate after another."""

    def run(table: Table, metrics: Metrics, evaluations: int, seed: int) -> np.ndarray:
        asked = Asked(table)
        search = Search(
            space=table.space,
            evaluators=[Recorded(table.name)],
            objectives=list(metrics),
            strategy=make(),
            study=False,
            seed=seed,
            lag=1,
            chunk=1,
            listeners=[asked],
        )
        search.run(evaluations=evaluations, target={metrics[0]: table.best} if len(metrics) == 1 else None)
        return asked.positions

    return run


def chance(table: Table, metrics: Metrics, evaluations: int, seed: int) -> np.ndarray:
    """Random search, none twice."""
    return np.random.default_rng(seed).choice(int(np.prod(table.shape)), evaluations, replace=False)


def regularised_evolution(table: Table, metrics: Metrics, evaluations: int, seed: int) -> np.ndarray:
    """Aging evolution (Real et al. 2019): population 20, tournaments of 8, one parameter changes.

    It knows one objective. Settings are those of the issue's first look; a population of 100 is still random
    at 200 evaluations.
    """
    rng, sizes = np.random.default_rng(seed), np.array(table.shape)
    (metric,) = metrics
    values = table.metrics[metric].ravel()
    asked: list[int] = []
    members: deque[int] = deque(maxlen=20)
    while len(asked) < evaluations and not _found(table, metrics, asked):
        if len(members) < 20:
            genome = rng.integers(sizes)
        else:
            drawn = rng.choice(len(members), 8, replace=False)
            parent = members[min(drawn, key=lambda row: values[members[row]])]
            genome = np.array(np.unravel_index(parent, table.shape))
            locus = rng.integers(len(sizes))
            genome[locus] = (genome[locus] + rng.integers(1, sizes[locus])) % sizes[locus]
        asked.append(table.index(genome))
        members.append(asked[-1])
    return np.array(asked)


def by_optuna(make: Callable[[int], optuna.samplers.BaseSampler]) -> Arm:
    """Return an arm of a sampler of Optuna's: words are categories, numbers positions in their order."""

    def run(table: Table, metrics: Metrics, evaluations: int, seed: int) -> np.ndarray:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(sampler=make(seed), directions=["minimize"] * len(metrics))
            asked: list[int] = []
            while len(asked) < evaluations and not _found(table, metrics, asked):
                trial = study.ask(distributions(table))
                genome = [position(values, trial.params[name]) for name, values in table.choices.items()]
                asked.append(table.index(np.array(genome)))
                study.tell(trial, [float(table.at(asked[-1], metric)) for metric in metrics])
        return np.array(asked)

    return run


def _found(table: Table, metrics: Metrics, asked: Sequence[int]) -> bool:
    """Return whether the last one asked is the best that there is of the only objective."""
    return len(metrics) == 1 and len(asked) > 0 and bool(table.at(np.array(asked[-1:]))[0] == table.best)


def distributions(table: Table) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return what Optuna draws from: categories for words, positions for numbers."""
    return {
        name: optuna.distributions.CategoricalDistribution(values)
        if isinstance(values[0], str)
        else optuna.distributions.IntDistribution(0, len(values) - 1)
        for name, values in table.choices.items()
    }


def position(values: Sequence[Any], chosen: Any) -> int:
    """Return the position of what Optuna drew."""
    return values.index(chosen) if isinstance(chosen, str) else chosen


def by_pymoo(name: str) -> Arm:
    """Return an arm of an algorithm of pymoo's on whole numbers, as its documentation sets one up: integer
    sampling, SBX and polynomial mutation with rounding.
    """

    def run(table: Table, metrics: Metrics, evaluations: int, seed: int) -> np.ndarray:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.algorithms.moo.nsga3 import NSGA3
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.optimize import minimize
        from pymoo.util.ref_dirs import get_reference_directions

        asked: list[int] = []

        class Lookup(Problem):
            def __init__(self) -> None:
                upper = np.array(table.shape) - 1
                super().__init__(n_var=len(upper), n_obj=len(metrics), xl=0, xu=upper, vtype=int)

            def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
                positions = np.ravel_multi_index(tuple(x.astype(int).T), table.shape)
                asked.extend(positions.tolist())
                out["F"] = np.column_stack([table.at(positions, metric) for metric in metrics])

        operators: dict[str, Any] = {
            "sampling": IntegerRandomSampling(),
            "crossover": SBX(vtype=float, repair=RoundingRepair()),
            "mutation": PM(vtype=float, repair=RoundingRepair()),
            "eliminate_duplicates": True,
        }
        if name == "NSGA-II":
            algorithm = NSGA2(**operators)
        else:
            directions = get_reference_directions("das-dennis", len(metrics), n_partitions=12)
            algorithm = NSGA3(ref_dirs=directions, **operators)
        minimize(Lookup(), algorithm, ("n_eval", evaluations), seed=seed, verbose=False)
        return np.array(asked[:evaluations])

    return run


OURS = "Secateur"
OPPONENTS: dict[str, Arm] = {
    "random search": chance,
    "Optuna TPE": by_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "Optuna NSGA-II": by_optuna(lambda seed: optuna.samplers.NSGAIISampler(seed=seed)),
    "regularised evolution": regularised_evolution,
    "pymoo NSGA-II": by_pymoo("NSGA-II"),
    "pymoo NSGA-III": by_pymoo("NSGA-III"),
    "Optuna GPSampler": by_optuna(lambda seed: optuna.samplers.GPSampler(seed=seed)),
}
ABLATIONS: dict[str, Arm] = {
    "Secateur, no model": ours(lambda: Evolution(surrogate=None)),
    "Secateur, as it was": ours(lambda: Evolution(**Evolution.former_defaults)),
}
ARMS = {OURS: ours()} | OPPONENTS | ABLATIONS
ALONE = {"regularised evolution", "Optuna GPSampler"}
"""Arms that know one objective, or take minutes a seed with several."""
SLOW = {"Optuna GPSampler": 200}
"""Arms that grow slower with the cube of the evaluations: they get no more than these."""
