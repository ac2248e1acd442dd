"""Tuning: what Optuna proposes and a pruner decides is a function of the seed, through the real loop, and
comes back on resume.
"""

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from evaluators.base import Evaluation, Report, State
from search.budget import Budget
from search.executors.inline import InlineExecutor
from search.executors.simulated import SimulatedExecutor
from search.loop import Loop
from search.problem import Objective, Problem
from search.pruners import NonDominationPruner, TICPruner
from search.record.about import About
from search.record.ledger import Ledger
from search.strategies.monitor import Monitor, divergence
from search.study.view import View
from search.testing import Toy, assert_same, lotz
from search.testing.trial_toys import PARAMETERS, Curves, tuning_problem
from search.tuning.strategy import Tuning
from spaces.errors import InputError
from spaces.trials import TrialSpace

MEDIAN = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)


def play(strategy, evaluations, problem=None, path=None, executor=None, seed=1, **loop):
    problem = problem or tuning_problem()
    ledger = Ledger(path, problem.space)
    made = Loop(
        problem,
        strategy,
        executor or InlineExecutor(),
        ledger,
        Budget(evaluations),
        seed=seed,
        **({"lag": 4, "chunk": 2} | loop),
    )
    made.run()
    return [ledger.evaluation(id) for id in range(ledger.counts()["candidates"])], ledger, made


def assert_alike(first: list[Evaluation], second: list[Evaluation]):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert_same(a.candidate, b.candidate)
        assert (a.state, a.reason, a.metrics) == (b.state, b.reason, b.metrics)


# -- proposals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampler", ["tpe", "random", "qmc", "nsgaii", optuna.samplers.TPESampler(n_startup_trials=4)]
)
def test_same_seed_same_trials_and_another_seed_others(sampler):
    first, second = (play(Tuning(sampler, startup=4), 16)[0] for _ in range(2))
    assert_alike(first, second)
    other = play(Tuning(sampler, startup=4), 16, seed=2)[0]
    assert any((a.candidate.genome != b.candidate.genome).any() for a, b in zip(first, other, strict=True))


def test_the_sampler_learns_from_results_and_finds_better_ones_than_chance():
    found = {name: play(Tuning(name, startup=8), 50)[0] for name in ("tpe", "random")}
    latest = {
        name: np.median([e.metrics["loss"] for e in list_[25:] if e.state is State.COMPLETE])
        for name, list_ in found.items()
    }
    assert latest["tpe"] < 0.8 * latest["random"]


def test_maximised_objectives_are_maximised():
    problem = tuning_problem(("max gain",))
    space = problem.space

    def gain(genomes):
        return {"gain": np.array([-abs(math.log10(space.values(genome)["rate"]) + 2) for genome in genomes])}

    evaluator = Toy(gain, ("gain",))
    evaluator.bind(space)
    evaluations, *_ = play(Tuning(startup=5), 40, replace(problem, evaluator=evaluator))
    assert (
        np.mean([e.metrics["gain"] for e in evaluations[20:]])
        > np.mean([e.metrics["gain"] for e in evaluations[:10]]) + 0.3
    )


def test_conditional_parameters_are_asked_for_only_where_they_are_active():
    evaluations, _, loop = play(Tuning(startup=5), 20)
    kinds = Counter()
    for evaluation in evaluations:
        values = loop.problem.space.values(evaluation.candidate.genome)
        assert ("momentum" in values) == (values["kind"] == "momentum")
        kinds[values["kind"]] += 1
    assert min(kinds.values()) > 0


def test_no_trial_twice_and_a_tiny_space_is_exhausted():
    space = TrialSpace({"a": {"choices": [1, 2, 3]}, "b": {"low": 1, "high": 4}})
    evaluator = Toy(lambda genomes: {"loss": np.ones(len(genomes))}, ("loss",))
    problem = Problem(space, evaluator, (Objective("loss"),))
    evaluations, ledger, _ = play(Tuning(startup=3), 100, problem)
    assert len({e.candidate.genome.tobytes() for e in evaluations}) == len(evaluations) == 12
    assert ledger.note("ended") == "exhausted"


def test_failed_trials_are_survived():
    class Failing(Curves):
        def evaluate(self, model, candidate):
            for report in super().evaluate(model, candidate):
                if candidate.id % 3 == 1:
                    raise RuntimeError("no")
                yield report

    problem = tuning_problem()
    evaluator = Failing()
    evaluator.bind(problem.space)
    evaluations, *_ = play(Tuning(startup=4, pruner=MEDIAN), 24, replace(problem, evaluator=evaluator))
    assert len(evaluations) == 24 and all(
        (e.state is State.FAILED) == (e.candidate.id % 3 == 1) for e in evaluations
    )


# -- pruning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pruner",
    [
        MEDIAN,
        optuna.pruners.SuccessiveHalvingPruner(),
        optuna.pruners.HyperbandPruner(1, 9),
        TICPruner(min_resource=1, startup_trials=3),
    ],
    ids=lambda pruner: type(pruner).__name__,
)
def test_weak_trials_are_stopped_and_the_reason_says_where(pruner):
    evaluations, ledger, loop = play(Tuning("random", pruner, monitor="predicted_loss"), 40)
    stopped = [e for e in evaluations if e.state is State.PRUNED and not e.reason.startswith("diverged")]
    assert len(stopped) > 5
    for e in stopped:
        match = re.fullmatch(rf"{type(pruner).__name__} at step (\d+)", e.reason)
        assert match and [report.step for report in ledger.reports(e.candidate.id)][-1] == int(match[1])
    through = np.mean([e.metrics["loss"] for e in evaluations if e.state is State.COMPLETE])
    ends = []
    for e in stopped:  # what they would have come to
        *_, last = Curves().__class__.evaluate(loop.problem.evaluator, None, e.candidate)
        ends.append(last.metrics["loss"])
    assert np.mean(ends) > through


def test_a_pruner_is_told_the_monitor_and_how_sure_it_is():
    heard = []

    class Listener(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            heard.append((trial.last_step, trial.intermediate_values[trial.last_step], trial.user_attrs))
            return False

        def __deepcopy__(self, memo):
            return self

    _, ledger, _ = play(Tuning("random", Listener(), monitor="loss + tic_bias"), 2)
    reports = [report for id in (0, 1) for report in ledger.reports(id)]
    assert [step for step, *_ in heard] == [report.step for report in reports]
    for report, (step, value, attributes) in zip(reports, heard, strict=True):
        assert value == report.metrics["loss"] + report.metrics["tic_bias"]
        expected = {"bias": report.metrics["tic_bias"], "error": 0.01, "movement": report.metrics["movement"]}
        assert attributes[f"tic:{step}"] == expected
    heard.clear()
    play(Tuning("random", Listener(), monitor="loss"), 1)
    assert heard and not any(attributes for *_, attributes in heard), "TIC has no part in the validation loss"


def test_a_diverging_trial_is_stopped_with_its_reason_and_taken_for_the_worst():
    problem = tuning_problem(parameters=PARAMETERS | {"rate": {"low": 0.3, "high": 1.0}})
    evaluations, *_ = play(Tuning("random"), 20, problem)
    diverged = [e for e in evaluations if e.state is State.PRUNED]
    assert diverged and {e.reason for e in diverged} == {"diverged: train_loss is nan at step 3"}

    strategy = Tuning("tpe", startup=6)
    wide = tuning_problem(
        parameters={
            "rate": {"low": 0.0001, "high": 1.8},
            "width": {"low": 4, "high": 64},
            "kind": {"choices": ["plain"]},
        }
    )
    evaluations, *_ = play(strategy, 60, wide)
    share = [
        np.mean([e.state is State.PRUNED for e in part]) for part in (evaluations[:12], evaluations[30:])
    ]
    assert share[1] < 0.5 * share[0], "TPE goes on to ask where trials diverge"


def test_among_stopped_trials_one_that_diverged_late_ranks_last_for_the_sampler():
    strategy = Tuning("random", MEDIAN, monitor="loss")
    strategy.start(tuning_problem(), 0)
    (candidate,) = strategy.ask(1)
    for step in range(1, 6):
        strategy.should_stop(candidate, Report({"loss": 0.01}, step))
    why = strategy.should_stop(candidate, Report({"loss": math.nan}, 6))
    strategy.tell(
        [Evaluation(candidate, State.PRUNED, {"loss": math.nan}, reason=why.reason, cause=why.cause)]
    )
    stopped = strategy._sampling.study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    assert [trial.intermediate_values for trial in stopped] == [{0: math.inf}], (
        "Optuna ranks by the last step first: late counts as good"
    )


def test_a_report_that_puts_weights_back_is_not_judged():
    class Ruthless(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.last_step > 3

    strategy = Tuning("random", Ruthless(), monitor="loss")
    strategy.start(tuning_problem(), 0)
    (candidate,) = strategy.ask(1)
    losses = [1.0, 0.5, 0.8]
    for step, loss in enumerate(losses, start=1):
        assert not strategy.should_stop(candidate, Report({"loss": loss}, step))
    assert not strategy.should_stop(candidate, Report({"loss": 0.5}, 4)), (
        "the second epoch's weights were put back: nothing is left to stop"
    )
    (another,) = strategy.ask(1)
    for step, loss in enumerate(losses, start=1):
        strategy.should_stop(another, Report({"loss": loss}, step))
    assert strategy.should_stop(another, Report({"loss": 0.7}, 4)), (
        "which any other report at that step would have been"
    )


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_who_is_stopped_does_not_depend_on_the_workers(workers):
    rng = np.random.default_rng(workers)
    expected = play(Tuning(startup=5, pruner=MEDIAN), 40, lag=8, chunk=2)[0]
    executor = SimulatedExecutor(workers, lambda candidate: float(rng.lognormal()))
    found = play(Tuning(startup=5, pruner=MEDIAN), 40, executor=executor, lag=8, chunk=2)[0]
    assert_alike(expected, found)
    assert sum(e.state is State.PRUNED for e in expected) > 5


def test_peers_all_sees_who_is_still_running():
    executor = SimulatedExecutor(8, lambda candidate: 1.0)
    told, everybody = (
        play(
            Tuning("random", TICPruner(startup_trials=1), monitor="predicted_loss", peers=peers),
            8,
            executor=executor,
            lag=8,
            chunk=8,
        )
        for peers in ("told", "all")
    )
    assert not any("Pruner" in e.reason for e in told[0]), "nobody had been told when they were asked"
    assert any("Pruner" in e.reason for e in everybody[0])


def test_several_objectives_are_pruned_by_non_domination():
    problem = tuning_problem(("loss", "tic_bias"))
    evaluations, _, loop = play(Tuning("nsgaii", NonDominationPruner(startup_trials=3)), 40, problem)
    stopped = [e for e in evaluations if e.reason.startswith("NonDominationPruner at step ")]
    assert len(stopped) > 3 and len(loop.front) > 1


# -- resume --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pruner",
    [MEDIAN, optuna.pruners.HyperbandPruner(1, 9), TICPruner(startup_trials=3)],
    ids=lambda p: type(p).__name__,
)
@pytest.mark.parametrize("order", ["strict", "arrival"])
def test_a_resumed_run_goes_on_as_if_it_had_never_ended(tmp_path: Path, pruner, order):
    tuning = {"sampler": "tpe", "pruner": pruner, "startup": 5, "monitor": "predicted_loss"}
    whole = play(Tuning(**tuning), 36, path=tmp_path / "whole.db", order=order)[0]
    for stop in (7, 19, 36):
        parts, ledger, loop = play(Tuning(**tuning), stop, path=tmp_path / "parts.db", order=order)
        ledger.close()
    assert loop.restored == 19
    assert_alike(whole, parts)


def test_a_lost_worker_begins_again_and_is_not_judged_twice():
    judged = []

    class Counting(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            judged.append(trial.last_step)
            return False

        def __deepcopy__(self, memo):
            return self

    strategy = Tuning("random", Counting(), monitor="loss")
    strategy.start(tuning_problem(), 0)
    (candidate,) = strategy.ask(1)
    for step in (1, 2, 1, 2, 3):
        assert strategy.should_stop(candidate, Report({"loss": 1.0 / step}, step)) is False
    assert judged == [1, 2, 3]


# -- the view ------------------------------------------------------------------------------------------------


def test_the_view_shows_real_parameters_curves_and_reasons(tmp_path: Path):
    problem, strategy = tuning_problem(), Tuning("random", MEDIAN, monitor="predicted_loss")
    with_ledger = Ledger(tmp_path / "ledger.db", problem.space)
    About.of("toy", problem, strategy).save(with_ledger)
    with_ledger.commit()
    with_ledger.close()
    evaluations, ledger, _ = play(strategy, 40, problem, tmp_path / "ledger.db", seed=4)
    view = View(tmp_path, None)
    while view.step():
        pass
    view.annotate()
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    )
    study = optuna.load_study(study_name="toy", storage=storage)
    assert len(study.trials) == 40 and not study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    by_id = {trial.user_attrs["candidate"]: trial for trial in study.trials}
    for e in evaluations:
        trial = by_id[e.candidate.id]
        assert trial.params == problem.space.values(e.candidate.genome)
        assert trial.distributions.keys() == trial.params.keys() and trial.distributions[
            "rate"
        ] == FloatDistribution(1e-4, 1.0, log=True)
        reports = ledger.reports(e.candidate.id)
        assert [trial.intermediate_values[r.step] for r in reports] == pytest.approx(
            [r.metrics["predicted_loss"] for r in reports], nan_ok=True
        )
        assert trial.user_attrs.get("reason", "") == e.reason
        for name in ("train_loss", "loss", "tic_bias", "predicted_loss", "movement"):
            assert trial.user_attrs[name] == (e.metrics[name] if math.isfinite(e.metrics[name]) else "nan")
    assert any("momentum" not in trial.params for trial in study.trials) and any(
        "momentum" in trial.params for trial in study.trials
    )
    assert (
        study.best_trial.user_attrs["candidate"]
        == min((e.metrics["loss"], e.candidate.id) for e in evaluations if e.state is State.COMPLETE)[1]
    )
    found = optuna.importance.get_param_importances(study)
    assert {"rate", "width", "kind"} <= found.keys() and sum(found.values()) == pytest.approx(1)


# -- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tuning(startup=0), r"strategy: startup 0; expected at least 1"),
        (
            lambda: Tuning(pruner=optuna.pruners.HyperbandPruner()),
            r"HyperbandPruner max_resource 'auto'.*expected a number of epochs",
        ),
        (lambda: Tuning(monitor="min max loss"), r"objective 'min max loss'"),
    ],
)
def test_settings_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("strategy", "problem", "message"),
    [
        (Tuning(), lotz(8), r"strategy: BitSpace has no parameters for Optuna; expected a spaces.TrialSpace"),
        (
            Tuning("qnc"),
            tuning_problem(),
            r"strategy: sampler 'qnc'; expected tpe, random, qmc, nsgaii or class_path",
        ),
        (
            Tuning(monitor="los"),
            tuning_problem(),
            r"strategy: monitor: the evaluator reports no 'los'; expected one of loss, movement",
        ),
        (
            Tuning(optuna.samplers.CmaEsSampler()),
            tuning_problem(("loss", "tic_bias")),
            r"strategy: sampler CmaEsSampler cannot serve 2 objectives \(.*\); expected one, or tpe, nsgaii "
            r"or random",
        ),
        (
            Tuning(pruner=MEDIAN),
            tuning_problem(("loss", "tic_bias")),
            r"strategy: pruner MedianPruner cannot serve 2 objectives; expected "
            r"search.pruners.NonDominationPruner or null",
        ),
    ],
)
def test_what_does_not_fit_the_problem_is_refused_at_the_start_in_one_line(strategy, problem, message):
    with pytest.raises(InputError, match=message) as refusal:
        strategy.start(problem, 0)
    assert "\n" not in str(refusal.value)


def test_monitors():
    report = {"loss": 0.5, "tic_bias": 0.25, "accuracy": 0.9}
    assert Monitor("loss + tic_bias")(report) == 0.75 and Monitor("max accuracy")(report) == -0.9
    assert math.isnan(Monitor("loss + nothing")(report))
    assert (
        divergence(Report({"loss": 1.0, "train_loss": math.inf}, 4)).reason
        == "diverged: train_loss is inf at step 4"
    )
    assert divergence(Report(report, 4)) is None
