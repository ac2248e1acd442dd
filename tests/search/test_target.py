"""A search ends when a feasible candidate is as good as was asked for: with any strategy, on any number of
workers, called again or not.
"""

from dataclasses import replace

import pytest

from search import Evolution, Finish, RandomSearch, Search, SuccessiveHalving, Tuning
from search.budget import Budget
from search.coevolution import Ring
from search.ending import Ending, EndingKind
from search.executors.inline import InlineExecutor
from search.loop import Loop
from search.problem import Objective
from search.record.ledger import Ledger
from search.testing import lotz, pruning
from search.testing.trial_toys import PARAMETERS, Curves, tuning_problem
from spaces import InputError, TrialSpace
from tests.search.coevolution import cell_case
from tests.search.loop_case import simulated

GOOD = {"leading": 5, "trailing": 3}


def run(strategy, problem, budget, executor=None):
    ledger = Ledger(None, problem.space)
    loop = Loop(problem, strategy, executor or InlineExecutor(), ledger, budget, seed=1, lag=8, chunk=4)
    ending = loop.run()
    return ending, [e for _, e in ledger.evaluations()]


def meets(metrics, target, maximised=("leading", "trailing")):
    return all(
        metrics[name] >= value if name in maximised else metrics[name] <= value
        for name, value in target.items()
    )


@pytest.mark.parametrize(
    ("strategy", "problem", "target"),
    [
        (RandomSearch(), lotz(12), {"leading": 3}),
        (Evolution(population=8), lotz(12), GOOD),
        (Tuning("tpe", startup=5), tuning_problem(), {"loss": 0.4}),
        (SuccessiveHalving(9, monitor="loss"), tuning_problem(), {"loss": 0.5}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_ends_at_the_first_candidate_that_is_good_enough(strategy, problem, target):
    ending, evaluations = run(strategy, problem, Budget(400, target=target))
    assert ending.kind is EndingKind.TARGET and len(evaluations) < 400
    good = [e.candidate.id for e in evaluations if e.state == "complete" and meets(e.metrics, target)]
    assert good and ending.detail.startswith(f"candidate {good[0]}: ")
    assert len(evaluations) <= good[0] + 1 + 8 + 4, "what had been asked is finished, nothing more is asked"
    assert Ending.parse(str(ending)) == ending and ending.orderly and not ending.unfinished


def test_cells_end_at_a_target(tmp_path):
    rules = cell_case.rules(topology=Ring(3), steps=3)
    loop = cell_case.make(tmp_path, rules)
    assert loop.run().kind is EndingKind.STEPS
    least = min(e.metrics["params"] for _, e in loop.ledger.evaluations())
    most = max(e.metrics["params"] for _, e in loop.ledger.evaluations())
    again = cell_case.make(tmp_path, rules, name="again", target={"params": (least + most) / 2})
    assert again.run().kind is EndingKind.TARGET
    assert len(list(again.ledger.evaluations())) < len(list(loop.ledger.evaluations()))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_where_it_ends_does_not_depend_on_the_workers(workers):
    def outcome(executor=None):
        ending, evaluations = run(Evolution(population=8), lotz(12), Budget(400, target=GOOD), executor)
        return str(ending), sorted((e.candidate.id, str(e.metrics)) for e in evaluations)

    assert outcome(simulated(workers)) == outcome()


def test_only_what_keeps_the_limits_counts():
    free, _ = run(Evolution(population=8), pruning(24), Budget(300, target={"error": 0.3}))
    problem = pruning(24, ["macs <= 40%"])
    ending, evaluations = run(Evolution(population=8), problem, Budget(300, target={"error": 0.3}))
    assert free.kind is EndingKind.TARGET
    good = [e for e in evaluations if e.metrics["error"] <= 0.3]
    feasible = [e for e in good if problem.violations([e])[0] == 0]
    assert len(feasible) < len(good) and (ending.kind is EndingKind.TARGET) == bool(feasible)
    unreached, _ = run(
        Evolution(population=8), pruning(24, ["macs <= 10%"]), Budget(60, target={"error": 0.1})
    )
    assert unreached == Ending(EndingKind.EVALUATIONS)


def search(folder=None, **settings):
    return Search(
        space=TrialSpace(PARAMETERS),
        evaluators=[Curves()],
        objectives=["loss"],
        strategy=Tuning("random"),
        directory=folder,
        finish=Finish(0),
        study=False,
        lag=2,
        chunk=1,
        **settings,
    )


def test_a_run_that_reached_its_target_is_complete_and_another_target_goes_on(tmp_path):
    first = search(tmp_path).run(evaluations=100, target={"loss": 0.5})
    assert first.ending.kind is EndingKind.TARGET and not first.complete
    assert first.front[0].metrics["loss"] <= 0.5
    again = search(tmp_path).run(evaluations=100, target={"loss": 0.5})
    assert again.complete and again.counts == first.counts and again.ending == first.ending
    weaker = search(tmp_path).run(evaluations=100, target={"loss": 0.9})
    assert weaker.counts == first.counts and weaker.ending.kind is EndingKind.TARGET
    further = search(tmp_path).run(evaluations=first.counts["evaluations"] + 5, target={"loss": -1.0})
    assert further.counts["evaluations"] == first.counts["evaluations"] + 5
    report = (tmp_path / "report.html").read_text()
    assert "the budget of evaluations was spent" in report


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"macs": 1.0}, "budget.target.macs: no objective of this search; expected loss"),
        ({"loss": float("nan")}, "budget.target.loss nan: expected a number"),
        ({"loss": True}, "budget.target.loss True: expected a number"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_there_is_a_run(tmp_path, target, message):
    for call in (search(tmp_path / "run").run, search(tmp_path / "run").plan):
        with pytest.raises(InputError) as refusal:
            call(evaluations=3, target=target)
        assert str(refusal.value) == message and not (tmp_path / "run").exists()


def test_an_objective_that_is_maximised_has_a_lower_bound():
    problem = replace(tuning_problem(), objectives=(Objective("loss", maximise=True),))
    ending, evaluations = run(Tuning("random"), problem, Budget(100, target={"loss": 1.0}))
    complete = [e for e in evaluations if e.state == "complete"]
    assert ending.kind is EndingKind.TARGET and max(e.metrics["loss"] for e in complete) >= 1.0
