"""Children are chosen by what they may improve, where a genome is a few choices."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from torch import nn

from evaluators.base import State
from operators.mutation import BitFlip
from search import Evolution, Ladder
from search.problem import Constraint, Objective, Problem
from search.strategies.expected_improvement import ExpectedImprovement, expected_improvement
from search.strategies.gaussian_process import GaussianProcess, _squared
from search.strategies.population import Population
from search.testing import BitSpace, StrategyContract, Toy, evaluate
from spaces import Categorical, ChoiceSpace, Integer
from spaces.errors import InputError

RNG = np.random.default_rng(0)


class Few(ChoiceSpace):
    """A few thousand settings: two ordered, two not."""

    depth = Integer(1, 9)
    width = Integer(1, 9)
    kind = Categorical(["a", "b", "c", "d", "e"])
    other = Categorical(["a", "b", "c", "d", "e"])

    def build_from(self, depth, width, kind, other):
        return nn.Identity()


def bowl(genomes):
    """Lowest at (6, 2, 3, 1); the cost rises with the first locus, and the two oppose each other below 6."""
    g = genomes.astype(float)
    error = ((g[:, 0] - 6) / 8) ** 2 + ((g[:, 1] - 2) / 8) ** 2 + 0.3 * (g[:, 2] != 3) + 0.2 * (g[:, 3] != 1)
    return {"error": error, "cost": g[:, 0]}


def problem(space=None, objectives=("error",), constraints=(), screened=()):
    space = space or Few()
    metrics = [name for name in ("error", "cost") if name not in screened]
    evaluator = Toy(bowl, metrics, screened)
    evaluator.bind(space)
    goals, limits = map(Objective, objectives), map(Constraint.parse, constraints)
    return Problem(space, evaluator, tuple(goals), tuple(limits))


def play(strategy, given, n, seed=0, chunk=1):
    strategy.start(given, seed)
    told = []
    while len(told) < n:
        found = evaluate(given, strategy.ask(chunk))
        strategy.tell(found)
        told += found
    return told


class TestEvolutionWithExpectedImprovement(StrategyContract):
    def strategy(self):
        return Evolution(population=8, surrogate=ExpectedImprovement(pool=32, begin=6))


def process(points=12, seed=0):
    rng = np.random.default_rng(seed)
    model = GaussianProcess(np.array([9, 9, 5, 5]), np.array([True, True, False, False]))
    genomes = Few().sample(points, rng)
    return model, model.embed(genomes), bowl(genomes)["error"]


def test_distances_are_sums_over_loci():
    model, _, _ = process()
    a, b = (model.embed(np.array([row])) for row in ([0, 0, 0, 0], [8, 4, 0, 3]))
    assert _squared(a, b)[0, 0] == pytest.approx(1 + 0.25 + 0 + 1)


def test_the_slope_of_the_posterior_is_its_derivative():
    model, points, values = process()
    squares = np.stack([_squared(part, part) for part in (points[:, model._locus == k] for k in range(4))])
    theta = model.theta + np.random.default_rng(1).normal(0, 0.3, len(model.theta))
    expected = approx_fprime(theta, lambda t: model._loss(t, squares, values)[0], 1e-6)
    assert np.allclose(model._loss(theta, squares, values)[1], expected, rtol=1e-3, atol=1e-3)


def test_without_noise_it_passes_through_what_is_known_and_knows_no_more_elsewhere():
    model, points, values = process()
    model.theta[-1] = -7
    model.condition(points, values, points[:0])
    known = model.predict(points)
    assert np.allclose(known.means, values, atol=1e-3) and (known.variances < 1e-3).all()
    far = model.predict(model.embed(Few().sample(20, np.random.default_rng(9))))
    assert far.variances.max() > 0.05


def test_what_is_believed_counts_as_what_is_pending():
    model, points, values = process(16)
    model.condition(points[:10], values[:10], points[10:11])
    expected = model.predict(points[11:])
    model.condition(points[:10], values[:10], points[:0])
    prediction = model.predict(points[10:])
    prediction.believe(0)
    assert np.allclose(prediction.variances[1:], expected.variances)
    assert np.allclose(prediction.means[1:], expected.means)


def test_the_improvement_of_one_objective_is_that_of_many_draws():
    means, spreads, front = (
        np.array([[0.2], [1.0], [-0.5]]),
        np.array([[0.5], [1.0], [0.1]]),
        np.array([[0.0]]),
    )
    draws = (
        means + spreads * np.random.default_rng(0).standard_normal((200_000, 3, 1)).transpose(1, 0, 2)[..., 0]
    )
    expected = np.maximum(-draws, 0).mean(axis=1)
    found = expected_improvement(means, spreads, front, RNG)
    assert np.allclose(found, expected, rtol=0.02, atol=1e-3)


def test_with_several_objectives_what_the_front_dominates_promises_nothing():
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    means = np.array([[1.0, 1.0], [0.4, 0.4], [-0.5, 0.5]])
    found = expected_improvement(means, np.full((3, 2), 1e-6), front, RNG)
    assert found[0] == 0 < found[1] < found[2]


def test_it_finds_the_optimum_where_evolution_alone_has_not():
    def steps(surrogate, seed):
        told = play(Evolution(surrogate=surrogate), problem(), 60, seed)
        errors = [e.metrics["error"] for e in told]
        return errors.index(0.0) if 0.0 in errors else 60

    model = [steps("auto", seed) for seed in range(4)]
    alone = [steps(None, seed) for seed in range(4)]
    assert max(model) < 60 and np.mean(model) < np.mean(alone)


def test_nothing_is_asked_twice_until_there_is_nothing_left():
    class Tiny(ChoiceSpace):
        a = Integer(0, 5)
        b = Integer(0, 5)
        c = Categorical(["x", "y"])
        d = Categorical(["x", "y"])

        def build_from(self, a, b, c, d):
            return nn.Identity()

    strategy = Evolution()
    given = problem(Tiny())
    told = play(strategy, given, 140, chunk=4)
    assert len({e.candidate.genome.tobytes() for e in told}) == 140
    assert len(strategy.ask(8)) == 4


def test_candidates_that_run_at_once_are_not_neighbours_of_one_guess():
    strategy, given = Evolution(), problem()
    play(strategy, given, 20)
    asked = strategy.ask(12)
    assert len({c.genome.tobytes() for c in asked}) == 12


def test_limits_are_kept():
    given = problem(objectives=("error",), constraints=("cost <= 4",), screened=("cost",))
    told = play(Evolution(), given, 50)
    assert all(e.metrics["cost"] <= 4 for e in told)
    given = problem(objectives=("error",), constraints=("cost <= 4",))
    told = play(Evolution(), given, 60)
    assert np.mean([e.metrics["cost"] <= 4 for e in told[30:]]) > 0.6
    best = min(e.metrics["error"] for e in told if e.metrics["cost"] <= 4)
    assert best == pytest.approx(0.0625)  # (4, 2, 3, 1)


def test_it_goes_on_from_its_state():
    given = problem(objectives=("error", "cost"))
    strategy, fresh = (Evolution() for _ in range(2))
    play(strategy, given, 40, chunk=4)
    pending = strategy.ask(4)
    fresh.start(given, 0)
    fresh.restore(strategy.state())
    for _ in range(3):
        a, b = strategy.ask(4), fresh.ask(4)
        assert [c.genome.tolist() for c in a] == [c.genome.tolist() for c in b]
        for one in (strategy, fresh):
            one.tell(evaluate(given, pending))
        pending = a


def test_failures_are_learned_from():
    strategy, given, asked = Evolution(), problem(), []
    strategy.start(given, 0)
    for _ in range(60):
        (one,) = strategy.ask(1)
        asked.append(one.genome[2])
        (found,) = evaluate(given, [one])
        strategy.tell([replace(found, state=State.FAILED, metrics={}) if one.genome[2] == 3 else found])
    assert np.mean(np.array(asked[40:]) == 3) < 0.2


@pytest.mark.parametrize(
    ("space", "settings", "model"),
    [
        (Few(), {}, True),
        (BitSpace(32, 2), {}, False),  # channels
        (Few(), {"fidelity": Ladder()}, False),
        (Few(), {"surrogate": None}, False),
    ],
    ids=["choices", "channels", "looks", "none"],
)
def test_a_model_chooses_by_default_where_a_genome_is_a_few_choices(space, settings, model):
    strategy = Evolution(mutations=[BitFlip()], **settings)
    given = problem(space)
    given.evaluator.rungs = 2
    strategy.start(given, 0)
    assert isinstance(strategy._preselection, ExpectedImprovement) == model


@pytest.mark.parametrize(
    ("objectives", "told", "size"), [(1, 0, 16), (1, 200, 28), (1, 5000, 141), (2, 0, 64), (2, 5000, 64)]
)
def test_a_population_is_as_large_as_suits_the_results(objectives, told, size):
    given = problem(objectives=("error", "cost")[:objectives])
    population = Population(given, None, None, RNG)
    population._told = told
    assert population.size == size
    assert Population(given, 7, None, RNG).size == 7


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pool": 1}, "pool 1; expected at least 2"),
        ({"remembered": 3}, "remembered 3"),
        ({"begin": 1}, "begin 1; expected at least 2"),
    ],
)
def test_a_wrong_setting_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        ExpectedImprovement(**settings)
