import numpy as np
import pytest

from operators.mutation import ConjunctivePruning, RandomPruning, VariancePruning
from operators.testing import PruningContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.errors import InputError

SPACE = ToySpace((Segment("a", 20), Segment("b", 20)))
FULL = np.ones((1, 40), dtype=np.uint8)


class TestRandomPruning(PruningContract):
    def mutation(self):
        return RandomPruning(amount=0.2)


class TestVariancePruning(PruningContract):
    def mutation(self):
        return VariancePruning(amount=0.5)


class TestVariancePruningLow(PruningContract):
    def mutation(self):
        return VariancePruning("low")


class TestConjunctivePruning(PruningContract):
    def mutation(self):
        return ConjunctivePruning(threshold=0.3)


class TestConjunctivePruningBounded(PruningContract):
    def mutation(self):
        return ConjunctivePruning(threshold=0.6, cases=3, amount=0.1)


class Layered(ToySpace):
    """Six weights into three units of one layer, and a fourth unit that nothing is known of."""

    def __init__(self, round_to=1):
        super().__init__((Segment("weights", 6), Segment("unknown", 3)))
        self.units_of = np.array([0, 1, 2, 0, 1, 2, -1, -1, -1])
        self.unit_layers = np.zeros(3, dtype=int)


class Multiples(ToySpace):
    """Keeps multiples of four."""

    def repair(self, genomes):
        genomes = super().repair(genomes)
        for row in genomes:
            for part in self.slices.values():
                target = max(4, round(int(row[part].sum()) / 4) * 4)
                on, off = np.flatnonzero(row[part] == 1), np.flatnonzero(row[part] == 0)
                row[part][on[target:]] = 0
                row[part][off[: max(0, target - len(on))]] = 1
        return genomes


def outputs(deviations, examples=50):
    """Alternating signs, so that the deviation of every unit is known."""
    return (np.where(np.arange(examples) % 2, 1.0, -1.0)[:, None] * np.asarray(deviations)).astype(np.float32)


def chances(mutation, space, genome, guide, n=3000):
    genomes = np.tile(genome, (n, 1)).astype(np.uint8)
    guide = {**guide, "outputs": np.broadcast_to(guide["outputs"], (n, *guide["outputs"].shape[-2:]))}
    return (mutation(space, genomes, guide, np.random.default_rng(0)) < genomes).mean(axis=0)


def test_random_takes_its_share_of_every_segment():
    pruned = RandomPruning(0.25)(SPACE, np.repeat(FULL, 200, 0), {}, np.random.default_rng(0))
    assert (pruned.reshape(-1, 2, 20).sum(axis=2) == 15).all()


def test_random_draws_among_the_dead_too():
    half = np.tile(np.arange(40) % 2 == 0, (2000, 1)).astype(np.uint8)
    gone = (RandomPruning(0.2)(SPACE, half, {}, np.random.default_rng(0)) < half).sum(axis=1)
    assert abs(gone.mean() - 4) < 0.2  # of 8 that are drawn half are dead already


def test_random_takes_broken_numbers_on_average():
    small = ToySpace((Segment("latent", 4),))
    gone = (RandomPruning(0.1)(small, np.ones((4000, 4), np.uint8), {}, np.random.default_rng(0)) == 0).sum(
        axis=1
    )
    assert set(gone) == {0, 1}
    assert abs(gone.mean() - 0.4) < 0.04


def test_high_variance_goes_by_its_scaled_deviation():
    gone = chances(VariancePruning(), SPACE, FULL[0], {"outputs": outputs(np.tile(np.arange(20.0), 2))})
    np.testing.assert_allclose(gone, np.tile(np.arange(20) / 19, 2), atol=0.04)


def test_low_variance_is_the_reverse():
    gone = chances(
        VariancePruning("low", amount=0.5), SPACE, FULL[0], {"outputs": outputs(np.tile(np.arange(20.0), 2))}
    )
    np.testing.assert_allclose(gone, 0.5 * np.tile(1 - np.arange(20) / 19, 2), atol=0.04)


def test_layers_have_scales_of_their_own():
    deviations = np.concatenate([np.arange(20.0), 1000 * np.arange(20.0)])
    gone = chances(VariancePruning(), SPACE, FULL[0], {"outputs": outputs(deviations)})
    np.testing.assert_allclose(gone[:20], gone[20:], atol=0.06)


def test_units_that_vary_alike_stay():
    assert (chances(VariancePruning("low"), SPACE, FULL[0], {"outputs": outputs(np.ones(40))}) == 0).all()


def test_dead_units_have_no_say_in_the_scale():
    genome = FULL[0].copy()
    genome[10:20] = 0
    deviations = np.concatenate([10 + np.arange(10.0), np.zeros(10), np.ones(20)])
    gone = chances(VariancePruning("low"), SPACE, genome, {"outputs": outputs(deviations)})
    np.testing.assert_allclose(gone[:10], 1 - np.arange(10) / 9, atol=0.04)


def test_weights_go_with_the_unit_they_go_into_each_on_its_own():
    space = Layered()
    genomes = np.ones((4000, 9), np.uint8)
    guide = {"outputs": np.broadcast_to(outputs([0.0, 1.0, 2.0]), (4000, 50, 3))}
    gone = VariancePruning(amount=0.5)(space, genomes, guide, np.random.default_rng(0)) == 0
    np.testing.assert_allclose(gone.mean(axis=0), [0, 0.25, 0.5, 0, 0.25, 0.5, 0, 0, 0], atol=0.03)
    assert abs((gone[:, 2] & gone[:, 5]).mean() - 0.25) < 0.03


def test_conjunction_takes_whole_units_low_for_all_examples():
    space = Layered()
    levels = np.tile([0.0, 1.0, 0.5], (30, 1))
    pruned = ConjunctivePruning()(
        space, np.ones((1, 9), np.uint8), {"outputs": levels}, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(pruned[0], [0, 1, 1, 0, 1, 1, 1, 1, 1])


def test_conjunction_stops_at_one_unit_and_takes_the_last_set_that_is_not_empty():
    space = ToySpace((Segment("a", 4),))
    # units 0 and 1 are low for half of the examples, unit 0 and 2 for the others: only unit 0 is low for all
    levels = np.array([[0, 0.01, 1, 1], [0, 1, 0.01, 1]] * 10)
    pruned = ConjunctivePruning()(
        space, np.ones((1, 4), np.uint8), {"outputs": levels}, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(pruned[0], [0, 1, 1, 1])
    # nobody is low for all: what is left before the set would fall empty goes, two of four here
    levels = np.array([[0, 0, 1, 1], [1, 1, 0, 0]] * 10)
    pruned = ConjunctivePruning()(
        space, np.ones((1, 4), np.uint8), {"outputs": levels}, np.random.default_rng(0)
    )
    assert pruned[0].tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_conjunction_without_end_takes_all_that_is_low():
    space = ToySpace((Segment("a", 4),))
    pruned = ConjunctivePruning()(
        space,
        np.ones((1, 4), np.uint8),
        {"outputs": np.tile([0, 0.05, 0.09, 1.0], (9, 1))},
        np.random.default_rng(0),
    )
    np.testing.assert_array_equal(pruned[0], [0, 0, 0, 1])


def test_the_amount_bounds_a_conjunction_the_lowest_go():
    space = ToySpace((Segment("a", 4),))
    levels = np.tile([0.05, 0, 0.09, 1.0], (9, 1))
    pruned = ConjunctivePruning(amount=0.5)(
        space, np.ones((1, 4), np.uint8), {"outputs": levels}, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(pruned[0], [0, 0, 1, 1])


def test_only_so_many_cases_are_looked_at():
    space = ToySpace((Segment("a", 3),))
    levels = np.array([[0, 0, 1.0]] + [[0, 1.0, 1.0]] * 99)
    few = {
        tuple(
            ConjunctivePruning(cases=1)(
                space, np.ones((1, 3), np.uint8), {"outputs": levels}, np.random.default_rng(s)
            )[0]
        )
        for s in range(300)
    }
    assert (0, 0, 1) in few and (0, 1, 1) in few


def test_what_is_worth_most_is_spared():
    space = ToySpace((Segment("a", 5),))
    mutation = VariancePruning("high")
    genomes = np.ones((1, 5), np.uint8)
    guide = {"outputs": outputs([1.0, 2.0, 3.0, 4.0, 5.0]), "own": np.array([True] * 5)}
    mutation.amount = 1e9  # all but the steadiest go for certain, and that one is not
    assert mutation(space, genomes, guide, np.random.default_rng(0)).tolist() == [[1, 0, 0, 0, 0]]
    mutation = RandomPruning(1.0)
    assert mutation(space, genomes, {}, np.random.default_rng(0)).sum() == 1
    assert mutation.kept_by_floor == 1


def test_multiples_are_kept_without_bringing_back_or_touching_others():
    space = Multiples((Segment("a", 16), Segment("b", 16)))
    genomes = space.sample(300, np.random.default_rng(0))
    own = np.arange(32) % 4 != 0
    pruned = RandomPruning(0.4)(space, genomes, {"own": own}, np.random.default_rng(1))
    assert (pruned <= genomes).all()
    assert (pruned[:, ~own] == genomes[:, ~own]).all()
    assert (space.repair(pruned) == pruned).all()
    assert (pruned.sum(axis=1) < genomes.sum(axis=1)).mean() > 0.5


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandomPruning(1.5), "amount 1.5"),
        (lambda: VariancePruning("up"), "expected high or low"),
        (lambda: ConjunctivePruning(threshold=0), "threshold 0"),
        (lambda: ConjunctivePruning(cases=0), "cases 0"),
        (
            lambda: VariancePruning()(SPACE, FULL, {"outputs": np.zeros((3, 39))}, np.random.default_rng(0)),
            r"outputs \(3, 39\)",
        ),
    ],
)
def test_what_is_not_accepted_is_named(make, text):
    with pytest.raises(InputError, match=text):
        make()
