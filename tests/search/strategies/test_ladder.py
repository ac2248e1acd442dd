"""Promotion by rungs: who goes on, and whether a rung is believed."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from evaluators import Candidate, Cost, Digits, Evaluation, Evaluator, InheritedTraining, Report, State
from search import Evolution, Finish, Ladder, Search
from search.problem import Objective, Problem
from search.report.facts import gather
from search.report.ladder_facts import rungs
from search.strategies.ladder import PROMOTED
from search.strategies.rank_correlation import rank_correlation
from search.testing import BitSpace
from spaces.errors import InputError
from spaces.models import Perceptron


class Rungs(Evaluator):
    """Says that there are so many rungs; the tests make up what is seen on them."""

    metrics = ("loss", "size")

    def __init__(self, rungs=3):
        self.rungs = rungs

    def evaluate(self, model, candidate):
        yield Report({"loss": 0.0, "size": 0.0})


@dataclass
class Play:
    """Tells a ladder of candidates whose quality at the top is known, and of those that it promotes."""

    ladder: Ladder
    seen: list = field(default_factory=list)  # (rung, which of the new candidates the first ancestor was)

    def __post_init__(self):
        space = BitSpace(8)
        evaluator = Rungs()
        evaluator.bind(space)
        self.ladder.start(
            Problem(space, evaluator, (Objective("loss"), Objective("size"))), np.random.default_rng(0)
        )
        self.genome, self.known, self.next = space.base, {}, 0

    def told(self, loss, truth, size=0.0, state=State.COMPLETE, rung=0, parents=(), first=None):
        candidate = Candidate(self.next, self.genome, parents, PROMOTED if parents else "sample")
        first = len(self.on(0)) if first is None else first
        self.known[self.next] = (loss, truth, size, rung, first)
        self.next += 1
        self.seen.append((rung, first))
        self.ladder.tell(
            [
                Evaluation(
                    candidate,
                    state,
                    {"loss": loss(rung, truth), "size": size} if state is State.COMPLETE else {},
                )
            ]
        )

    def climb(self):
        """Evaluate all who are promoted, and those who are promoted by that."""
        while due := self.ladder.due(5):
            for proposal in due:
                assert proposal.operator == PROMOTED
                loss, truth, size, rung, first = self.known[proposal.parents[0]]
                self.told(loss, truth, size, rung=rung + 1, parents=proposal.parents, first=first)

    def on(self, rung):
        return [first for r, first in self.seen if r == rung]


def honest(rung, truth):
    return truth


def chance(rng):
    return lambda rung, truth: truth if rung == 2 else rng.random()


def test_of_every_cohort_the_best_go_on_and_their_best_again():
    play = Play(Ladder(eta=3, cohort=9, chance=0))
    truths = np.random.default_rng(1).permutation(27)
    for truth in truths:
        play.told(honest, float(truth))
        play.climb()
    cohorts = truths.reshape(3, 9)
    expected = [9 * row + place for row in range(3) for place in np.argsort(cohorts[row])[:3]]
    assert play.on(1) == expected
    assert play.on(2) == [id for id in np.argsort(truths) if id in expected][:3]


def test_smaller_ones_go_on_though_larger_ones_are_better():
    play = Play(Ladder(eta=3, cohort=9, chance=0))
    for i in range(9):
        # three sizes; within each the first is the best
        play.told(honest, float(i % 3) + 5.0 * (i // 3), size=float(2 - i // 3))
    play.climb()
    assert sorted(play.on(1)) == [0, 3, 6]


def test_those_that_failed_or_have_no_value_fill_a_cohort_and_do_not_go_on():
    play = Play(Ladder(eta=3, cohort=6, chance=0))
    for i in range(6):
        play.told(
            honest, float("nan") if i == 5 else float(i), state=State.FAILED if i < 3 else State.COMPLETE
        )
    play.climb()
    assert play.on(1) == [3, 4]


def test_places_by_chance_go_to_those_that_a_rung_did_not_choose():
    play = Play(Ladder(eta=2, cohort=8, chance=0.5))
    for i in range(8):
        play.told(honest, float(i))
    play.climb()
    assert play.on(1)[:2] == [0, 1] and len(set(play.on(1))) == 4
    assert all(id > 1 for id in play.on(1)[2:])


def test_a_rung_that_predicts_nothing_lets_everybody_pass_and_one_that_does_goes_on_choosing():
    for loss, passing in ((chance(np.random.default_rng(0)), True), (honest, False)):
        play = Play(Ladder(eta=2, cohort=8, chance=0.25))
        rng = np.random.default_rng(50)
        for _ in range(400):
            play.told(loss, float(rng.random()))
            play.climb()
        first, second = play.ladder.correlations
        assert first.n == second.n >= 20
        assert (
            (abs(first.tau) < 0.15 and abs(second.tau) < 0.15)
            if passing
            else (first.tau > 0.9 and second.tau > 0.9)
        )
        late = [number for number in play.on(1) if number >= 200]
        assert len(late) > 160 if passing else len(late) == 100


def test_another_metric_ranks_where_it_is_asked_for():
    ladder = Ladder(eta=2, cohort=4, chance=0, monitor="max loss")
    play = Play(ladder)
    for i in range(4):
        play.told(honest, float(i))
    play.climb()
    assert play.on(1) == [3, 2]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ladder(eta=1), ["eta 1", "at least 2"]),
        (lambda: Ladder(eta=4, cohort=3), ["cohort 3", "at least eta (4)"]),
        (lambda: Ladder(chance=1.5), ["chance 1.5", "0 to 1"]),
        (lambda: Play(Ladder(monitor="los")), ["'los'", "loss"]),
        (lambda: InheritedTraining(steps=[]), ["steps []"]),
        (lambda: InheritedTraining(steps=[4, -1]), ["steps -1"]),
    ],
)
def test_a_wrong_setting_is_refused(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert all(word in str(error.value) for word in words)


def test_without_rungs_there_is_no_ladder():
    with pytest.raises(InputError, match="no evaluator has rungs"):
        Ladder().start(Problem(BitSpace(4), Rungs(1), (Objective("loss"),)), np.random.default_rng(0))


def test_a_promoted_candidate_is_trained_on_by_the_steps_of_its_rung_and_the_report_tells(tmp_path):
    def search(folder):
        torch.manual_seed(0)
        return Search(
            Perceptron((64, 16, 10)),
            Digits(train_samples=200),
            evaluators=[Cost(), InheritedTraining(steps=[0, 4, 12], batch_size=32)],
            objectives=["loss", "macs"],
            strategy=Evolution(population=8, fidelity=Ladder(eta=2, cohort=4)),
            lag=4,
            chunk=2,
            directory=folder,
            study=False,
            finish=Finish(members=0, base=False, onnx=False),
        )

    search(tmp_path / "run").run(evaluations=20)
    result = search(tmp_path / "run").run(evaluations=40)  # goes on, and asks what it would have asked
    whole = search(tmp_path / "whole").run(evaluations=40)
    assert [(m.candidate.id, m.metrics) for m in result.front] == [
        (m.candidate.id, m.metrics) for m in whole.front
    ]

    from search.record.ledger import Ledger

    ledger = Ledger.reader(tmp_path / "run" / "ledger.db")
    found = {e.candidate.id: e for _, e in ledger.evaluations()}
    promoted = [e for e in found.values() if e.candidate.operator == PROMOTED]
    assert {e.metrics["rung"] for e in promoted} == {1.0, 2.0}
    for e in promoted:
        parent = found[e.candidate.parents[0]]
        assert (parent.candidate.genome == e.candidate.genome).all()
        assert e.metrics["rung"] == parent.metrics["rung"] + 1
        assert (
            e.metrics["lineage_steps"] == parent.metrics["lineage_steps"] + (0, 4, 12)[int(e.metrics["rung"])]
        )
    better = [e.metrics["loss"] < found[e.candidate.parents[0]].metrics["loss"] for e in promoted]
    assert np.mean(better) > 0.8
    table = rungs(gather(ledger))
    ledger.close()
    assert [rung.looked for rung in table] == [
        sum(e.metrics["rung"] == r for e in found.values()) for r in (0, 1)
    ]
    assert table[1].correlation.n == sum(e.metrics["rung"] == 2 for e in found.values())
    from search.report import write_report

    assert "The rungs" in write_report(tmp_path / "run").read_text()


def test_rank_correlation_known_answers():
    x = np.arange(5.0)
    assert rank_correlation(x, x).tau == pytest.approx(1) and rank_correlation(x, -x).tau == pytest.approx(-1)
    assert rank_correlation(x, np.array([0.0, 1, 2, 4, 3])).tau == pytest.approx(
        0.8
    )  # one of ten pairs is discordant
    assert np.isnan(rank_correlation(x[:1], x[:1]).tau) and not rank_correlation(x[:1], x[:1]).positive


def test_what_size_alone_explains_is_no_correlation():
    rng = np.random.default_rng(0)
    size = rng.normal(size=400)
    x, y, own = (
        np.exp(size) + 0.3 * rng.normal(size=400),
        size + 0.3 * rng.normal(size=400),
        rng.normal(size=400),
    )
    assert rank_correlation(x, y).tau > 0.6
    assert abs(rank_correlation(x, y, size).tau) < 0.08
    assert rank_correlation(size + 0.3 * own, 5 * size + own, size).tau > 0.5
