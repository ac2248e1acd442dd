import json
import pickle

import numpy as np
import pytest

from operators.controller import Controller
from operators.mutation import BitFlip, ConjunctivePruning, RandomPruning, VariancePruning
from spaces.errors import InputError


def arms():
    return [RandomPruning(0.1), VariancePruning(amount=0.2), ConjunctivePruning(amount=0.3)]


def run(controller, chances, steps=600, seed=0):
    """Let arms succeed by their chances; return how often each was chosen."""
    rng, chosen = np.random.default_rng(seed), np.zeros(len(chances))
    for _ in range(steps):
        arm = controller.choose(rng)
        chosen[arm] += 1
        controller.told(arm, rng.random() < chances[arm])
    return chosen / steps


def test_nothing_is_preferred_at_first():
    assert Controller(arms()).chances().tolist() == pytest.approx([1 / 3] * 3)
    assert Controller(arms(), "ucb").chances().tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("rule", ["matching", "ucb"])
def test_what_succeeds_is_chosen_more_often(rule):
    shares = run(Controller(arms(), rule, factor=1.0), [0.1, 0.9, 0.1])
    assert shares[1] > 1.5 * max(shares[0], shares[2])
    assert shares.min() > 0.03


def test_it_follows_a_change():
    controller = Controller(arms())
    run(controller, [0.9, 0.1, 0.1])
    assert controller.chances().argmax() == 0
    run(controller, [0.1, 0.1, 0.9], seed=1)
    assert controller.chances().argmax() == 2


def test_no_arm_falls_below_the_floor():
    controller = Controller(arms(), floor=0.2)
    for _ in range(100):
        controller.told(0, True)
        controller.told(1, False)
    assert controller.chances().min() >= 0.2 and controller.chances().sum() == pytest.approx(1)


def test_the_amount_rises_and_falls_within_bounds():
    controller = Controller(arms(), factor=1.5, bounds=(0.05, 0.4))
    assert [controller.mutation(arm).amount for arm in range(3)] == [0.1, 0.2, 0.3]
    controller.told(0, True)
    controller.told(1, False)
    assert [controller.mutation(arm).amount for arm in range(3)] == pytest.approx([0.15, 0.2 / 2.25, 0.3])
    for _ in range(20):
        controller.told(0, True)
        controller.told(1, False)
    assert [controller.mutation(arm).amount for arm in range(2)] == [0.4, 0.05]


def test_the_amount_settles_where_two_of_three_succeed():
    """Success gets less likely as more is taken: 1 - amount."""
    controller, rng, amounts = (
        Controller([RandomPruning(0.05)], factor=1.1, bounds=(0.01, 1.0)),
        np.random.default_rng(0),
        [],
    )
    for _ in range(3000):
        amount = controller.mutation(0).amount
        controller.told(0, rng.random() < 1 - amount)
        amounts.append(amount)
    assert abs(np.mean(amounts[500:]) - 1 / 3) < 0.05


def test_mutations_stay_as_they_are_and_those_without_amount_are_taken():
    flip, pruning = BitFlip(0.1), RandomPruning(0.1)
    controller = Controller([flip, pruning])
    controller.told(0, True)
    controller.told(1, True)
    assert pruning.amount == 0.1 and controller.mutation(1).amount == pytest.approx(0.12)
    assert controller.mutation(0).rate == 0.1 and flip.amount is None


def test_the_state_travels_as_json():
    controller = Controller(arms())
    run(controller, [0.2, 0.7, 0.4], 50)
    copied = Controller(arms()).at(json.loads(json.dumps(controller.state)))
    assert copied.state == controller.state and copied.chances().tolist() == controller.chances().tolist()
    copied.told(0, True)
    assert copied.state != controller.state
    assert controller.at(None).state == Controller(arms()).state == controller.at({}).state
    assert pickle.loads(pickle.dumps(controller)).state == controller.state


def test_a_state_of_other_arms_is_refused():
    with pytest.raises(InputError, match="expected 3 each"):
        Controller(arms()).at(Controller(arms()[:2]).state)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"mutations": []}, "at least one"),
        ({"rule": "greedy"}, "matching or ucb"),
        ({"decay": 0}, "decay 0"),
        ({"factor": 0.5}, "factor 0.5"),
        ({"bounds": (0.5, 0.1)}, "bounds"),
        ({"floor": 0.5}, "floor 0.5"),
    ],
)
def test_settings_out_of_range_are_named(settings, text):
    with pytest.raises(InputError, match=text):
        Controller(**{"mutations": arms(), **settings})
