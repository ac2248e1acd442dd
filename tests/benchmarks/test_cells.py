"""The benchmark of cells: forks equal searches run as a whole, and figures are those of known shards."""

import inspect
import json

import pytest
import torch

from benchmarks.cells import claims
from benchmarks.cells import record as recording
from benchmarks.cells.augmentation import AugmentedStack
from benchmarks.cells.rules import EQUAL_COST, HAND, OURS
from benchmarks.cells.tasks import FOLDER, RULE, SEARCH, TASKS, TRAINING, CrowdedDigits
from evaluators.supernet.settings import SupernetSettings
from evaluators.supernet.training import SupernetTraining
from evaluators.training.evaluator import Training
from operators.stability import FixedStop, NoRemoval, Stability
from spaces.cells import CellStack, DenseGraph, Design
from spaces.cells import genotype as text


class Tiny(CrowdedDigits):
    epochs = 6
    search = SEARCH | {"warmup": 1, "share": 2}
    retrain = TRAINING | {"epochs": 1}
    rule = RULE | {"window": 2, "threshold": 0.5, "stages": [3, 1], "rank": False}
    canvas, counts = 8, (64, 64, 20, 50)

    def design(self, data, seed):
        return Design(CellStack(width=4, cells=1, joined=1), data.example(), DenseGraph(1)), {}


def test_tasks_share_no_sample_between_splits_and_fit_their_networks():
    for task in TASKS.values():
        data = task.data(100)
        assert data.size("test") >= 200
        assert task.settings.warmup + task.ours.needs < task.epochs
        assert data.fingerprint == task.data(100).fingerprint != task.data(101).fingerprint


def test_the_committed_shards_are_of_todays_settings():
    for task in TASKS:
        shards = claims.shards(FOLDER, task)
        assert len(shards) == 10
        assert {shard["settings"] for shard in shards} == {TASKS[task].identity}


def test_plain_settings_name_every_argument_so_that_no_default_decides():
    for plain, kind in ((SEARCH, SupernetSettings), (TRAINING, Training), (RULE, Stability)):
        later = set(getattr(kind, "later_arguments", ()))  # identities hold their defaults
        assert set(plain) == set(inspect.signature(kind).parameters) - later


def test_images_are_shifted_one_by_one_in_training_alone():
    network = AugmentedStack(2, 0.0, -1.0, width=2, cells=1, joined=1)
    images = torch.arange(2 * 36, dtype=torch.float32).reshape(2, 1, 6, 6).repeat(20, 1, 1, 1)
    torch.manual_seed(0)
    moved = network.augmented(images)
    seen = set()
    for image, found in zip(images[:, 0], moved[:, 0], strict=True):
        whole = torch.nn.functional.pad(image, (2, 2, 2, 2), value=-1.0)
        shifts = [
            (i, j) for i in range(5) for j in range(5) if torch.equal(whole[i : i + 6, j : j + 6], found)
        ]
        assert len(shifts) == 1
        seen.update(shifts)
    assert len(seen) > 10, "every image has a shift of its own"
    noisy = AugmentedStack(0, 0.5, -1.0, width=2, cells=1, joined=1).augmented(images)
    assert (noisy - images).std().item() == pytest.approx(0.5, rel=0.1)
    data = Tiny().data(3)
    cell = Design(network, data.example(), DenseGraph(1)).build(
        text.read("normal: 0<a:skip,b:skip; reduction: 0<a:skip,b:skip")
    )
    cell.eval()
    with torch.no_grad():
        assert torch.equal(cell(*data.example()), cell(*data.example())), "nothing is drawn outside training"


@pytest.fixture(scope="module")
def full():
    task = Tiny()
    data = task.data(3)
    design, _ = task.design(data, 3)

    def training():
        return SupernetTraining(design, data, task.settings, 3)

    search, states, records = training(), {}, []
    states[0] = search.state()
    for epoch in search.run(task.epochs, NoRemoval()):
        records.append(epoch)
        states[epoch.epoch] = search.state()
    return task, training, records, states


@pytest.mark.parametrize("rule", [Tiny().ours, FixedStop(4), FixedStop(3, keep=2)])
def test_a_fork_is_the_search_run_as_a_whole(full, rule):
    task, training, records, states = full
    run = recording.fork(rule, records, states, training, task, 3)
    whole = training()
    alone = list(whole.run(task.epochs, rule))
    assert 0 < run["shared"] < len(alone) == run["epochs"]
    assert run["genotype"] == whole.genotype
    assert run["removed"] == {
        str(r.epoch): {e: len(names) for e, names in r.removed.items()} for r in alone if r.removed
    }
    assert run["macs"] == [r.macs for r in alone]


def test_a_rival_ends_at_its_limit_and_gives_what_it_has_found_by_then(full):
    task, training, records, states = full
    limit = sum(r.cpu_seconds for r in records[:3]) * 0.999
    run = recording.fork(FixedStop(5), records, states, training, task, 3, limit)
    assert run["epochs"] == 3 and not run["removed"]
    early = training()
    early.restore(states[3])
    assert run["genotype"] == early.genotype


def test_a_shard_is_recorded_once_and_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "digits", Tiny())
    calls = []
    original = SupernetTraining.retrain

    def retrain(self, genotype, seed, *rest):
        calls.append((genotype, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, genotype, seed, *rest)

    monkeypatch.setattr(SupernetTraining, "retrain", retrain)
    with pytest.raises(KeyboardInterrupt):
        recording.record(tmp_path, "digits", 5)
    assert claims.shards(tmp_path, "digits") == []
    before = json.loads((tmp_path / "digits-5.json").read_text())
    recording.record(tmp_path, "digits", 5)
    assert len(set(calls)) == len(calls) - 1, "the one that was interrupted is done again, no other"
    (shard,) = claims.shards(tmp_path, "digits")
    assert shard["runs"] == before["runs"]
    assert {"full", OURS, *HAND, *EQUAL_COST, "random 0"} <= set(shard["runs"])
    assert shard["runs"][OURS]["removed"] and len(shard["runs"]["full"]["importances"]) == 6
    count = len(calls)
    recording.record(tmp_path, "digits", 5)
    assert len(calls) == count
    monkeypatch.setattr(Tiny, "epochs", 7)
    with pytest.raises(ValueError, match=r"digits-5.json was recorded with other settings"):
        recording.record(tmp_path, "digits", 5)
    figures, _ = claims.measure(True, tmp_path)
    assert figures["quality_difference_lower"] is None and figures["tasks"]["digits"]["cost_ratio_macs"] > 1


def shard(seed, ours, full=0.8, random=0.5, seconds=10.0):
    def run(genotype, costs, memory, removed=None):
        return {
            "genotype": genotype,
            "best": {"a": "x", "b": genotype},
            "epochs": len(costs),
            "cpu_seconds": costs,
            "seconds": costs,
            "macs": costs,
            "memory": memory,
            "removed": removed or {},
        }

    runs = {
        "full": run("f", [1.0] * 40, [100] * 40),
        OURS: run("o", [seconds / 2, seconds / 2], [100, 50], {"1": {"a": 1}}),
    }
    runs |= {name: run("o", [5.0], [100]) for name in HAND} | {
        name: run("r", [10.0], [100]) for name in EQUAL_COST
    }
    runs |= {"random 0": {"genotype": "r"}}
    worth = {"f": full, "o": ours, "r": random}
    retrained = {
        g: {str(i): {"test_accuracy": v + (i - 0.5) * 0.01} for i in range(2)} for g, v in worth.items()
    }
    return {"task": "digits", "seed": seed, "before": {}, "runs": runs, "retrained": retrained}


def test_figures_of_known_shards():
    figures = claims.of_task([shard(0, 0.81), shard(1, 0.79), shard(2, 0.80)])
    assert figures["cost_ratio"] == pytest.approx(4)
    assert figures["quality_difference"]["mean"] == pytest.approx(0)
    assert figures["quality_difference"]["lower"] == pytest.approx(-1.8856 * 0.01 / 3**0.5, rel=1e-3)
    assert figures["same_operation_share"] == 0.5
    assert figures["memory_average"] == pytest.approx(0.75) and figures[
        "memory_peak_after_removal"
    ] == pytest.approx(0.5)
    assert figures["calibrated_cost_vs_best"] == pytest.approx(2.0)
    assert figures["ours_over_rivals"]["random removal"]["mean"] == pytest.approx(0.3)
    assert figures["searched_over_random_cells"]["mean"] == pytest.approx(0.3) and not figures["valid"], (
        "no spread: no error to go by"
    )
    assert claims.of_task([shard(0, 0.8, full=0.82), shard(1, 0.8)])["valid"]


def test_of_two_tasks_the_worse_counts(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "phantoms", Tiny())
    for seed in range(2):
        (tmp_path / f"digits-{seed}.json").write_text(json.dumps(shard(seed, 0.81)))
        (tmp_path / f"phantoms-{seed}.json").write_text(
            json.dumps(shard(seed, 0.7, seconds=20.0) | {"task": "phantoms"})
        )
    figures, _ = claims.measure(False, tmp_path)
    assert figures["cost_ratio"] == pytest.approx(2)
    assert figures["quality_difference"] == pytest.approx(-0.1)
    assert figures["calibrated_cost_vs_best"] == pytest.approx(4)
    assert not figures["cost_ratio_valid"]
