"""The replay of the trial pruning benchmark, on curves that are formulas."""

import contextlib

import numpy as np
import pytest
import torch

from benchmarks.trial_pruning import record, settling
from benchmarks.trial_pruning.arms import (
    ARMS,
    EXISTING,
    OURS,
    Halving,
    Replay,
    Spent,
    Weighed,
    column,
    promoted,
)
from benchmarks.trial_pruning.curves import Pool
from benchmarks.trial_pruning.record import COLUMNS, read_shard, write_shard
from benchmarks.trial_pruning.stages import shards
from benchmarks.trial_pruning.task import split
from benchmarks.trial_pruning.tasks import EPOCHS, TASKS
from benchmarks.trial_pruning.weighing import Precision, Weighing


def pool(configurations=54, seed=0):
    """Curves that fall to their ends, the best configuration first to be told from the others at the third
    epoch.
    """
    rng = np.random.default_rng(seed)
    table = rng.uniform(0.5, 1.5, (configurations, EPOCHS, len(COLUMNS))).astype(np.float32)
    ends = np.linspace(0.1, 1.0, configurations)[:, None]
    curve = ends + 1 / np.arange(1, EPOCHS + 1)
    for name, values in {
        "val_loss": curve,
        "test_loss": curve + 0.01,
        "train_loss": curve - 0.05,
        "seconds": np.ones_like(curve),
    }.items():
        table[:, :, COLUMNS.index(name)] = values
    return Pool("digits-mlp", 0, 0, table, np.arange(1, configurations + 1), 400)


def play(arm, budget=9 * EPOCHS, configurations=54, **settings):
    order = np.random.default_rng(1).permutation(configurations)
    replay = Replay(pool(configurations, **settings), order, budget, arm.choice, arm.window)
    with contextlib.suppress(Spent):
        arm.run(replay)
    return replay


def test_halving_pays_for_every_epoch_once_and_finds_the_best_of_a_bracket():
    replay = play(Halving(column("val_loss"), size=27, cost="trace_seconds"), budget=10_000)
    assert (
        replay.spent == 2 * (27 + 9 * 2 + 3 * 6 + 18) and replay.seconds > replay.spent
    )  # estimates are paid for, too
    assert replay.reached[replay.chosen()] == EPOCHS and replay.chosen() == 0
    assert sorted(np.bincount(replay.reached)[[1, 3, 9, 27]]) == [2, 4, 12, 36]


def test_a_bracket_in_two_waves_costs_the_same_and_ends_alike_but_its_first_trial_is_done_early():
    whole, waves = (
        play(Halving(column("val_loss"), size=81, waves=number), configurations=81) for number in (1, 2)
    )
    assert whole.spent == waves.spent == 9 * EPOCHS
    assert np.bincount(waves.reached)[[1, 3, 9, 27]].tolist() == [54, 18, 6, 3]
    assert waves.chosen() == whole.chosen() == 0  # a third of all went on, and the best of all was among them
    first = 41 + 2 * 13 + 6 * 4 + 18  # epochs of the first wave, one of whose trials comes to the end
    early = [
        play(Halving(column("val_loss"), size=81, waves=number), first, configurations=81)
        for number in (1, 2)
    ]
    assert [(run.reached == EPOCHS).sum() for run in early] == [0, 1]


def test_who_was_not_promoted_competes_with_the_next_wave():
    order = np.arange(18)  # the best come first
    replay = Replay(pool(18), order, 10_000)
    Halving(column("val_loss"), size=18, waves=2).run(replay)
    assert np.flatnonzero(replay.reached >= 3).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # three of the first nine go on with the second nine


def weighed(task="digits-mlp", val=None, train=None, bias=None, movement=None, n=100):
    """A pool of three trials whose columns do not change over epochs, unless two-dimensional values are
    given.
    """
    table = np.ones((3, EPOCHS, len(COLUMNS)), dtype=np.float32)
    for name, values in {
        "val_loss": val,
        "train_loss": train,
        "val/64/gram@0.001": bias,
        "movement": movement,
    }.items():
        if values is not None:
            values = np.asarray(values, dtype=np.float32)
            table[:, :, COLUMNS.index(name)] = values if values.ndim == 2 else values[:, None]
    return Pool(task, 0, 0, table, np.ones(3), n)


ALL = np.arange(3)


def test_the_bias_counts_by_the_share_of_the_gap_and_is_a_mean_over_epochs():
    bias = np.ones((3, EPOCHS))
    bias[0, :3] = [10, 20, 60]
    score = Weighing(errors=0)(weighed(val=[1.0, 2.0, 3.0], train=[0.5, 1.5, 2.5], bias=bias), ALL, 3)
    assert score == pytest.approx(
        [1 + 0.25 * 30 / 100, 2 + 0.25 / 100, 3 + 0.25 / 100]
    )  # gap .5 in a loss of 2
    underfitted = weighed(val=[1.0, 2.0, 3.0], train=[1.0, 2.5, 3.0], bias=[1e6, 1, 1])
    assert Weighing(errors=0)(underfitted, ALL, 3) == pytest.approx([1, 2, 3])
    assert Weighing(errors=0, share=0.5)(underfitted, ALL, 3)[0] == pytest.approx(1 + 0.5 * 1e4)


def test_the_movement_counts_by_the_error_of_the_validation_loss():
    moves = {"val": [2.0, 2.0, 2.0], "train": [2.0, 2.0, 2.0], "movement": [0.1, 0.2, 0.3]}
    step = np.array(
        [Weighing()(weighed(task, **moves), ALL, 9) - 2 for task in ("wine", "digits-mlp", "characters")]
    )
    assert (np.diff(step, axis=1) > 0).all() and step[:, 1] == pytest.approx(0)
    assert step[0, 2] == pytest.approx(
        0.5 * 2 / np.sqrt(40) * 0.9674, rel=1e-3
    )  # 40 validation labels; normal quantile of 5/6
    assert step[1, 2] == pytest.approx(step[0, 2] * np.sqrt(40 / 150))
    assert step[2, 2] == pytest.approx(step[0, 2] * np.sqrt(40 / (200 * 64)))  # every character is a label


def test_the_first_rung_takes_the_mean_loss_of_all_samples():
    some = weighed(val=[1.0, 2.0, 3.0], train=[3.0, 2.0, 1.5], movement=[1, 2, 3], n=450)
    assert Weighing()(some, ALL, 1) == pytest.approx([(450 * 3 + 150) / 600, 2, (450 * 1.5 + 450) / 600])
    assert Weighing(share=0, errors=0, pooled=False)(some, ALL, 1) == pytest.approx([1, 2, 3])


@pytest.mark.parametrize("train", [[0.5, 1.5, np.nan], [1.0, 2.0, np.nan]])
def test_a_diverged_trial_comes_last_whatever_the_others_are(train):
    some = weighed(val=[1.0, 2.0, np.nan], train=train, bias=[1, 1, np.nan])
    for epoch in (1, 3):
        score = Weighing()(some, ALL, epoch)
        assert np.isfinite(score[:2]).all() and not np.isfinite(score[2]) and np.argsort(score)[2] == 2
    everyone = weighed(val=[np.nan] * 3, train=[np.nan] * 3)
    assert not np.isfinite(Weighing()(everyone, ALL, 3)).any()


def test_later_rungs_may_go_to_the_mean_of_all_samples_and_by_the_trace():
    some = weighed("wine", val=[1.0, 2.0, 3.0], train=[2.0, 1.0, 1.0], n=120)  # 40 validation samples
    halfway = Weighing(share=0, errors=0, pooling=0.5)(some, ALL, 3)
    assert halfway == pytest.approx([1 + 0.5 * 0.75, 2 - 0.5 * 0.75, 3 - 0.5 * 1.5])
    step = Weighing(share=0, errors=0, trace=0.5)(some, ALL, 3) - [1, 2, 3]
    assert step == pytest.approx(0)  # the traces are equal
    some.table[:, :, COLUMNS.index("val/64/trace")] = np.array([[3.0], [2.0], [1.0]])
    again = Pool("wine", 0, 0, some.table, some.sizes, some.n)
    step = Weighing(share=0, errors=0, trace=0.5)(again, ALL, 3) - [1, 2, 3]
    assert step == pytest.approx(0.5 * 2 / np.sqrt(40) * np.array([0.9674, 0, -0.9674]), rel=1e-3, abs=1e-9)


def test_inverse_variances_weigh_by_numbers_of_samples_and_by_the_error_of_the_bias():
    same = {"val": [2.0, 2.0, np.nan], "train": [1.0, 1.5, np.nan], "bias": [30.0, 15.0, np.nan], "n": 120}
    some = weighed("wine", **same)
    some.table[:, :, COLUMNS.index("val/64/error")] = 0.0
    sure = Precision()(some, ALL, 3)
    assert sure[:2] == pytest.approx([(40 * 2 + 120 * 1.25) / 160, (40 * 2 + 120 * 1.625) / 160])
    some.table[:, :, COLUMNS.index("val/64/error")] = 1e6
    unsure = Precision()(Pool("wine", 0, 0, some.table, some.sizes, some.n), ALL, 3)
    assert unsure[:2] == pytest.approx([2, 2], rel=1e-4) and np.isinf([sure[2], unsure[2]]).all()


def row(ours, best=1.0):
    """Regrets on a task: of all rules alike but for those given."""
    return (
        {name: best + place for place, name in enumerate(EXISTING)}
        | dict.fromkeys(settling.RULES, 9.0)
        | ours
    )


def test_a_family_has_no_say_in_the_rule_that_it_is_tried_with():
    first, second, *_ = settling.RULES
    table = {
        "a": row({first: 0.0, second: 4.0}),
        "b": row({first: 3.0, second: 2.0}),
        "c": row({first: 3.0, second: 2.0}),
    }
    found = settling.settle(table)
    assert found["rule"] == first  # by the first family alone
    assert found["left_out_regret_ratio_per_task"] == {"a": 4.0, "b": 3.0, "c": 3.0}
    assert found["chosen"] == {first: 2, second: 1}
    assert settling.settle(table | {"digits-mlp": row({first: 0.0}), "digits-mlp-noisy": row({first: 0.0})})[
        "chosen"
    ] == {first: 5}


def test_a_family_without_regret_of_the_best_pruner_still_counts():
    first = next(iter(settling.RULES))
    nothing = row({first: 0.5}, best=0.0)
    assert settling.level(nothing, first) == pytest.approx(0.5 / 8)  # the median of 0 to 16
    assert settling.over_best(nothing, first) == np.inf
    assert settling.over_best(row({first: 0.0}, best=0.0), first) == 1.0


def test_a_lean_task_has_one_pool_a_split_and_the_estimates_that_arms_look_at(tmp_path, monkeypatch):
    lean = [shard for shard in shards() if TASKS[shard[0]].lean]
    assert len(lean) == 2 * 3 * 14 and {shard[3] for shard in lean} == {"split"}
    monkeypatch.setattr(record, "SHARD", 1)
    record.record(tmp_path, "tiny", 0, 0, "split")
    table, _, n = read_shard(record.shard_file(tmp_path, "tiny", 0, 0, "split"))
    there = {name for i, name in enumerate(COLUMNS) if np.isfinite(table[0, :, i]).all()}
    looked_at = {"gram@0.001", "gram@0.01", "error", "trace", "trace_c", "diagonal"}
    assert n == 40 and {f"val/64/{name}" for name in looked_at} <= there
    assert not {"train/64/trace", "val/32/trace"} & there


def test_ours_ranks_by_its_weighing():
    same = {"val": [1.0, 1.0, 1.0], "train": [0.5, 0.5, 0.5], "bias": [300, 200, 100], "movement": [1, 1, 1]}
    replay = Replay(weighed(**same), ALL, 10_000)
    arm = ARMS[OURS]
    assert isinstance(arm, Weighed)
    rank, second = arm.ranks(replay.pool, ALL, 3)
    assert second is None and np.argsort(rank).tolist() == [2, 1, 0]


def test_no_pruning_trains_as_many_as_the_budget_holds_and_chooses_among_these():
    replay = play(ARMS["no pruning"])
    assert replay.spent == 9 * EPOCHS and (replay.reached == EPOCHS).sum() == 9
    assert replay.chosen() == min(np.flatnonzero(replay.reached == EPOCHS))
    assert replay.chosen(at=EPOCHS) == replay.order[0]


@pytest.mark.parametrize(
    "name", [OURS, "median, val", "TICPruner, val + gram/n", "synchronous halving 81, val"]
)
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
    assert (
        np.nanmax(np.abs(again / table - 1)[..., :3]) < 1e-4 and np.nanmax(np.abs(again / table - 1)) < 4e-3
    )


def test_nothing_is_claimed_on_tuning_tasks_and_the_paper_stands_among_the_arms():
    assert {name for name, task in TASKS.items() if not task.tuning} == {
        "digits-cnn",
        "breast-cancer",
        "diabetes",
        "characters",
        "iris",
        "photographs",
        "tokens",
        "docstrings",
    }
    assert {name.split(",")[0] for name in ARMS if name.startswith("paper")} == {
        "paper: diagonal",
        "paper: trace",
    }
    assert OURS not in EXISTING and len(EXISTING) == 17


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_sample_and_models_fit_them(task):
    splits = TASKS[task].splits(0)
    config = TASKS[task].config(np.random.default_rng(0))
    outputs = TASKS[task].model(config)(splits.train[0][:4])
    assert len(outputs) == 4 and len(splits.joined().train[0]) == len(splits.train[0]) + len(splits.val[0])
    # counts, kinds of tokens and even sky come out alike at different places
    if splits.train[0].is_floating_point() and task not in ("photographs", "tokens", "docstrings"):
        rows = [
            {tuple(row.flatten().tolist()) for row in part[0]}
            for part in (splits.train, splits.val, splits.test)
        ]
        assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


def test_a_split_has_every_sample_once_and_keeps_inputs_with_their_targets():
    parts = split(torch.arange(50), 2 * torch.arange(50), (20, 10), 3, 15)
    assert [len(part[0]) for part in (parts.train, parts.val, parts.test)] == [20, 10, 15]
    inputs, targets = (torch.cat([part[i] for part in (parts.train, parts.val, parts.test)]) for i in (0, 1))
    assert len(set(inputs.tolist())) == 45 and torch.equal(targets, 2 * inputs)
