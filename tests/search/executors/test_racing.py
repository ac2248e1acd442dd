"""A search whose candidates race: the same run on any number of workers, killed or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Arrays, Evaluators, Quality
from evaluators.base import Cause, Evaluator, State
from evaluators.racing import LOSSES, SEEN
from search.budget import Budget
from search.executors import InlineExecutor
from search.executors.racing import raced_objective
from search.loop import Loop
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from search.report.race_facts import RaceFacts
from search.strategies.evolution import Evolution
from search.testing import BitSpace
from spaces.errors import InputError
from tests.search.loop_case import Killed, Killing, genomes, members, simulated


class Weights(nn.Module):
    def __init__(self, bits):
        super().__init__()
        self.register_buffer("bits", torch.from_numpy(bits.astype(np.float32)))

    def forward(self, x):
        return (x * self.bits).sum(1, keepdim=True)


class Subsets(BitSpace):
    def build(self, genome):
        return Weights(genome)


class Ones(Evaluator):
    screened = ("ones",)

    def screen(self, genomes):
        return {"ones": genomes.sum(axis=1).astype(float)}

    def evaluate(self, model, candidate):
        return iter(())


SPACE = Subsets(24, segments=4)
_RNG = np.random.default_rng(0)
INPUTS = _RNG.normal(size=(1500, 24)).astype(np.float32) * np.linspace(0.2, 1, 24, dtype=np.float32)
DATA = Arrays(INPUTS, INPUTS.sum(1) + 0.1 * _RNG.normal(size=1500).astype(np.float32))
COUNT = DATA.size("search")


def problem(objectives=("squared_error", "ones"), data=DATA, **settings):
    quality = Quality(recalibration=None, record_activations=False, **{"race": True} | settings)
    evaluator = Evaluators([Ones(), quality])
    evaluator.bind(SPACE, data)
    return Problem(SPACE, evaluator, tuple(map(Objective.parse, objectives)))


def play(evaluations, executor=None, ledger=None, **settings):
    ledger = ledger or Ledger(None, SPACE)
    given = problem(**settings)
    loop = Loop(
        given,
        Evolution(),
        executor or InlineExecutor(),
        ledger,
        Budget(evaluations=evaluations),
        lag=16,
        chunk=4,
    )
    loop.run()
    return loop


def results(ledger):
    return sorted((e.candidate.id, e.state, e.metrics, e.reason) for _, e in ledger.evaluations())


@pytest.fixture(scope="module")
def alone():
    return play(80)


def test_some_are_stopped_and_the_front_has_seen_everything(alone):
    found = [e for _, e in alone.ledger.evaluations()]
    beaten = [e for e in found if e.cause is Cause.BEATEN]
    assert len(beaten) > 20 and all(
        e.state is State.PRUNED and e.reason.startswith("beaten by") for e in beaten
    )
    assert all(e.metrics[SEEN] < COUNT for e in beaten)
    assert all(e.metrics[SEEN] == COUNT for e in found if e.state is State.COMPLETE)
    assert all(LOSSES not in e.arrays and e.candidate.rivals is None for e in found)


def test_candidates_are_held_against_the_front_before_they_were_asked(alone):
    for _, e in alone.ledger.evaluations():
        if e.cause is Cause.BEATEN:
            rival = alone.ledger.evaluation(int(e.reason.split()[3]))
            assert rival.candidate.id < e.candidate.id - e.candidate.id % 4 - 16 + 4
            assert rival.metrics["ones"] <= e.metrics["ones"]


def test_the_run_is_the_same_on_any_number_of_workers(alone):
    loop = play(80, simulated(7))
    assert genomes(loop.ledger) == genomes(alone.ledger)
    assert results(loop.ledger) == results(alone.ledger) and members(loop) == members(alone)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(alone, tmp_path):
    path, left = tmp_path / "ledger.db", 11
    while True:
        ledger = Ledger(path, SPACE)
        try:
            loop = play(80, Killing(simulated(5), left), ledger)
            break
        except Killed:
            left += 23
        finally:
            del ledger
    assert results(loop.ledger) == results(alone.ledger) and members(loop) == members(alone)
    assert not loop.ledger.note("race")  # all are finished


def test_what_was_saved_is_told_in_one_sentence(alone):
    facts = RaceFacts.of(alone.ledger)
    assert facts.raced == 80 and facts.split == COUNT and facts.seen < 0.9 * 80 * COUNT
    share = round(100 * facts.seen / 80 / COUNT)
    assert facts.sentence == (
        f"racing: {share} % of the samples were seen, since {facts.beaten} of 80 candidates were beaten by "
        f"the front before they had seen all {COUNT}"
    )
    assert RaceFacts.of(play(8, race=None).ledger).sentence == ""


def test_few_are_beaten_that_would_have_joined_the_front(alone):
    everyone = play(80, race=None)
    given = problem(race=None)
    wrong = 0
    for _, e in alone.ledger.evaluations():
        if e.cause is Cause.BEATEN:
            (report,) = given.evaluator.parts[1].evaluate(SPACE.build(e.candidate.genome), e.candidate)
            rival = alone.ledger.evaluation(int(e.reason.split()[3]))
            wrong += report.metrics["squared_error"] < rival.metrics["squared_error"]
    assert wrong <= 0.05 * 80
    assert len(everyone.front) > 3


@pytest.mark.parametrize(
    "objectives", [("squared_error", "absolute_error"), ("ones",), ("squared_error", "samples_seen", "ones")]
)
def test_objectives_that_do_not_suit_a_race_are_refused(objectives):
    given = problem(objectives)
    with pytest.raises(
        InputError, match=r"^evaluator Quality: race: the objectives that are measured are .*expected one"
    ) as found:
        raced_objective(given.evaluator, given.objectives)
    assert "\n" not in str(found.value)
    with pytest.raises(InputError, match="race"):
        Loop(given, Evolution(), InlineExecutor(), Ledger(None, SPACE), Budget(evaluations=4))


def test_one_objective_races_as_well():
    loop = play(60, objectives=("max accuracy",), data=labelled())
    assert {e.state for _, e in loop.ledger.evaluations()} == {State.COMPLETE, State.PRUNED}


def labelled():
    inputs = np.abs(INPUTS)
    return Arrays(inputs, (inputs.sum(1) > np.median(inputs.sum(1))).astype(int), task=Signs())


class Signs:
    """Right where the sum is on the side of the label."""

    metric_names = ("accuracy",)

    def typed(self, targets):
        return targets.long()

    def loss(self, outputs, targets):
        return (outputs[:, 0] - 11).abs()

    def metrics(self, outputs, targets):
        return {"accuracy": ((outputs[:, 0] > 11).long() == targets).float()}

    def invalid(self, targets, train):
        return torch.zeros_like(targets, dtype=torch.bool), ""


class Negative(Signs):
    metric_names = ("gain",)

    def metrics(self, outputs, targets):
        return {"gain": -outputs[:, 0].abs()}


def test_a_metric_that_may_be_negative_is_refused_in_one_line():
    data = Arrays(INPUTS, np.zeros(1500, int), task=Negative())
    with pytest.raises(
        InputError, match=r"gain of candidate \d+ is -.* expected a metric that is never below 0"
    ):
        play(60, objectives=("gain", "ones"), data=data)
