"""The replay of the trial pruning benchmark, on curves that are formulas."""

import contextlib

import numpy as np
import pytest

from benchmarks.trial_pruning.arms import ARMS, EXISTING, OURS, Halving, Replay, Spent, column, promoted
from benchmarks.trial_pruning.curves import Pool
from benchmarks.trial_pruning.record import COLUMNS, read_shard, write_shard
from benchmarks.trial_pruning.tasks import EPOCHS, TASKS


def pool(configurations=54, seed=0):
    """Curves that fall to their ends, the best configuration first to be told from the others at the third epoch."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(0.5, 1.5, (configurations, EPOCHS, len(COLUMNS))).astype(np.float32)
    ends = np.linspace(0.1, 1.0, configurations)[:, None]
    curve = ends + 1 / np.arange(1, EPOCHS + 1)
    for name, values in {"val_loss": curve, "test_loss": curve + 0.01, "train_loss": curve - 0.05, "seconds": np.ones_like(curve)}.items():
        table[:, :, COLUMNS.index(name)] = values
    return Pool("digits-mlp", 0, 0, table, np.arange(1, configurations + 1), 400)


def play(arm, budget=9 * EPOCHS, **settings):
    replay = Replay(pool(**settings), np.random.default_rng(1).permutation(54), budget, arm.choice)
    with contextlib.suppress(Spent):
        arm.run(replay)
    return replay


def test_halving_pays_for_every_epoch_once_and_finds_the_best_of_a_bracket():
    replay = play(Halving(column("val_loss"), size=27, cost="trace_seconds"), budget=10_000)
    assert replay.spent == 2 * (27 + 9 * 2 + 3 * 6 + 18) and replay.seconds > replay.spent  # estimates are paid for, too
    assert replay.reached[replay.chosen()] == EPOCHS and replay.chosen() == 0
    assert sorted(np.bincount(replay.reached)[[1, 3, 9, 27]]) == [2, 4, 12, 36]


def test_no_pruning_trains_as_many_as_the_budget_holds_and_chooses_among_these():
    replay = play(ARMS["no pruning"])
    assert replay.spent == 9 * EPOCHS and (replay.reached == EPOCHS).sum() == 9
    assert replay.chosen() == min(np.flatnonzero(replay.reached == EPOCHS))
    assert replay.chosen(at=EPOCHS) == replay.order[0]


@pytest.mark.parametrize("name", [OURS, "median, val", "TICPruner, val + gram/n", "synchronous halving 81, val"])
def test_arms_stop_at_their_budget(name):
    replay = play(ARMS[name], budget=100)
    assert replay.spent == 100 == replay.reached.sum()


def test_half_of_the_places_may_go_by_another_score():
    alive = np.arange(9)
    assert set(promoted(alive, alive, -alive, 4)) == {0, 1, 7, 8}
    assert set(promoted(alive, alive, None, 4)) == {0, 1, 2, 3}


def test_a_column_carries_estimates_on_and_is_infinite_once_diverged():
    table = np.full((1, EPOCHS, len(COLUMNS)), np.nan, dtype=np.float32)
    table[0, :5, :3] = 1.0
    table[0, 1, COLUMNS.index("movement")] = 0.25
    found = Pool("digits-mlp", 0, 0, table, np.ones(1), 4)["movement"][0]
    assert np.isnan(found[0]) and found[1:5].tolist() == [0.25] * 4 and np.isinf(found[5:]).all()


def test_a_shard_comes_back_to_four_digits_and_two_and_a_half(tmp_path):
    table = np.random.default_rng(0).lognormal(0, 5, (3, EPOCHS, len(COLUMNS))).astype(np.float32)
    table[1, 4:] = np.nan
    write_shard(tmp_path / "a.npz", table, np.arange(3), 400, [{}] * 3)
    again, sizes, n = read_shard(tmp_path / "a.npz")
    assert n == 400 and sizes.tolist() == [0, 1, 2] and np.isnan(again[1, 4:]).all()
    assert np.nanmax(np.abs(again / table - 1)[..., :3]) < 1e-4 and np.nanmax(np.abs(again / table - 1)) < 4e-3


def test_nothing_is_claimed_on_tuning_tasks_and_the_paper_stands_among_the_arms():
    assert {name for name, task in TASKS.items() if not task.tuning} == {"digits-cnn", "breast-cancer", "diabetes", "characters"}
    assert {name.split(",")[0] for name in ARMS if name.startswith("paper")} == {"paper: diagonal", "paper: trace"}
    assert OURS not in EXISTING and len(EXISTING) == 17


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_sample_and_models_fit_them(task):
    splits = TASKS[task].splits(0)
    config = TASKS[task].config(np.random.default_rng(0))
    outputs = TASKS[task].model(config)(splits.train[0][:4])
    assert len(outputs) == 4 and len(splits.joined().train[0]) == len(splits.train[0]) + len(splits.val[0])
    if splits.train[0].is_floating_point():
        rows = [{tuple(row.flatten().tolist()) for row in part[0]} for part in (splits.train, splits.val, splits.test)]
        assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]
