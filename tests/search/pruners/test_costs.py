"""What a pruner knows of a trial: costs from the first report on, nothing of what has not come yet; and what
a run says in which everything was stopped.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import optuna
import pytest

from evaluators.base import Evaluator, Evaluators, Report, State
from evaluators.data.digits import Digits
from evaluators.training.trials import TrialTraining
from search.budget import Budget
from search.engine import Search
from search.executors import RayExecutor
from search.executors.base import Executor
from search.executors.inline import InlineExecutor
from search.executors.simulated import SimulatedExecutor
from search.loop import Loop
from search.problem import Objective, Problem
from search.pruners import NonDominationPruner, TICPruner
from search.raytune.searcher import StudySearch
from search.record.ledger import Ledger
from search.testing import Toy
from search.testing.trial_toys import Curves, tuning_problem
from search.tuning.halving import SuccessiveHalving
from search.tuning.strategy import Tuning
from spaces.models import DenseNet
from spaces.trials import TrialSpace

MEDIAN = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)


class Late(Curves):
    """Curves with a size that only the last report has."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = (*self.metrics, "late")

    def evaluate(self, model, candidate):
        for report in super().evaluate(model, candidate):
            last = report.step == self.epochs
            yield Report(report.metrics | ({"late": 1.0} if last else {}), report.step)


def problem(*objectives: str, last: Evaluator | None = None, cost=lambda width: width) -> Problem:
    """Curves beside a cost of the width, which is screened."""
    found = tuning_problem()

    def costs(genomes: np.ndarray) -> dict[str, np.ndarray]:
        widths = [found.space.values(genome)["width"] for genome in genomes]
        return {"size": np.array([cost(width) for width in widths], dtype=float)}

    evaluator = Evaluators([Toy(costs, (), ("size",)), last or Curves()])
    evaluator.bind(found.space)
    return replace(found, evaluator=evaluator, objectives=tuple(map(Objective.parse, objectives)))


def play(problem: Problem, strategy, evaluations: int = 30, executor: Executor | None = None):
    ledger = Ledger(None, problem.space)
    executor = executor or InlineExecutor()
    Loop(problem, strategy, executor, ledger, Budget(evaluations), seed=1, lag=4, chunk=2).run()
    executor.close()
    return [evaluation for _, evaluation in ledger.evaluations()]


def stopped(evaluations):
    return [e for e in evaluations if "Pruner at step" in e.reason]


def compared(evaluations) -> None:
    """See that the cheap and the good came through, and that only what is dominated was stopped."""
    complete = [e for e in evaluations if e.state is State.COMPLETE]
    assert len(complete) >= 5 and stopped(evaluations)
    cheapest = min(evaluations, key=lambda e: (e.metrics["size"], e.metrics["loss"]))
    assert cheapest.state is State.COMPLETE or "diverged" in cheapest.reason


def test_a_cost_is_an_objective_of_a_trial_from_its_first_report():
    evaluations = play(problem("loss", "size"), Tuning("random", NonDominationPruner(startup_trials=5)))
    compared(evaluations)
    ids = [e.candidate.id for e in stopped(evaluations)]
    assert min(ids) >= 5, "none is stopped before five others came to the step"
    best = {e.candidate.id for e in evaluations if "diverged" not in e.reason} - {
        b.candidate.id
        for a in evaluations
        for b in evaluations
        if a.metrics["size"] < b.metrics["size"] and a.metrics["loss"] < b.metrics["loss"]
    }
    assert not best & set(ids), "nothing that no other beats in both was stopped"


@pytest.mark.parametrize("workers", [1, 3])
def test_which_trials_a_cost_stops_does_not_depend_on_the_workers(workers):
    def outcome(executor):
        strategy = Tuning("random", NonDominationPruner(startup_trials=3))
        found = play(problem("loss", "size"), strategy, executor=executor)
        return {e.candidate.id: (e.state, e.reason) for e in found}

    times = np.random.default_rng(0)
    executor = SimulatedExecutor(workers, lambda candidate: float(times.lognormal()))
    assert outcome(executor) == outcome(None)


def test_a_cost_is_known_to_a_trial_of_a_ray_worker(shared_ray):
    executor = RayExecutor(workers=2)
    strategy = Tuning("random", NonDominationPruner(startup_trials=4))
    compared(play(problem("loss", "size"), strategy, 24, executor))


@pytest.mark.parametrize("pruner", [MEDIAN, TICPruner(startup_trials=3)], ids=lambda p: type(p).__name__)
def test_a_cost_may_stand_in_what_is_watched(pruner):
    strategy = Tuning("random", pruner, monitor="predicted_loss + size")
    evaluations = play(problem("loss", cost=lambda width: width / 1000), strategy)
    assert stopped(evaluations) and any(e.state is State.COMPLETE for e in evaluations)


@pytest.mark.parametrize(
    ("pruner", "monitor", "objectives"),
    [
        (NonDominationPruner(startup_trials=0), None, ("loss", "late")),
        (MEDIAN, "late", ("loss",)),
        (optuna.pruners.SuccessiveHalvingPruner(), "loss + late", ("loss",)),
        (TICPruner(startup_trials=0), "late", ("loss",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_only_the_last_report_has_stops_nothing_before_and_is_named_once(
    pruner, monitor, objectives, caplog
):
    with caplog.at_level(logging.WARNING):
        evaluations = play(problem(*objectives, last=Late()), Tuning("random", pruner, monitor=monitor), 16)
    assert not [e for e in stopped(evaluations) if not e.reason.endswith("step 9")]
    assert any(e.state is State.COMPLETE for e in evaluations)
    told = [record.getMessage() for record in caplog.records if "late" in record.getMessage()]
    assert told == [f"late is not known at step 1; {type(pruner).__name__} stops no trial before it is"]


def test_a_screened_value_that_is_not_a_number_stops_nothing(caplog):
    strategy = Tuning("random", NonDominationPruner(startup_trials=0))
    evaluations = play(problem("loss", "size", cost=lambda width: math.nan), strategy, 8)
    assert not stopped(evaluations)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("search")] == [
        "size is not known at step 1; NonDominationPruner stops no trial before it is"
    ]


def test_halving_by_what_only_the_last_report_has_comes_to_an_end(caplog):
    strategy = SuccessiveHalving(9, brackets=1, monitor="late")
    evaluations = play(problem("loss", last=Late()), strategy, 100)
    assert any(e.state is State.COMPLETE for e in evaluations)
    assert [record.getMessage() for record in caplog.records if "late" in record.getMessage()] == [
        "late is not known at step 1; trials without it rank last there"
    ]


@pytest.mark.parametrize("directions", [("minimize", "minimize"), ("maximize", "minimize")])
@pytest.mark.parametrize("startup", [0, 5])
def test_a_trial_with_an_unknown_objective_is_not_pruned_in_a_study_of_ones_own(directions, startup, caplog):
    study = optuna.create_study(directions=list(directions))
    study.set_metric_names(["loss", "latency"])
    pruner = NonDominationPruner(startup_trials=startup)
    for step in (1, 2):
        for _ in range(6):
            trial = study.ask()
            pruner.report(trial, (1.0, math.nan), step)
            assert pruner.should_prune(trial) is False
    told = [record.getMessage() for record in caplog.records if record.name.startswith("search")]
    assert len(told) == 1 and "latency is not a number" in told[0]


def test_in_ray_tune_a_cost_may_be_reported_once_and_what_is_missing_is_named(caplog):
    study = optuna.create_study(directions=["minimize", "minimize"])
    search = StudySearch(study, {"x": optuna.distributions.FloatDistribution(0, 1)}, metric=["loss", "size"])
    pruner = NonDominationPruner(startup_trials=0)
    for name, size, loss, weak in (("a", 1.0, 1.0, False), ("b", 2.0, 2.0, True), ("c", 0.5, 3.0, False)):
        search.suggest(name)
        assert not search.judge(name, {"loss": loss, "training_iteration": 1}, pruner)
        assert not search.judge(name, {"size": size, "loss": loss, "training_iteration": 2}, pruner) or weak
        if name in search._live:
            assert search.judge(name, {"loss": loss, "training_iteration": 3}, pruner) is weak
    assert [r.getMessage() for r in caplog.records if r.name.startswith("search")] == [
        "no result has size at step 1; no trial is stopped before it has"
    ]
    search.on_trial_complete("a", {"loss": 0.9, "training_iteration": 4})
    assert study.trials[0].values == [0.9, 1.0]


SPACE = {
    "training.learning_rate": {"low": 1e-3, "high": 0.1, "log": True},
    "model.width": {"low": 8, "high": 16},
}


@pytest.mark.parametrize(
    ("strategy", "rate", "cause", "advice"),
    [
        (
            Tuning("random", optuna.pruners.ThresholdPruner(upper=0.0)),
            0.1,
            "4 by ThresholdPruner",
            "min_resource",
        ),
        (Tuning("random"), 1e30, "4 diverged: loss is nan", "learning rate"),
        (SuccessiveHalving(27, monitor="loss"), 0.1, "4 paused", "search.budget.evaluations"),
    ],
    ids=["pruner", "divergence", "halving"],
)
def test_a_run_in_which_everything_was_stopped_says_so(tmp_path, strategy, rate, cause, advice):
    parameters = SPACE | {"training.learning_rate": {"low": rate / 10, "high": rate, "log": True}}
    search = Search(
        data=Digits(train_samples=64),
        space=TrialSpace(parameters, model=DenseNet),
        evaluators=[TrialTraining(epochs=3, schedule="constant", optimiser="sgd")],
        objectives=["loss"],
        strategy=strategy,
        directory=tmp_path / "run",
        lag=2,
        chunk=1,
        study=False,
    )
    result = search.run(evaluations=4)
    assert result.counts["complete"] == 0
    assert result.complaint.startswith("nothing came to its end: 4 of 4 were stopped early (")
    assert cause in result.complaint and advice in result.complaint
    assert result.table().rstrip().endswith(result.complaint)
    assert result.complaint.split(";")[0][1:] in (tmp_path / "run" / "report.html").read_text()


def test_a_run_with_one_complete_trial_has_nothing_to_complain_of():
    search = Search(
        data=Digits(train_samples=64),
        space=TrialSpace(SPACE, model=DenseNet),
        evaluators=[TrialTraining(epochs=1)],
        objectives=["loss"],
        strategy=Tuning("random"),
        lag=1,
        chunk=1,
    )
    assert search.run(evaluations=1).complaint == ""
