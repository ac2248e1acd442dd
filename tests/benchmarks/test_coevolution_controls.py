"""The controls: steps against autograd, pruning that keeps what it keeps, budgets, and the figures made of
shards.
"""

import json

import numpy as np
import pytest
import torch

from benchmarks.coevolution import controls
from benchmarks.coevolution.arms import (
    BUDGET,
    TASKS,
    WIDTHS,
    Arm,
    Point,
    Spent,
    chosen,
    hypervolume,
    macs,
    measured,
    pair,
    parameters,
)
from benchmarks.coevolution.controls import (
    ARMS,
    FromScratch,
    IterativePruning,
    Net,
    Stepper,
    importance,
    kept_units,
    parts,
    shrunk,
    train,
)
from benchmarks.coevolution.fronts import front_figures
from benchmarks.coevolution.published import PAPER, Published, beside, faithful_figures
from evaluators import count

DIGITS = TASKS["digits"]


def net(seed=0, widths=WIDTHS):
    torch.manual_seed(seed)
    return Net(widths)


def test_the_net_is_the_products_pair():
    model, other = net(), pair(0)
    values = iter(other.parameters())
    for parameter in model.parameters():
        parameter.data = next(values).data
    x = torch.rand(5, 64)
    torch.testing.assert_close(model(x), other(x.view(5, 1, 8, 8)))
    counted = count(other, (x[:1],))
    assert counted["params"] == parameters(WIDTHS) and counted["macs"] == macs(WIDTHS)


def test_the_written_out_gradient_is_autograds():
    model, copy = net(1), net(1)
    inputs, targets = (part[:32] for part in DIGITS.tensors(0)["train"])
    stepper = Stepper(model, 32)
    stepper.backward(inputs, targets)
    (copy(inputs) - targets).square().mean().backward()
    expected = torch.cat([p.grad.flatten() for p in copy.parameters()])
    assert (expected != 0).float().mean() > 0.5
    torch.testing.assert_close(stepper.flat.grad, expected, atol=1e-7, rtol=1e-4)
    stepper.flat.mul_(2)
    torch.testing.assert_close(next(model.parameters()).data, 2 * next(copy.parameters()).data)


def test_training_learns_and_takes_what_it_is_given():
    model, spent, budget = net(), Spent(BUDGET), BUDGET / 100
    before = measured(model, DIGITS, 0)
    train(model, DIGITS, 0, spent, budget, 4e-3, 32, torch.Generator().manual_seed(0))
    assert measured(model, DIGITS, 0).test < 0.06 < 0.07 < DIGITS.constant(0) < before.test
    assert 0.99 * budget < spent.macs <= budget


def test_shrinking_keeps_what_is_said_where_the_units_gone_were_constant():
    model, x = net(), torch.rand(50, 64)
    layers = list(model.layers)
    with torch.no_grad():
        for i, units in ((0, [3, 7]), (2, [1]), (4, [40])):
            layers[i].weight[units] = 0.0
            layers[i].bias[units] = 0.3
    scores = importance(model, x, "activation")
    assert all(float(scores[i][u]) < 1e-6 for i, u in ((0, 3), (0, 7), (2, 1), (4, 40)))
    gone = {0: [3, 7], 2: [1], 4: [40]}
    keep = [
        torch.tensor([u for u in range(len(s)) if u not in gone.get(i, [])]) for i, s in enumerate(scores)
    ]
    small = shrunk(model, keep, x)
    assert small.widths == (64, 46, 24, 9, 24, 47, 64)
    torch.testing.assert_close(small(x), model(x))


def test_units_compete_over_groups_and_no_group_vanishes():
    scores = [torch.tensor([5.0, 4.0, 3.0]), torch.tensor([0.2, 0.1])]
    assert [k.tolist() for k in kept_units(scores, 0.4)] == [[0, 1], [0]]
    assert [k.tolist() for k in kept_units(scores, 0.01)] == [[0], [0]]


def test_missing_pixels_are_the_inputs_alone():
    whole, holes = DIGITS.tensors(0)["test"], TASKS["digits-missing"].tensors(0)["test"]
    assert torch.equal(whole[1], holes[1]) and torch.equal(whole[0], whole[1])
    gone = (holes[0] == 0) & (whole[0] != 0)
    assert torch.equal(holes[0][~gone], whole[0][~gone]) and 0.1 < gone.float().mean() < 0.2


@pytest.mark.parametrize(
    "arm",
    [
        IterativePruning(rounds=3),
        IterativePruning(restarts=2, rounds=2, share="epochs"),
        FromScratch(sizes=3),
    ],
)
def test_arms_spend_their_budget_and_no_more(arm):
    points, spent = arm.run(DIGITS, 0, BUDGET / 200)
    assert 0.97 * BUDGET / 200 < spent <= BUDGET / 200
    assert len({p.params for p in points}) >= 3 and min(p.params for p in points) < parameters(WIDTHS) == max(
        p.params for p in points
    )
    again, _ = arm.run(DIGITS, 0, BUDGET / 200)
    assert again == points


def test_small_nets_get_equal_macs_or_equal_epochs():
    sizes = [(64, 30, 64), (64, 10, 64)]
    assert parts(sizes, "macs") == [0.5, 0.5] and parts(sizes, "epochs") == pytest.approx([0.75, 0.25])


def test_fronts_are_chosen_on_search_and_scored_on_test():
    lucky = Point(search=0.06, test=0.01, params=9146)  # good on test only
    points = [Point(0.04, 0.05, 9146), Point(0.05, 0.06, 1000), lucky]
    assert lucky not in chosen(points) and len(chosen(points)) == 2
    step = np.log(9146 / 1000)
    assert hypervolume(points, 0.1) == pytest.approx(0.4 * step)  # the unpruned one adds nothing at its size
    assert hypervolume([Point(0.2, 0.2, 500)], 0.1) == 0


class Known(Arm):
    """Points as given."""

    def __init__(self, name, points):
        self.name, self.points = name, points

    def run(self, task, seed, budget):
        return self.points, budget


def test_figures_are_made_of_shards(tmp_path):
    for seed in (0, 1, 2):
        for name, loss in (("coevolution", 0.030), ("from scratch", 0.040), ("random", 0.033 + 0.001 * seed)):
            controls.record(tmp_path, DIGITS, Known(name, [Point(loss, loss, 900)]), seed)
    controls.record(
        tmp_path, DIGITS, Known("coevolution", [Point(0.01, 0.01, 900)]), 3
    )  # its controls are not there yet
    assert front_figures(tmp_path)[0]["digits_hypervolume_ratio"] is None, (
        "the other task may be the worse one"
    )
    for name, loss in (("coevolution", 0.010), ("random", 0.050)):
        controls.record(tmp_path, TASKS["digits-missing"], Known(name, [Point(loss, loss, 900)]), 0)
    figures, settings = front_figures(tmp_path)
    expected = [
        (1 - 0.03 / DIGITS.constant(s)) / (1 - (0.033 + 0.001 * s) / DIGITS.constant(s)) for s in (0, 1, 2)
    ]
    assert figures["digits_hypervolume_ratio"] == pytest.approx(np.median(expected), rel=1e-3)
    assert settings["front_seeds"]["digits"]["coevolution"] == [0, 1, 2, 3]
    assert front_figures(tmp_path / "empty")[0]["digits_hypervolume_ratio"] is None


def test_the_paper_is_compared_by_what_it_gives():
    found = {"train": {"median": 0.100}, "train_mean": 0.2}
    assert beside(Published(0.084, (0.059, 0.144), 0.104), found) == {
        "published": 0.084,
        "difference": pytest.approx(0.016),
        "published_quartiles": (0.059, 0.144),
        "within": True,
    }
    assert beside(Published(mean=0.5), found)["difference"] == pytest.approx(-0.3)


def test_faithful_figures_pool_nodes(tmp_path):
    trial = {
        "setting": "canonical",
        "arm": "none",
        "train": 0.2,
        "test": 0.3,
        "zeros_of_last_event": 0,
        "zeros": 0,
        "events": 0,
    }
    for seed, value in enumerate((0.1, 0.2, 0.3)):
        shard = trial | {"seed": seed, "train_by_node": [value, value], "before_last_event": value}
        (tmp_path / f"canonical-none-{seed}.json").write_text(json.dumps(shard))
    figures, settings = faithful_figures(tmp_path)
    row = figures["faithful_l1"]["canonical"]["none"]
    assert row["train"]["n"] == 6 and row["train"]["median"] == pytest.approx(0.2) and row["trials"] == 3
    assert figures["faithful_largest_difference"] == pytest.approx(PAPER["canonical"]["none"].median - 0.2)
    assert (
        settings["faithful_seeds"] == {"canonical": {"none": [0, 1, 2]}}
        and figures["faithful_within_quartiles"] is None
    )


def test_names_of_arms_make_files():
    assert (
        len({controls.shard_file(controls.FOLDER, DIGITS, arm, 0) for arm in ARMS.values()}) == len(ARMS) == 3
    )
