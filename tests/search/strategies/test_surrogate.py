"""Children are chosen by a model of earlier results, where it has shown that it predicts them."""

import moocore
import numpy as np
import pytest

from operators.mutation import BitFlip
from search import Evolution, Ladder, Surrogate
from search.problem import Objective, Problem
from search.strategies.proposals import Proposal
from search.testing import BitSpace, StrategyContract, Toy, evaluate
from spaces.errors import InputError


def predictable(genomes):
    """A loss that follows from the share of ones in the first half; the cost is all ones."""
    return {"loss": 1 - genomes[:, :16].mean(axis=1), "cost": genomes.sum(axis=1).astype(float)}


def noise(genomes):
    """A loss that has nothing to do with shares."""
    numbers = [int.from_bytes(genome.tobytes(), "big") * 2654435761 % 997 / 997 for genome in genomes]
    return {"loss": np.array(numbers), "cost": genomes.sum(axis=1).astype(float)}


def problem(function, objectives=("loss", "cost")):
    space = BitSpace(32, segments=2)
    evaluator = Toy(function, ["loss"], ["cost"])
    evaluator.bind(space)
    return Problem(space, evaluator, tuple(Objective(name) for name in objectives))


def played(surrogate, problem, n, seed=0):
    """Evolve and return the strategy and all evaluations."""
    strategy = Evolution(population=16, mutations=[BitFlip()], surrogate=surrogate)
    strategy.start(problem, seed)
    told = []
    while len(told) < n:
        found = evaluate(problem, strategy.ask(8))
        strategy.tell(found)
        told += found
    return strategy, told


class TestEvolutionWithSurrogate(StrategyContract):
    def strategy(self):
        return Evolution(population=8, surrogate=Surrogate(times=2, trees=10))


def test_it_is_trusted_where_it_predicts_and_not_where_it_cannot():
    knowing, _ = played(Surrogate(), problem(predictable), 160)
    guessing, _ = played(Surrogate(), problem(noise), 160)
    assert knowing.surrogate.trusted and knowing.surrogate.correlation.tau > 0.3
    assert abs(guessing.surrogate.correlation.tau) < 0.25


def test_it_proposes_the_better_children():
    strategy, _ = played(Surrogate(chance=0.25), problem(predictable), 160)
    space, rng = strategy.problem.space, np.random.default_rng(1)
    drawn = [Proposal(genome, (0,)) for genome in space.sample(400, rng)]
    for row in range(0, 400, 2):  # of one size each: half of them with their ones where they count
        ones = rng.permutation(16)[: 4 + row // 40]
        drawn[row].genome[:] = 0
        drawn[row].genome[ones] = 1
    chosen = strategy.surrogate.over(lambda n: drawn[:n], strategy._initial)(100)
    assert len(chosen) == 100 and chosen[:25] == drawn[:25], "a share is taken unseen"
    worth = [
        [int(p.genome[:16].sum()) - int(p.genome[16:].sum()) for p in proposals]
        for proposals in (chosen[25:], drawn)
    ]
    assert np.mean(worth[0]) > 1.5 * np.mean(worth[1]) > 0


def test_it_finds_more_with_as_many_evaluations():
    plain, aided = [], []
    for seed in range(4):
        for found, surrogate in ((plain, None), (aided, Surrogate(trees=15))):
            _, told = played(surrogate, problem(predictable), 240, seed)
            values = np.array([[e.metrics["loss"], e.metrics["cost"] / 32] for e in told])
            found.append(moocore.hypervolume(values, ref=np.array([1.01, 1.01])))
    assert np.mean(aided) > np.mean(plain)


class Risen(Toy):
    rungs = 2


def test_promoted_candidates_are_not_what_it_predicts():
    """They have been trained for longer than the children that it is to choose from."""
    given = problem(predictable)
    given.evaluator = Risen(predictable, ["loss"], ["cost"])
    given.evaluator.bind(given.space)
    strategy = Evolution(population=8, surrogate=Surrogate(), fidelity=Ladder(eta=2, cohort=4))
    strategy.start(given, 0)
    candidates = []
    while len(candidates) < 24:
        asked = strategy.ask(4)
        strategy.tell(evaluate(given, asked))
        candidates += asked
    new = [c for c in candidates if c.operator != "promoted"]
    assert len(new) < len(candidates) == len(strategy.surrogate._known) and len(
        strategy.surrogate._rows
    ) == len(new)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"times": 1}, "times 1; expected at least 2"),
        ({"chance": 2.0}, "chance 2.0; expected 0 to 1"),
        ({"trees": 0}, "trees 0"),
    ],
)
def test_a_wrong_setting_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Surrogate(**settings)
