"""One strategy after another, and what the training of all may take."""

from contextlib import closing

import pytest
import torch

from evaluators import Cost, Evaluation, InheritedTraining, State
from evaluators.data import Digits
from evaluators.inherited.channel_worth import CriterionWorth
from operators.mutation import RemovalPruning
from search import Evolution, Finish, Ladder, PruningLines, RandomSearch, Search, Stages
from search.record.ledger import Ledger
from search.strategy import Strategy
from search.testing import StrategyContract, evaluate, lotz
from spaces.errors import InputError
from spaces.models import Perceptron

LAG = 4


class Few(Strategy):
    """Asks so many random genomes, and remembers whom it was told of."""

    def __init__(self, count):
        self.count = count

    def start(self, problem, seed):
        super().start(problem, seed)
        self.left, self.told, self.own = self.count, [], []

    def ask(self, n):
        n = min(n, self.left)
        self.left -= n
        asked = [self._candidate(genome) for genome in self.problem.space.sample(n, self.rng)]
        self.own += [candidate.id for candidate in asked]
        return asked

    def tell(self, evaluations):
        self.told += [e.candidate.id for e in evaluations]


class TestStagesContract(StrategyContract):
    def strategy(self):
        return Stages([RandomSearch()])


class TestStagesThatEvolve(StrategyContract):
    def strategy(self):
        return Stages([Few(0), Evolution(population=10)])


def played(strategy, problem, n, chunk=4):
    """Ask so many in chunks, each told before the next is asked."""
    strategy.start(problem, 0)
    told = []
    while len(told) < n and (asked := strategy.ask(chunk)):
        told += evaluate(problem, asked)
        strategy.tell(told[-len(asked) :])
    return told


def test_a_stage_begins_when_all_of_the_one_before_was_told_and_knows_of_it():
    first, second, third = Few(10), Few(3), Few(100)
    strategy = Stages([first, second, third])
    evaluations = played(strategy, lotz(16), 24)
    assert [e.candidate.id for e in evaluations] == list(range(25))
    assert first.own == list(range(10)) == first.told
    assert second.own == [10, 11, 12] and second.told == list(range(13))
    assert third.own == list(range(13, 25)) and third.told == list(range(25))


def test_while_something_is_open_it_waits_instead_of_going_on():
    problem, strategy = lotz(16), Stages([Few(2), Few(5)])
    strategy.start(problem, 0)
    asked = strategy.ask(4)
    assert len(asked) == 2 and strategy.ask(4) == [] and strategy.waiting
    strategy.tell([Evaluation(c, State.COMPLETE, {"error": 0.5, "macs": 0.5}) for c in asked[:1]])
    assert strategy.ask(4) == [] and strategy.waiting
    strategy.tell([Evaluation(c, State.COMPLETE, {"error": 0.5, "macs": 0.5}) for c in asked[1:]])
    assert [c.id for c in strategy.ask(4)] == [2, 3, 4, 5] and strategy.waiting


def test_evolution_begins_with_what_it_was_told_and_asks_none_of_it_again():
    problem = lotz(16)
    evaluations = played(Stages([Few(30), Evolution(population=30)]), problem, 80)
    first, children = ([e.candidate for e in part] for part in (evaluations[:30], evaluations[30:]))
    assert all(child.parents and child.parents[0] < 30 for child in children[:4])
    assert not {child.genome.tobytes() for child in children} & {
        candidate.genome.tobytes() for candidate in first
    }


def test_heirs_are_those_of_all_stages_to_come():
    strategy = Stages([Few(4), Evolution(population=10)])
    played(strategy, lotz(16), 20)
    assert strategy.heirs() == strategy.strategies[1].heirs()
    assert strategy.heirs()
    strategy = Stages([Evolution(population=10), Few(4)])
    played(strategy, lotz(16), 8)
    assert strategy.heirs() is None  # who of the second stage may become a parent nobody knows
    with pytest.raises(InputError, match="Stages: strategies is empty; expected at least one"):
        Stages([])


@pytest.fixture
def make(tmp_path):
    data = Digits(train_samples=100)

    def search(directory=None, stages=True, **settings):
        torch.manual_seed(0)
        evaluator = InheritedTraining(
            steps=[4, 8], batch_size=25, first_steps=12, worth=CriterionWorth(), record_activations=False
        )
        line = PruningLines(rounds=5, smallest=0.1, mutation=RemovalPruning(power=0))
        return Search(
            Perceptron((64, 12, 8, 10)),
            data,
            evaluators=[Cost(), evaluator],
            objectives=["loss", "macs"],
            strategy=Stages([line, Evolution(population=8, fidelity=Ladder(cohort=6))]) if stages else line,
            criteria=[],
            lag=LAG,
            chunk=2,
            directory=directory,
            study=False,
            finish=Finish(members=0, base=False, onnx=False),
            **settings,
        )

    return search


def spent(result, without=0):
    """Epochs of the base model that all but the last few candidates took."""
    macs = [e.metrics["training_macs"] for e in sorted(evaluations(result), key=lambda e: e.candidate.id)]
    return sum(macs[: len(macs) - without]) / (3 * result.problem.base["macs"] * 100)


def evaluations(result):
    with closing(Ledger.reader(result.directory / "ledger.db")) as ledger:
        return [evaluation for _, evaluation in ledger.evaluations()]


def test_a_budget_of_epochs_ends_it_and_a_larger_one_goes_on(make, tmp_path):
    whole = make(tmp_path / "whole").run(evaluations=None, epochs=6)
    assert whole.reason == "epochs" and spent(whole, without=LAG) < 6 <= spent(whole)
    part = make(tmp_path / "run").run(evaluations=None, epochs=3)
    assert part.reason == "epochs" and spent(part, without=LAG) < 3 <= spent(part)
    again = make(tmp_path / "run").run(evaluations=None, epochs=3)
    assert again.complete
    on = make(tmp_path / "run").run(evaluations=None, epochs=6)
    losses = [
        sorted((e.candidate.id, e.metrics["loss"]) for e in evaluations(result)) for result in (on, whole)
    ]
    assert losses[0] == losses[1]
    operators = {e.candidate.operator for e in evaluations(whole)}
    assert "RemovalPruning" in operators and "promoted" in operators


def test_epochs_that_nobody_counts_are_refused_before_anything_starts(make, tmp_path):
    search = Search(
        Perceptron((64, 4, 10)), Digits(train_samples=50), directory=tmp_path / "run", study=False
    )
    with pytest.raises(
        InputError, match=r"budget.epochs: nobody counts what training takes; expected evaluators Cost"
    ):
        search.run(evaluations=None, epochs=2)
