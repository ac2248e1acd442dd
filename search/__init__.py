"""HOW we look: strategies, the loop, executors, the ledger, dashboard, report, export."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.budget import Budget
    from search.coevolution import CellLoop, Coevolution
    from search.engine import Search
    from search.evolution import Evolution
    from search.executors.base import Executor
    from search.executors.inline import InlineExecutor
    from search.executors.ray_tasks import RayExecutor
    from search.executors.simulated import SimulatedExecutor
    from search.finish import Finish
    from search.from_run import FromRun
    from search.front import Front
    from search.halving import SuccessiveHalving
    from search.ladder import Ladder
    from search.ledger import Ledger
    from search.lineages import Lineages
    from search.loop import Loop
    from search.planning import Plan
    from search.problem import Constraint, Objective, Problem
    from search.pruners import NonDominationPruner, TICPruner
    from search.random_search import RandomSearch
    from search.raytune import StudyScheduler, StudySearch
    from search.recipe import load
    from search.result import Result
    from search.stages import Stages
    from search.strategy import Strategy
    from search.surrogate import Surrogate
    from search.tuning import Tuning

__all__ = [
    "Budget",
    "CellLoop",
    "Coevolution",
    "Constraint",
    "Evolution",
    "Executor",
    "Finish",
    "FromRun",
    "Front",
    "InlineExecutor",
    "Ladder",
    "Ledger",
    "Lineages",
    "Loop",
    "NonDominationPruner",
    "Objective",
    "Plan",
    "Problem",
    "RandomSearch",
    "RayExecutor",
    "Result",
    "Search",
    "SimulatedExecutor",
    "Stages",
    "Strategy",
    "StudyScheduler",
    "StudySearch",
    "SuccessiveHalving",
    "Surrogate",
    "TICPruner",
    "Tuning",
    "load",
]

# A name is imported when it is first used: a worker process starts seconds earlier without the report, the
# view and Ray.
_HOMES = {
    "Budget": "search.budget",
    "CellLoop": "search.coevolution",
    "Coevolution": "search.coevolution",
    "Constraint": "search.problem",
    "Evolution": "search.evolution",
    "Executor": "search.executors.base",
    "Finish": "search.finish",
    "FromRun": "search.from_run",
    "Front": "search.front",
    "InlineExecutor": "search.executors.inline",
    "Ladder": "search.ladder",
    "Ledger": "search.ledger",
    "Lineages": "search.lineages",
    "Loop": "search.loop",
    "NonDominationPruner": "search.pruners",
    "Objective": "search.problem",
    "Plan": "search.planning",
    "Problem": "search.problem",
    "RandomSearch": "search.random_search",
    "RayExecutor": "search.executors.ray_tasks",
    "Result": "search.result",
    "Search": "search.engine",
    "SimulatedExecutor": "search.executors.simulated",
    "Stages": "search.stages",
    "Strategy": "search.strategy",
    "StudyScheduler": "search.raytune",
    "StudySearch": "search.raytune",
    "SuccessiveHalving": "search.halving",
    "Surrogate": "search.surrogate",
    "TICPruner": "search.pruners",
    "Tuning": "search.tuning",
    "load": "search.recipe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
