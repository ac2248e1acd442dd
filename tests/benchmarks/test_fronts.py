"""The tasks, what is counted, what arms may spend, and the figures made of shards."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from benchmarks.fronts import latency, rungs, tuning
from benchmarks.fronts.arms import (
    Arm,
    Narrower,
    OnShelf,
    Point,
    Raced,
    Recipe,
    Spent,
    chosen,
    epochs_for,
    fresh,
    hypervolume,
    lessons,
    measured,
    narrow,
    plain,
    scoring,
    train,
)
from benchmarks.fronts.controls import FromScratch, Pruning, Weights, kept, parts
from benchmarks.fronts.figures import figures
from benchmarks.fronts.latency import latency_ratio
from benchmarks.fronts.nets import PlainNet
from benchmarks.fronts.ours import Pruned, _reached
from benchmarks.fronts.peers import Searched, TorchPruning
from benchmarks.fronts.record import main as record_main
from benchmarks.fronts.record import record, shard_file
from benchmarks.fronts.recurrent import QuickGRU
from benchmarks.fronts.roster import ABLATIONS, ARMS, MAIN, OURS, oracle_arm
from benchmarks.fronts.tasks import TASKS, Ground, NoisyDigits
from evaluators import count
from operators.criteria import Magnitude
from spaces.models import ResidualNet


class Tiny(NoisyDigits):
    """The digits with a small net, so that an arm takes a second."""

    name = "tiny"
    epochs = 12

    def model(self):
        return ResidualNet((4, 6))

    def shelf(self, ratio):
        return PlainNet([max(1, round(ratio * width)) for width in (3, 4)])


@cache
def ground():
    return Ground(Tiny(), 0)


@pytest.mark.parametrize("name", list(TASKS))
def test_tasks_are_the_same_for_a_seed_and_differ_between_seeds(name):
    task = TASKS[name]
    one, same, other = task.data(0), task.data(0), task.data(1)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    torch.manual_seed(0)
    outputs = task.model()(one.example()[0])
    inputs, targets = next(one.batches("train", 2))
    assert one.loss(outputs, targets).shape == (2,)
    for ratio in (1.0, 0.1):
        assert task.shelf(ratio).eval()(inputs).shape == outputs.shape
    whole, small = (count(task.shelf(ratio), one.example())["macs"] for ratio in (1.0, 0.1))
    assert small < 0.3 * whole
    assert whole < 1.5 * count(task.model(), one.example())["macs"]


def test_the_constant_predictor_is_the_reference():
    assert ground().constants["test"] == pytest.approx(np.log(10), rel=0.05)


def test_a_gradient_step_counts_three_forward_passes_and_scoring_one():
    g, spent = ground(), Spent(100.0)
    genome = narrow(g, [0.5] * len(g.space.segments))
    model, macs = fresh(g, genome, 0), g.macs(genome)
    assert macs == count(model, g.data.example())["macs"] / g.unit < 0.5
    train(g, model, macs, 4, Recipe(), spent, torch.Generator().manual_seed(0))
    assert spent.total == pytest.approx(4 * g.task.batch * 3 * macs)
    measured(g, model, macs, spent)
    assert spent.total == pytest.approx(
        (12 * g.task.batch + g.data.size("search") + g.data.size("calibration")) * macs
    )
    assert epochs_for(g, 1000.0, macs) == int((1000 - scoring(g) * macs) / (3 * g.task.batch * macs))


def test_training_learns():
    g, model = ground(), fresh(ground(), ground().space.base, 0)
    before = g.loss(model, "test")
    train(g, model, 1.0, 120, Recipe(3), Spent(1e9), torch.Generator().manual_seed(0))
    measured(g, model, 1.0, Spent(1e9))
    assert g.loss(model, "test") < 0.8 < before


@pytest.mark.parametrize("units", [1, 5])
def test_the_quick_recurrent_layer_is_torchs(units):
    torch.manual_seed(0)
    quick, plain = QuickGRU(3, units, batch_first=True), torch.nn.GRU(3, units, batch_first=True)
    plain.load_state_dict(quick.state_dict())
    x, weight = torch.randn(4, 7, 3), torch.randn(4, 7, units)
    found = []
    for layer in (quick, plain):
        inputs = x.clone().requires_grad_()
        outputs = layer(inputs)[0]
        (outputs * weight).sum().backward()
        found.append([outputs, inputs.grad, *(p.grad for p in layer.parameters())])
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs)
    assert torch.equal(quick.eval()(x)[0], plain(x)[0])


def test_fresh_networks_follow_from_the_seed_alone():
    genome = narrow(ground(), [0.5] * len(ground().space.segments))
    one, same, other = (fresh(ground(), genome, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_pruning_keeps_the_best_and_every_group():
    g = ground()
    scores = np.arange(g.space.length, dtype=float)
    genome = kept(g, g.space.base, scores, 0.3)
    assert g.macs(genome) <= 0.3
    assert all(genome[part].any() for part in g.space.slices.values())
    assert genome.sum() > len(g.space.segments)
    for part in g.space.slices.values():  # the lowest go first in every group
        assert (np.diff(genome[part].astype(int)) >= 0).all()


def test_a_pruned_network_has_the_values_of_the_whole_one():
    g, weights = ground(), Weights(ground())
    genome = narrow(g, [0.5] * len(g.space.segments))
    model = weights.model(genome)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    weights.take(genome, model)
    values = torch.cat([weights.full[name].flatten() for name, _ in model.named_parameters()])
    assert 0.05 < (values == 7).float().mean() < 0.9
    assert all((p == 7).all() for p in weights.model(genome).parameters())


def test_parts_of_a_budget():
    np.testing.assert_allclose(parts([1, 0.25], "macs"), [0.5, 0.5])
    np.testing.assert_allclose(parts([1, 0.25], "epochs"), [0.8, 0.2])
    np.testing.assert_allclose(parts([1, 0.25], "between"), [2 / 3, 1 / 3])


def test_a_teacher_says_the_same_to_all_arms_and_what_it_is_asked_counts():
    g, spent = ground(), Spent(1800.0)
    teacher = fresh(g, g.space.base, 0).eval()
    plain, mixed = lessons(g, teacher, spent), lessons(g, teacher, spent, 1.0)
    size = g.data.size("train")
    assert (
        len(plain.inputs) == size and len(mixed.inputs) == 2 * size and spent.total == 3 * size
    )  # two epochs: a mixture a sample
    for found in (plain, mixed):
        with torch.no_grad():
            torch.testing.assert_close(found.outputs, teacher(found.inputs), rtol=1e-4, atol=1e-5)
    assert plain.labelled.all() and mixed.labelled.sum() == size
    model = fresh(g, g.space.base, 1)
    before = torch.nn.functional.kl_div(
        model.eval()(mixed.inputs).log_softmax(1), mixed.outputs.softmax(1), reduction="batchmean"
    )
    train(g, model, 1.0, 60, Recipe(), spent, torch.Generator().manual_seed(0), taught=mixed, share=1.0)
    after = torch.nn.functional.kl_div(
        model(mixed.inputs).log_softmax(1), mixed.outputs.softmax(1), reduction="batchmean"
    )
    assert after < before


def small(arm):
    """The same arm, for a budget of a few steps."""
    if isinstance(arm, OnShelf | Narrower):
        return replace(arm, arm=small(arm.arm))
    if isinstance(arm, Raced):
        return replace(arm, arms=tuple(map(small, arm.arms)), heats=tuple(map(small, arm.heats)), share=0.3)
    changes = (
        {"rounds": 4}
        if hasattr(arm, "rounds")
        else {"sizes": 4}
        if hasattr(arm, "sizes")
        else {"steps": 2, "finals": 2}
    )
    if isinstance(arm, Pruned):
        changes |= {"noise": 0.2, "repeats": 10}
    return replace(arm, **changes)


OTHERS = ("uniform width, distilled", "off the shelf", TorchPruning.name, "Optuna NSGA-II")


@pytest.mark.parametrize(
    "name", [*OURS, "one-shot magnitude", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_arms_spend_their_budget_and_no_more(name):
    arm = small(ARMS[name])
    points, spent = arm.run(ground(), ground().budget)
    assert (
        0.7 * ground().budget < spent <= 1.02 * ground().budget
    )  # of two or three steps a round one more weighs
    assert points
    assert min(p.macs for p in points) < 0.5
    assert all(0 < p.spent <= spent + 1e-6 for p in points)


class Known(Arm):
    """Has one network."""

    def __init__(self, name, loss):
        self.name, self.loss = name, loss

    def run(self, ground, budget):
        return [Point(self.loss, self.loss, 0.01, budget)], budget


def test_of_two_networks_the_one_that_leads_has_the_rest_of_the_budget():
    g = ground()
    ratio = g.other.unit / g.unit
    raced = Raced("raced", (Known("given", 0.9), OnShelf("other", Known("other", 0.1))), share=0.1)
    points, spent = raced.run(g, g.budget)
    assert spent == pytest.approx(g.budget)
    assert [p.search for p in points] == [0.9, 0.1, 0.1]
    assert [p.macs for p in points] == pytest.approx([0.01, 0.01 * ratio, 0.01 * ratio])
    assert [p.spent / g.budget for p in points] == pytest.approx([0.1, 0.2, 1.0])


class Seen(Arm):
    """Remembers where it ran, and has the network that it was given."""

    name = "seen"

    def run(self, ground, budget):
        self.ground, self.budget = ground, budget
        return [Point(0.5, 0.5, 1.0, budget)], budget


def test_an_arm_may_begin_with_a_narrower_network():
    g, seen = ground(), Seen()
    points, spent = Narrower("half", seen, 0.5).run(g, 100.0)
    assert seen.ground.space.length == g.space.length / 2
    assert seen.ground.constants == g.constants
    assert seen.budget > 200  # in MACs of the smaller network
    assert spent == pytest.approx(100)
    assert points == [Point(0.5, 0.5, pytest.approx(seen.ground.unit / g.unit), pytest.approx(100))]
    Narrower("whole", seen, 1.0).run(g, 100.0)
    assert seen.ground is g


def test_steps_are_planned_for_the_sizes_that_rounds_come_to():
    g = ground()
    wanted = np.geomspace(1, g.smallest, 31)[1:]
    reached = _reached(g, wanted, 0)
    assert len(reached) < 30
    assert (np.diff(reached) < 0).all()
    assert reached[-1] <= wanted[-1]


def test_who_runs_in_the_heats_decides_for_whom_it_stands_for():
    g = ground()
    raced = Raced(
        "raced",
        (Known("given", 0.9), Known("other", 0.2)),
        share=0.1,
        heats=(Known("given", 0.5), Known("other", 0.7)),
    )
    assert [p.search for p in raced.run(g, g.budget)[0]] == [0.5, 0.7, 0.9]


@pytest.mark.parametrize(("budget", "heat"), [(0.5, 0.06), (0.1, 0.1 / 3), (2.0, 0.2)])
def test_a_heat_is_not_too_small_to_tell_two_networks_apart(budget, heat):
    g = ground()
    points, _ = Raced("raced", (Known("given", 0.9), Known("other", 0.1)), share=0.1, least=0.06).run(
        g, budget * g.budget
    )
    assert [p.spent / g.budget for p in points] == pytest.approx([heat, 2 * heat, budget])


def test_arms_follow_from_the_seed():
    arm = small(OURS[MAIN])
    assert arm.run(ground(), 0.6 * ground().budget) == arm.run(ground(), 0.6 * ground().budget)


def test_the_front_is_chosen_by_search_and_scored_by_test():
    points = [Point(0.5, 0.6, 0.1), Point(0.4, 0.9, 0.2), Point(0.6, 0.1, 0.15)]
    assert chosen(points) == points[:2]
    assert hypervolume(points) == pytest.approx(0.4 * np.log(10))
    assert hypervolume(points, "search") == pytest.approx(0.5 * np.log(10) + 0.1 * np.log(5))


POINTS = [
    {"search": 0.2, "test": 0.25, "macs": 1.0, "spent": 1.0},
    {"search": 0.3, "test": 0.3, "macs": 0.4, "spent": 2.0},
]


def shard(folder, task, arm, seed, value, share=1.0, points=POINTS):
    text = {"task": task, "arm": arm, "seed": seed, "share": share, "hypervolume": value, "points": points}
    shard_file(folder, task, arm, seed, share).write_text(json.dumps(text))


def test_figures_hold_ours_against_the_control_that_is_best_on_average(tmp_path):
    for seed, (ours, one, other) in enumerate([(2.2, 2.0, 1.0), (2.0, 1.6, 2.0)]):
        for arm, value in ((MAIN, ours), ("one", one), ("other", other)):
            shard(tmp_path, "digits", arm, seed, value)
        shard(tmp_path, "digits", MAIN, seed, 2.1, 0.5)
    shard(tmp_path, "digits", "one", 7, 9.0)  # a seed that ours has not
    better = {"search": 0.1, "test": 0.2, "macs": 1.0}
    shard(tmp_path, "digits", "late", 0, 0.1, points=[better])
    found, settings = figures(tmp_path)
    assert found["hypervolume_ratio"] == pytest.approx((1.1 * 1.25) ** 0.5)
    shard(tmp_path, "digits", next(iter(ABLATIONS)), 1, 2.5)
    assert figures(tmp_path)[0]["hypervolume_ratio"] == found["hypervolume_ratio"], (
        "an ablation is no control"
    )
    assert figures(tmp_path)[0]["hypervolume_ratio_ablations"] == pytest.approx(0.8)
    assert found["hypervolume_ratio_ablations"] is None
    assert found["hypervolume_ratio_strict"] == pytest.approx((1.1 * 1.0) ** 0.5)
    low, high = found["hypervolume_ratio_by_task"]["digits"]["interval"]
    assert low < found["hypervolume_ratio_worst_task"] < high
    assert found["compute_ratio"]["digits"]["median"] == 0.5
    assert not found["compute_ratio_told"]
    for seed, value in enumerate((1.9, 1.7)):
        shard(tmp_path, "digits", "lineages", seed, value, 0.5)
    assert figures(tmp_path)[0]["compute_ratio_told"]["digits"]["low"] == pytest.approx(0.875), (
        "one of two has 1.6 at half, none has 2.0"
    )
    assert found["loss_at_half"]["digits"][MAIN]["low"] == pytest.approx(
        0.0625
    )  # between .30 - .25 and .30 - .20
    assert found["loss_at_half"]["digits"][MAIN]["median"] == pytest.approx(0.075)
    assert settings["seeds"]["digits"]["one"] == [0, 1, 7]


def test_the_oracle_network_is_the_one_that_the_rival_was_given():
    assert oracle_arm("iterative magnitude") == oracle_arm("uniform width") == "lineages"
    assert oracle_arm("iterative magnitude, other network") == "lineages, other network"
    assert oracle_arm("off the shelf") == "lineages, other network"


def test_shorter_budgets_are_for_the_main_arm_and_for_those_of_ours_that_are_named(monkeypatch):
    done = []

    def noted(folder, task, arm, seed, share):
        done.append((arm.name, share))
        return {"hypervolume": 0.0, "seconds": 0.0}

    monkeypatch.setattr("benchmarks.fronts.record.record", noted)
    common = ["--seeds", "1", "--tasks", "digits", "--shares", "1.0", "0.5"]
    record_main(common)
    assert [name for name, share in done if share == 0.5] == [MAIN] and {
        name for name, share in done if share == 1.0
    } == set(ARMS)
    done.clear()
    record_main([*common, "--arms", "lineages", "off the shelf"])
    assert done == [("lineages", 1.0), ("off the shelf", 1.0), ("lineages", 0.5)]


def test_a_shard_that_is_there_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "tiny", Tiny())
    arm = FromScratch("scratch", sizes=2)
    first = record(tmp_path, "tiny", arm, 0, 0.2)
    monkeypatch.setattr(FromScratch, "run", None)
    assert record(tmp_path, "tiny", arm, 0, 0.2) == first
    assert len(first["points"]) == 2


def test_the_peers_are_what_they_are_called():
    assert {arm.method for arm in ARMS.values() if isinstance(arm, Searched)} == {
        "tpe",
        "nsga2",
        "regularised",
    }
    assert any(isinstance(arm, TorchPruning) for arm in ARMS.values())
    assert any(isinstance(arm, Pruning) and arm.once for arm in ARMS.values())


def test_masks_go_up_all_rungs_and_take_the_steps_of_each(monkeypatch):
    monkeypatch.setattr(rungs, "MASKS", 6)
    found = rungs.climb(ground(), (0, 8, 16))
    losses, training = np.array(found["losses"]), np.array(found["training"])
    assert losses.shape == training.shape == (3, 6) and len(found["test"]) == 6
    assert (losses[1] != losses[0]).all() and (losses[2] != losses[1]).all()
    assert len(set(found["sizes"])) > 3 and min(found["sizes"]) < 0.3 < max(found["sizes"]) < 0.7
    np.testing.assert_allclose(
        training[2] - training[1], 8 * 3 * ground().task.batch * np.array(found["sizes"]), rtol=0.1
    )


def test_correlations_of_known_shards(tmp_path):
    test = list(range(8))
    shard = {"task": "digits", "sizes": [0.1] * 8, "test": test, "steps": [0, 4, 8]}
    shard |= {"losses": [test[::-1], test, test], "training": [[1.0] * 8, [1.0] * 8, [2.0] * 8]}
    (tmp_path / "digits-0.json").write_text(json.dumps(shard))
    found = rungs.correlations(tmp_path)["digits"]
    assert [round(found[steps]["tau"], 9) for steps in ("0 steps", "4 steps", "12 steps")] == [-1, 1, 1]
    assert [found[steps]["macs"] for steps in found] == [0.25, 0.5, 1.0]


def test_latencies_of_known_shards(tmp_path):
    assert latency_ratio(tmp_path) is None
    (tmp_path / "digits-0.json").write_text(
        json.dumps({"searched_and_exported_ms": [[1.0, 1.1], [2.0, 1.9], [1.0, 1.0]]})
    )
    assert latency_ratio(tmp_path) == pytest.approx({"median": 1.0, "largest_deviation": 0.1, "members": 3})


def test_no_latency_is_recorded_of_an_empty_front(tmp_path, monkeypatch):
    for name, value in {
        "EVALUATIONS": 1,
        "BATCH": 4,
        "SECONDS": 0.01,
        "CONSTRAINT": "latency_ms <= 0.01%",
    }.items():
        monkeypatch.setattr(latency, name, value)
    monkeypatch.setattr(latency, "ground", lambda task, seed: ground())
    with pytest.raises(RuntimeError, match="tiny 0: nothing kept latency_ms"):
        latency.record(tmp_path, "tiny", 0)
    assert not list(tmp_path.iterdir())


def test_a_setting_is_found_by_its_values_whatever_the_classes_are_called():
    class Renamed(Pruning):
        pass

    class RenamedToo(Magnitude):
        pass

    arm = ARMS["iterative magnitude"]
    renamed = Renamed(**vars(arm) | {"criterion": RenamedToo()})
    assert tuning.variant(arm, 1).name == tuning.variant(renamed, 1).name == "iterative magnitude caee253a"
    other = replace(arm, rounds=29)
    assert tuning.variant(other, 1).name != tuning.variant(arm, 1).name, "another value is another setting"
    names = set(json.loads(tuning.NAMES.read_text()))
    assert {json.loads(file.read_text())["arm"] for file in tuning.TRIED.glob("*.json")} == names
    with pytest.raises(TypeError, match="object has no plain form"):
        plain(object())


def test_every_arm_is_tuned_by_as_many_settings():
    tuned = {name: arm for name, arm in ARMS.items() if name in tuning.SETTINGS}
    assert all(isinstance(arm, OnShelf | Raced) for name, arm in ARMS.items() if name not in tuned)
    assert {len(settings) for settings in tuning.SETTINGS.values()} == {6}
    for arm in tuned.values():
        made = [tuning.variant(arm, number) for number in range(6)]
        assert len({one.name for one in made}) == 6 and all(
            one.name.startswith(f"{arm.name} ") for one in made
        )
        assert tuning.variant(arm, 0).name == made[0].name
