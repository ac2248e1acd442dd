"""Trials of another run are taken as known where they fit the space, and left out where they do not; points
that the user gives are asked first.
"""

import io
import math
import shutil
from collections import Counter
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from evaluators.base import State
from search import Finish, FromRun, Search, SuccessiveHalving, Tuning
from search.progress import Progress
from search.record.ledger import Ledger
from search.testing.trial_toys import PARAMETERS, Curves
from spaces import InputError, TrialSpace
from tests.search.loop_case import Killed, simulated

MEDIAN = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)


class Asked(Curves):
    """Curves that write down which candidates were trained: the class's, no part of a run's identity."""

    trained: list[int] = []  # noqa: RUF012

    def evaluate(self, model, candidate):
        if candidate.id >= 0:
            self.trained.append(candidate.id)
        yield from super().evaluate(model, candidate)


@pytest.fixture(autouse=True)
def trained():
    Asked.trained.clear()
    return Asked.trained


def search(folder, parameters=PARAMETERS, strategy=None, evaluator=None, model=None, **settings):
    heard = io.StringIO()
    made = Search(
        space=TrialSpace(parameters, model=model),
        evaluators=[evaluator or Asked()],
        strategy=strategy or Tuning("random", MEDIAN),
        directory=folder,
        study=False,
        finish=Finish(0),
        progress=Progress(Console(file=heard, soft_wrap=True)),
        **{"objectives": ["loss"], "lag": 4, "chunk": 2} | settings,
    )
    made.heard = heard
    return made


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twenty") / "first"
    counts = search(folder).run(evaluations=20).counts
    assert counts["pruned"] > 3 and counts["complete"] > 5
    return folder


@pytest.fixture
def first(twenty, tmp_path, trained):
    trained.clear()
    return Path(shutil.copytree(twenty, tmp_path / "first"))


def warm(first, folder, parameters, strategy=Tuning, **settings):
    made = {"sampler": "random"} | (
        {"pruner": MEDIAN} if strategy is Tuning else {"n": 9, "monitor": "loss", "brackets": 1}
    )
    made |= settings.pop("tuning", {})
    return search(
        folder, parameters, strategy(**made, initialisation=FromRun(str(first))), seed=7, **settings
    )


def rows(folder):
    """What a ledger holds of its trials by their parameters, but for the clock."""
    ledger = Ledger.reader(folder / "ledger.db")
    found = {}
    for _, e in ledger.evaluations():
        reports = [(r.step, str(r.metrics)) for r in ledger.reports(e.candidate.id)]
        found[e.candidate.genome.tobytes()] = (
            e.state,
            str(e.metrics),
            e.reason,
            e.candidate.seed,
            reports,
            e.worker,
        )
    return found


WIDER = PARAMETERS | {"width": {"low": 2, "high": 128}}


# -- taken as known ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [None, 3], ids=["inline", "simulated"])
def test_the_range_is_wider_and_no_paid_trial_is_trained_again(first, tmp_path, trained, workers):
    made = warm(first, tmp_path / "second", WIDER, executor=workers and simulated(workers))
    result = made.run(evaluations=30)
    assert len(trained) == 10 and result.counts["evaluations"] == 30
    before, after = rows(first), rows(tmp_path / "second")
    for genome, (*told, _) in before.items():
        assert after[genome] == (*told, f"from {first}"), "state, metrics, reason, seed and reports"
    assert f"begins with candidates of {first}: 20 of its results mean the same here" in made.heard.getvalue()
    assert f"20 of 30 results came from {first}" in made.heard.getvalue()
    assert "left out" not in made.heard.getvalue()


def test_what_lies_outside_of_the_new_range_is_left_out_and_counted(first, tmp_path, trained):
    narrow = PARAMETERS | {"width": {"low": 4, "high": 32}}
    old = Ledger.reader(first / "ledger.db")
    widths = [TrialSpace(PARAMETERS).values(c.genome)["width"] for c in old.candidates()]
    inside = sum(width <= 32 for width in widths)
    made = warm(first, tmp_path / "second", narrow)
    made.run(evaluations=20)
    assert 0 < inside < 20 and len(trained) == 20 - inside
    assert f"{inside} of its results mean the same here" in made.heard.getvalue()
    assert f"; {20 - inside} are not to be had in this space and left out" in made.heard.getvalue()


def test_choices_are_carried_over_by_value_and_not_by_position(first, tmp_path, trained):
    turned = PARAMETERS | {"kind": {"choices": ["adam", "momentum", "plain"]}}
    warm(first, tmp_path / "second", turned).run(evaluations=20)
    assert not trained

    def kinds(folder, parameters):
        space = TrialSpace(parameters)
        ledger = Ledger.reader(folder / "ledger.db")
        return Counter(
            (space.values(e.candidate.genome)["kind"], e.state, str(e.metrics))
            for _, e in ledger.evaluations()
        )

    assert kinds(first, PARAMETERS) == kinds(tmp_path / "second", turned)


@pytest.mark.parametrize(
    ("changed", "known"),
    [
        ({"rate": {"low": 1e-5, "high": 1.0, "log": False}}, 20),
        ({"width": {"low": 4, "high": 64, "step": 4}}, None),
        ({"momentum": {"low": 0.0, "high": 0.99}}, None),
    ],
    ids=["log", "step", "when"],
)
def test_scale_step_and_conditions_may_change(first, tmp_path, trained, changed, known):
    made = warm(first, tmp_path / "second", PARAMETERS | changed)
    made.run(evaluations=20)
    there = len(rows(first).keys() & rows(tmp_path / "second").keys())
    assert there == (known or there) and 0 < there <= 20 and len(trained) == 20 - there
    if there < 20:
        assert f"; {20 - there} are not to be had in this space" in made.heard.getvalue()


def test_a_complete_trial_that_the_pruner_would_stop_now_stays_complete(first, tmp_path, trained):
    strict = {"pruner": optuna.pruners.ThresholdPruner(upper=0.0)}
    result = warm(first, tmp_path / "second", WIDER, tuning=strict).run(evaluations=20)
    old = [e for _, e in Ledger.reader(first / "ledger.db").evaluations()]
    assert result.counts["complete"] == sum(e.state is State.COMPLETE for e in old)
    diverged = sum("diverged" in e.reason for e in old)
    assert len(trained) == 20 - result.counts["complete"] - diverged, (
        "another pruner's victims are not known here, and are not asked"
    )


@pytest.mark.parametrize("ticks", [1, 6])
def test_killed_and_resumed_it_is_the_same_run(first, tmp_path, trained, ticks):
    warm(first, tmp_path / "whole", WIDER).run(evaluations=26)

    class Dying:
        left = ticks

        def tick(self, loop):
            self.left -= 1
            if not self.left:
                raise Killed

    with pytest.raises(Killed):
        warm(first, tmp_path / "second", WIDER, listeners=[Dying()]).run(evaluations=26)
    shutil.rmtree(first)
    warm(first, tmp_path / "second", WIDER).run(evaluations=26)
    assert rows(tmp_path / "second") == rows(tmp_path / "whole")


def test_the_sampler_learns_from_what_is_known(first, tmp_path):
    def distance(sampler):
        folder = tmp_path / sampler
        made = warm(first, folder, WIDER, tuning={"sampler": sampler, "startup": 10, "pruner": None})
        made.run(evaluations=40)
        space, ledger = TrialSpace(WIDER), Ledger.reader(folder / "ledger.db")
        new = [c for c in ledger.candidates() if c.operator == sampler]
        assert len(new) > 15
        return sum(abs(math.log10(space.values(c.genome)["rate"]) + 2) for c in new) / len(new)

    assert distance("tpe") < 0.6 * distance("random"), "from its first own trial on"


def test_successive_halving_judges_what_is_known_at_every_rung(first, tmp_path, trained):
    made = warm(first, tmp_path / "second", WIDER, SuccessiveHalving)
    result = made.run(evaluations=13)  # 9 + 3 + 1
    assert result.counts["complete"] == 1 and result.counts["pruned"] == 12
    known = [
        e
        for _, e in Ledger.reader(tmp_path / "second" / "ledger.db").evaluations()
        if e.worker == f"from {first}"
    ]
    assert len(known) >= 7 and len(trained) == 13 - len(known)
    assert all("paused" in e.reason for e in known if e.state is State.PRUNED)


# -- taken as suggestions ------------------------------------------------------------------------------------


class Other(Asked):
    def __init__(self, epochs=9, noise=1):
        super().__init__(epochs)
        self.noise = noise


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"evaluator": Other()}, "evaluators.0 (was "),
        ({"parameters": PARAMETERS | {"depth": {"low": 1, "high": 3}}}, "depth is new, so it is not known"),
        (
            {
                "parameters": {k: v for k, v in PARAMETERS.items() if k != "width"}
                | {"size": {"low": 4, "high": 8}}
            },
            "size is new",
        ),
    ],
    ids=["evaluator", "added", "renamed"],
)
def test_what_does_not_mean_the_same_is_a_suggestion_and_the_reason_is_said(
    first, tmp_path, trained, how, why
):
    parameters = how.get("parameters", PARAMETERS)
    made = warm(first, tmp_path / "second", parameters, evaluator=how.get("evaluator"))
    made.run(evaluations=6)
    assert len(trained) >= 4
    line = next(text for text in made.heard.getvalue().splitlines() if text.startswith("begins with"))
    assert f"which are evaluated anew: {why}" in line

    def rates(folder, parameters):
        space, ledger = TrialSpace(parameters), Ledger.reader(folder / "ledger.db")
        complete = [e for _, e in ledger.evaluations() if e.state is State.COMPLETE or folder != first]
        return {space.values(e.candidate.genome)["rate"] for e in complete}

    assert rates(tmp_path / "second", parameters) <= rates(first, PARAMETERS), "the best ones are asked again"


# -- points that the user gives ------------------------------------------------------------------------------

POINTS = [{"rate": 0.01, "width": 16, "kind": "plain"}, {"rate": "1e-3", "kind": "momentum"}]


@pytest.mark.parametrize("strategy", [Tuning, SuccessiveHalving])
def test_starting_points_are_asked_first_and_what_they_leave_out_is_drawn(tmp_path, strategy):
    made = {"monitor": "loss"} if strategy is SuccessiveHalving else {}
    run = search(
        None,
        strategy=strategy("random", starting_points=POINTS)
        if strategy is Tuning
        else strategy(9, sampler="random", starting_points=POINTS, **made),
    )
    run.run(evaluations=4)
    space = TrialSpace(PARAMETERS)
    candidates = list(run._memory.candidates())
    assert [c.operator for c in candidates[:3]] == ["starting point", "starting point", "random"]
    first_, second = (space.values(c.genome) for c in candidates[:2])
    assert (
        first_ == POINTS[0]
        and second["rate"] == 0.001
        and "momentum" in second
        and 4 <= second["width"] <= 64
    )


def test_a_starting_point_that_was_paid_for_is_not_trained_again(first, tmp_path, trained):
    old = Ledger.reader(first / "ledger.db")
    values = TrialSpace(PARAMETERS).values(next(old.candidates()).genome)
    strategy = Tuning("random", MEDIAN, starting_points=[values], initialisation=FromRun(str(first)))
    search(tmp_path / "second", WIDER, strategy).run(evaluations=20)
    assert not trained


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"rat": 0.1}, "strategy: starting_points.1: no parameter 'rat'; expected one of rate, width, kind"),
        ({"width": 65}, "strategy: starting_points.1: width = 65 is not accepted; expected a value of Int"),
        ({"width": 4.5}, "strategy: starting_points.1: width = 4.5 is not accepted"),
        ({"kind": "adam"}, "strategy: starting_points.1: kind = 'adam' is not accepted"),
        ({"rate": "fast"}, "strategy: starting_points.1: rate = 'fast' is not accepted"),
        ({"kind": "plain", "momentum": 0.5}, "strategy: starting_points.1: momentum is not asked for"),
    ],
)
def test_a_starting_point_that_does_not_fit_is_refused_before_there_is_a_run(tmp_path, point, message):
    made = search(tmp_path / "run", strategy=Tuning(starting_points=[POINTS[0], point]))
    with pytest.raises(InputError) as refusal:
        made.run(evaluations=4)
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)
    assert not (tmp_path / "run" / "ledger.db").exists()
