"""Synchronous successive halving: whole rungs decide, the best go on from their checkpoints, and no worker
waits.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.base import RESUME, Candidate, Cause, Evaluation, Report, State
from evaluators.data import Digits
from evaluators.tic import TIC
from evaluators.training.trials import TrialTraining
from search.budget import Budget
from search.executors.inline import InlineExecutor
from search.executors.simulated import SimulatedExecutor
from search.loop import Loop
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from search.stop import Stop
from search.strategies.rank_correlation import normal_scores
from search.testing import assert_same, lotz
from search.testing.trial_toys import tuning_problem
from search.tuning.halving import SuccessiveHalving, best, rungs
from search.tuning.weighing import halving_score
from spaces.errors import InputError
from spaces.models import DenseNet
from spaces.trials import TrialSpace


def play(strategy, evaluations=None, problem=None, path=None, executor=None, seed=1, **loop):
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


def brackets(evaluations: list[Evaluation], n: int) -> list[dict[int, list[Evaluation]]]:
    """Rungs of every bracket, by the origin of each candidate's line."""
    root: dict[int, int] = {}
    found: dict[int, dict[int, list[Evaluation]]] = defaultdict(lambda: defaultdict(list))
    depth: dict[int, int] = {}
    fresh = 0
    for e in evaluations:
        id = e.candidate.id
        if e.candidate.operator == RESUME:
            root[id], depth[id] = root[e.candidate.parents[-1]], depth[e.candidate.parents[-1]] + 1
        else:
            root[id], depth[id] = fresh, 0
            fresh += 1
        found[root[id] // n][depth[id]].append(e)
    return [found[bracket] for bracket in sorted(found)]


def test_rungs():
    assert rungs(1, 3, 27) == [1, 3, 9] and rungs(2, 4, 27) == [2, 8] and rungs(5, 3, 5) == []


def test_the_best_of_every_rung_go_on():
    evaluations, ledger, _ = play(SuccessiveHalving(n=9, brackets=3))
    assert ledger.note("ended") == "exhausted"
    for bracket in brackets(evaluations, 9):
        assert [len(bracket[rung]) for rung in (0, 1, 2)] == [9, 3, 1]
        for rung, step in ((0, 1), (1, 3)):
            assert all(
                e.state is State.PRUNED and e.reason == f"paused at rung {rung} (step {step})"
                for e in bracket[rung]
            )
            assert all(
                [r.step for r in ledger.reports(e.candidate.id)] == list(range(1, step + 1))
                for e in bracket[rung]
            )
            ranked = sorted(bracket[rung], key=lambda e: e.metrics["predicted_loss"])
            promoted = {e.candidate.parents[-1] for e in bracket[rung + 1]}
            assert promoted == {e.candidate.id for e in ranked[: len(promoted)]}
        (last,) = bracket[2]
        assert last.state is State.COMPLETE and [r.step for r in ledger.reports(last.candidate.id)] == list(
            range(1, 10)
        )


def test_who_goes_on_has_the_genome_and_the_seed_of_who_was_paused():
    evaluations, *_ = play(SuccessiveHalving(n=9, brackets=2))
    going = [e.candidate for e in evaluations if e.candidate.operator == RESUME]
    assert going
    for candidate in going:
        parent = evaluations[candidate.parents[-1]].candidate
        assert (candidate.genome == parent.genome).all() and candidate.seed == parent.seed


def test_a_share_of_the_places_goes_by_another_metric():
    values = {id: (float(id), float(-id)) for id in range(9)}
    assert best(values, 3, 0.0) == {0, 1, 2} and best(values, 3, 1.0) == {6, 7, 8}
    assert best(values, 4, 0.5) == {7, 8, 0, 1} and best(values, 3, 0.5) == {7, 8, 0}
    assert best({3: (1.0,), 1: (1.0,), 2: (0.5,)}, 2, 0.0) == {1, 2}, "of equals the older"
    evaluations, *_ = play(
        SuccessiveHalving(n=12, brackets=1, mix=0.5, monitor="tic_bias", second_monitor="loss")
    )
    first = brackets(evaluations, 12)[0]
    promoted = {e.candidate.parents[-1] for e in first[1]}
    by_loss = sorted(first[0], key=lambda e: e.metrics["loss"])[:2]
    assert {e.candidate.id for e in by_loss} <= promoted and len(promoted) == 4
    others = sorted((e for e in first[0] if e not in by_loss), key=lambda e: e.metrics["tic_bias"])[:2]
    assert {e.candidate.id for e in others} <= promoted


def test_signals_of_any_scale_add_up_by_where_a_value_stands_in_its_rung():
    assert normal_scores(np.array([5.0, -1e9, 7.0])).tolist() == pytest.approx(
        [0.0, -0.967422, 0.967422], abs=1e-5
    )
    assert normal_scores(np.array([1.0, np.nan, 1.0]))[1] > 0
    evaluations, *_ = play(
        SuccessiveHalving(n=12, brackets=1, monitor="train_loss", signals={"tic_bias": 0.7})
    )
    first = brackets(evaluations, 12)[0]
    loss, bias = (
        normal_scores(np.array([e.metrics[name] for e in first[0]])) for name in ("train_loss", "tic_bias")
    )
    ranked = [first[0][i].candidate.id for i in np.argsort(loss + 0.7 * bias)]
    assert {e.candidate.parents[-1] for e in first[1]} == set(ranked[:4])
    by_loss = [first[0][i].candidate.id for i in np.argsort(loss)]
    assert set(by_loss[:4]) != set(ranked[:4]), "the example must tell the two apart"


def test_diverged_and_failed_configurations_leave_their_places_to_others():
    strategy = SuccessiveHalving(n=6, brackets=1, monitor="loss")
    strategy.start(tuning_problem(), 0)
    asked = strategy.ask(6)
    states = [State.FAILED, State.PRUNED, State.PRUNED, State.PRUNED, State.FAILED, State.FAILED]
    metrics = [{}, {"loss": float("nan")}, {"loss": 0.4}, {"loss": 0.2}, {}, {}]
    strategy.tell([Evaluation(c, s, m) for c, s, m in zip(asked, states, metrics, strict=True)])
    assert [c.parents for c in strategy.ask(6)] == [(2,), (3,)] and not strategy.ask(6)


def test_a_rung_in_which_everything_fails_ends_its_bracket():
    strategy = SuccessiveHalving(n=3, monitor="loss")
    strategy.start(tuning_problem(), 0)
    strategy.tell([Evaluation(c, State.FAILED, {}) for c in strategy.ask(3)])
    assert not strategy.waiting and all(c.operator == "random" for c in strategy.ask(3))


def test_while_a_rung_is_open_the_next_bracket_is_begun():
    strategy = SuccessiveHalving(n=4, monitor="loss")
    strategy.start(tuning_problem(), 0)
    asked = strategy.ask(10)
    assert len(asked) == 10 and all(c.operator == "random" for c in asked)
    strategy.tell([Evaluation(c, State.PRUNED, {"loss": float(c.id)}) for c in asked[:4]])
    assert [c.parents for c in strategy.ask(3)] == [(0,), (), ()]


def test_a_single_bracket_waits_for_its_rungs_and_then_ends():
    executor = SimulatedExecutor(4, lambda candidate: 1.0)
    evaluations, ledger, _ = play(SuccessiveHalving(n=9, brackets=1), executor=executor, lag=8, chunk=4)
    assert [len(brackets(evaluations, 9)[0][rung]) for rung in (0, 1, 2)] == [9, 3, 1] and ledger.note(
        "ended"
    ) == "exhausted"


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_same_on_any_number_of_workers_and_after_any_interruption(tmp_path: Path, sampler):
    def strategy():
        return SuccessiveHalving(n=9, sampler=sampler, startup=4)

    expected = play(strategy(), 50, lag=8)[0]
    for workers in (1, 5):
        rng = np.random.default_rng(workers)
        executor = SimulatedExecutor(workers, lambda candidate, rng=rng: float(rng.lognormal()))
        found = play(strategy(), 50, executor=executor, lag=8)[0]
        for a, b in zip(expected, found, strict=True):
            assert_same(a.candidate, b.candidate)
            assert (a.state, a.reason, a.metrics) == (b.state, b.reason, b.metrics)
    for stop in (5, 21, 50):
        parts, ledger, loop = play(strategy(), stop, path=tmp_path / "ledger.db", lag=8)
        ledger.close()
    assert loop.restored == 21
    for a, b in zip(expected, parts, strict=True):
        assert_same(a.candidate, b.candidate)


def test_a_training_that_was_paused_and_resumed_comes_out_as_one_that_was_not(tmp_path: Path):
    """The real thing: Digits, TIC, checkpoints."""
    space = TrialSpace(
        {
            "model.width": {"low": 8, "high": 32},
            "training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
        },
        model=DenseNet,
    )
    evaluator = TrialTraining(epochs=6, tic=TIC("trace", splits=2))
    evaluator.bind(space, Digits(train_samples=120))
    evaluator.state = tmp_path
    problem = Problem(space, evaluator, (Objective("loss"),))
    evaluations, ledger, _ = play(SuccessiveHalving(n=4, brackets=1, minimum=1, eta=2), problem=problem)
    (winner,) = [e for e in evaluations if e.state is State.COMPLETE]
    assert winner.candidate.operator == RESUME and len(brackets(evaluations, 4)[0]) == 4
    assert len(list((tmp_path / "trials").glob("*.pt"))) == len(evaluations)

    alone = TrialTraining(epochs=6, tic=TIC("trace", splits=2))
    alone.bind(space, Digits(train_samples=120))
    torch.manual_seed(winner.candidate.seed)
    reports = list(
        alone.evaluate(
            space.build(winner.candidate.genome),
            Candidate(0, winner.candidate.genome, seed=winner.candidate.seed),
        )
    )
    found = ledger.reports(winner.candidate.id)
    assert [(r.step, r.metrics) for r in found] == [(r.step, r.metrics) for r in reports]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n 0; expected at least 1"),
        ({"minimum": 0}, "minimum 0; expected at least 1"),
        ({"eta": 1}, "eta 1; expected at least 2"),
        ({"brackets": 0}, "brackets 0; expected at least 1 or null"),
        ({"minimum": 4, "maximum": 3}, r"maximum 3; expected at least minimum \(4\), or null"),
        ({"mix": 1.5}, "mix 1.5; expected 0 to 1"),
        ({"mix": 0.5}, "second_monitor null; expected a metric, since mix is 0.5"),
        (
            {"mix": 0.5, "second_monitor": "loss", "signals": {"tic_bias": 0.3}},
            "mix 0.5; expected 0 where there are signals",
        ),
    ],
)
def test_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(InputError, match=f"strategy: {message}"):
        SuccessiveHalving(**settings)


@pytest.mark.parametrize(
    ("strategy", "problem", "message"),
    [
        (
            SuccessiveHalving(),
            tuning_problem(("loss", "tic_bias")),
            "SuccessiveHalving cannot serve 2 objectives; expected one",
        ),
        (
            SuccessiveHalving(monitor="score"),
            tuning_problem(),
            "monitor: the evaluator reports no 'score'; expected one of loss",
        ),
        (
            SuccessiveHalving(monitor="leading"),
            lotz(8),
            "maximum null, and Toy has no epochs; expected a number",
        ),
        (
            SuccessiveHalving(monitor="leading", maximum=9),
            lotz(8),
            "expected a spaces.TrialSpace|cannot serve 2 objectives",
        ),
    ],
)
def test_what_does_not_fit_the_problem_is_refused_at_the_start(strategy, problem, message):
    if "null" in message:
        problem = Problem(problem.space, problem.evaluator, problem.objectives[:1])
    with pytest.raises(InputError, match=message) as refusal:
        strategy.start(problem, 0)
    assert "\n" not in str(refusal.value)


def test_a_candidate_stops_at_exactly_its_rung():
    strategy = SuccessiveHalving(n=3, minimum=2, monitor="loss")
    strategy.start(tuning_problem(), 0)
    (candidate,) = strategy.ask(1)
    assert strategy.should_stop(candidate, Report({"loss": 1.0}, 1)) is False
    paused = strategy.should_stop(candidate, Report({"loss": 1.0}, 2))
    assert paused == Stop("paused at rung 0 (step 2)", Cause.PAUSED)
    diverged = strategy.should_stop(candidate, Report({"loss": float("inf")}, 2))
    assert diverged == Stop("diverged: loss is inf at step 2", Cause.DIVERGED)


def on_digits(tic: TIC) -> Problem:
    space = TrialSpace(
        {
            "model.width": {"low": 8, "high": 64},
            "training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
        },
        model=DenseNet,
    )
    evaluator = TrialTraining(epochs=9, tic=tic)
    evaluator.bind(space, Digits(train_samples=120, label_noise=0.2))
    return Problem(space, evaluator, (Objective("loss"),))


def test_rungs_may_be_ranked_by_the_weighed_score_and_the_first_by_all_samples(tmp_path: Path):
    """The real thing: Digits, TIC, checkpoints."""
    problem = on_digits(TIC("gram", splits=2))
    evaluator = problem.evaluator
    evaluator.state = tmp_path
    evaluations, ledger, _ = play(
        SuccessiveHalving(n=18, brackets=1, monitor="loss", weigh=True), problem=problem
    )
    (rungs_found,) = brackets(evaluations, 18)
    assert [len(rungs_found[rung]) for rung in (0, 1, 2)] == [18, 6, 2]
    train, search = (evaluator.data.size(split) for split in ("train", "search"))
    for e in rungs_found[1]:
        biases = [report.metrics["tic_bias"] for report in ledger.reports(e.candidate.id)]
        assert len(biases) == 3 and e.metrics["mean_bias"] == pytest.approx(np.mean(biases))
    for rung in (0, 1):
        columns = [
            np.array([e.metrics[name] for e in rungs_found[rung]])
            for name in ("loss", "train_loss", "mean_bias", "movement")
        ]
        score = (
            train * columns[1] + search * columns[0] if rung == 0 else halving_score(*columns, labels=search)
        )
        ranked = [rungs_found[rung][i].candidate.id for i in np.argsort(score, kind="stable")]
        assert {e.candidate.parents[-1] for e in rungs_found[rung + 1]} == set(
            ranked[: len(rungs_found[rung + 1])]
        )


def test_the_weighed_score_takes_more_signals_with_weights_of_their_own():
    problem = on_digits(TIC("gram", splits=0, trace=True))
    weights = {"movement": 0.5, "tic_trace": -5.0}  # far from the default, so that the ranks tell
    strategy = SuccessiveHalving(9, 1, minimum=3, monitor="loss", weigh=True, weights=weights)
    (found,) = brackets(play(strategy, problem=problem)[0], 9)
    val, train, bias, movement, trace = (
        np.array([e.metrics[name] for e in found[0]])
        for name in ("loss", "train_loss", "mean_bias", "movement", "tic_trace")
    )
    labels = problem.evaluator.data.size("search")
    step = np.median(val) / np.sqrt(labels)
    plain = halving_score(val, train, bias, movement, labels)
    going = {e.candidate.parents[-1] for e in found[1]}
    first = [
        {found[0][i].candidate.id for i in np.argsort(score)[:3]}
        for score in (plain - 5 * step * normal_scores(trace), plain)
    ]
    assert going == first[0] != first[1]


def test_the_weighed_score_needs_what_it_is_made_of():
    with pytest.raises(InputError, match="expected null where weigh is false"):
        SuccessiveHalving(weights={"movement": 1.0})
    with pytest.raises(InputError, match="expected at least one metric, or null"):
        SuccessiveHalving(weigh=True, weights={})
    with pytest.raises(InputError, match="weigh true; expected neither mix nor signals"):
        SuccessiveHalving(weigh=True, signals={"movement": 0.3})
    with pytest.raises(InputError, match="the evaluator reports no 'mean_bias'"):
        SuccessiveHalving(weigh=True, monitor="loss").start(tuning_problem(), 0)
