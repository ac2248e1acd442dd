"""HOW we look: strategies, the loop, executors, the ledger, dashboard, report, export."""

import warnings
from typing import TYPE_CHECKING

from search.packages import require_own

require_own("search", ("evaluators", "operators", "spaces"))

from spaces.lazy import lazily  # noqa: E402  only when it is known to be ours

# tqdm, which optuna imports, says it in every notebook without ipywidgets; our progress needs none
warnings.filterwarnings("ignore", message="IProgress not found")

if TYPE_CHECKING:
    from search.budget import Budget
    from search.coevolution import CellLoop, Coevolution
    from search.engine import Search
    from search.executors.base import Executor
    from search.executors.inline import InlineExecutor
    from search.executors.ray_tasks import RayExecutor
    from search.executors.simulated import SimulatedExecutor
    from search.finish.finish import Finish
    from search.finish.recipe import load
    from search.front import Front
    from search.listeners import Listener, MLflow, TensorBoard, WandB
    from search.loop import Loop
    from search.problem import Constraint, Objective, Problem
    from search.pruners import LeadersPruner, NonDominationPruner, TICPruner
    from search.raytune.scheduler import StudyScheduler
    from search.raytune.searcher import StudySearch
    from search.record.ledger import Ledger
    from search.result import Result
    from search.setup.planning import RunPlan
    from search.strategies.evolution import Evolution
    from search.strategies.expected_improvement import ExpectedImprovement
    from search.strategies.ladder import Ladder
    from search.strategies.preselection import Preselection
    from search.strategies.pruning_lines import PruningLines
    from search.strategies.random_search import RandomSearch
    from search.strategies.stages import Stages
    from search.strategies.surrogate import Surrogate
    from search.strategy import SearchStrategy, Strategy
    from search.tuning.halving import SuccessiveHalving
    from search.tuning.strategy import Tuning
    from search.warm_start.from_run import FromRun

__all__ = [
    "Budget",
    "CellLoop",
    "Coevolution",
    "Constraint",
    "Evolution",
    "Executor",
    "ExpectedImprovement",
    "Finish",
    "FromRun",
    "Front",
    "InlineExecutor",
    "Ladder",
    "LeadersPruner",
    "Ledger",
    "Listener",
    "Loop",
    "MLflow",
    "NonDominationPruner",
    "Objective",
    "Preselection",
    "Problem",
    "PruningLines",
    "RandomSearch",
    "RayExecutor",
    "Result",
    "RunPlan",
    "Search",
    "SearchStrategy",
    "SimulatedExecutor",
    "Stages",
    "Strategy",
    "StudyScheduler",
    "StudySearch",
    "SuccessiveHalving",
    "Surrogate",
    "TICPruner",
    "TensorBoard",
    "Tuning",
    "WandB",
    "load",
]

# A name is imported when it is first used: a worker process starts seconds earlier without the report, the
# view and Ray.
_HOMES = {
    "Budget": "search.budget",
    "CellLoop": "search.coevolution",
    "Coevolution": "search.coevolution",
    "Constraint": "search.problem",
    "Evolution": "search.strategies.evolution",
    "Executor": "search.executors.base",
    "ExpectedImprovement": "search.strategies.expected_improvement",
    "Finish": "search.finish.finish",
    "FromRun": "search.warm_start.from_run",
    "Front": "search.front",
    "InlineExecutor": "search.executors.inline",
    "Ladder": "search.strategies.ladder",
    "LeadersPruner": "search.pruners",
    "Ledger": "search.record.ledger",
    "PruningLines": "search.strategies.pruning_lines",
    "Listener": "search.listeners",
    "Loop": "search.loop",
    "MLflow": "search.listeners",
    "NonDominationPruner": "search.pruners",
    "Objective": "search.problem",
    "RunPlan": "search.setup.planning",
    "Preselection": "search.strategies.preselection",
    "Problem": "search.problem",
    "RandomSearch": "search.strategies.random_search",
    "RayExecutor": "search.executors.ray_tasks",
    "Result": "search.result",
    "Search": "search.engine",
    "SearchStrategy": "search.strategy",
    "SimulatedExecutor": "search.executors.simulated",
    "Stages": "search.strategies.stages",
    "Strategy": "search.strategy",
    "StudyScheduler": "search.raytune.scheduler",
    "StudySearch": "search.raytune.searcher",
    "SuccessiveHalving": "search.tuning.halving",
    "Surrogate": "search.strategies.surrogate",
    "TICPruner": "search.pruners",
    "TensorBoard": "search.listeners",
    "Tuning": "search.tuning.strategy",
    "WandB": "search.listeners",
    "load": "search.finish.recipe",
}

__getattr__ = lazily(__name__, _HOMES, former=("Lineages", "Plan"))
