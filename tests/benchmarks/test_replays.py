"""What was recorded gives the same figures, whatever the code is called by now; nothing is run anew."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import front
from benchmarks.cells import claims as cells
from benchmarks.coevolution.__main__ import replay as coevolution
from benchmarks.coevolution.published import faithful_figures, text
from benchmarks.fronts import figures as fronts
from benchmarks.fronts import tuning
from benchmarks.harness import rounded
from benchmarks.trial_pruning import claims as trial_pruning
from benchmarks.trial_pruning.arms import ARMS, EXISTING, OURS
from benchmarks.trial_pruning.curves import all_pools, pools
from benchmarks.trial_pruning.tasks import TASKS

EXPECTED = json.loads((Path(__file__).parents[1] / "fixtures" / "replays.json").read_text())
RESULTS = Path(front.__file__).parent / "results"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is no table of a nested table, by its path."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{path}/{key}")
    else:
        yield path, value


def agree(found: Any, expected: Any) -> None:
    """Assert that two tables have the same leaves, numbers to five digits."""
    left, right = dict(leaves(rounded(found))), dict(leaves(expected))
    assert left.keys() == right.keys()
    for path, value in right.items():
        one = pytest.approx(value, rel=1e-5, nan_ok=True) if isinstance(value, float) else value
        assert left[path] == one, path


def unlaunched(*_: Any, **__: Any) -> None:
    raise AssertionError("a replay runs nothing")


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "record", unlaunched)
    monkeypatch.setattr(tuning, "record", unlaunched)


@pytest.mark.parametrize(
    ("name", "replay"),
    [
        ("cells", lambda: cells.measure(False)),
        ("coevolution", coevolution),
        ("front", lambda: front.measure(False)),
        ("fronts", fronts.figures),
    ],
)
def test_every_replay_gives_the_recorded_figures_unchanged(name, replay):
    figures, settings = replay()
    agree(figures, EXPECTED[name]["figures"])
    agree(settings, EXPECTED[name]["settings"])
    recorded = json.loads((RESULTS / f"{name}.json").read_text())["figures"]
    agree(figures, {key: value for key, value in recorded.items() if key in figures})


def test_settings_that_were_tried_are_found_and_reached_what_they_reached():
    agree(tuning.replay(), EXPECTED["tuning"])


def test_the_table_beside_the_paper_is_the_recorded_one():
    assert text(faithful_figures()[0]["faithful_l1"]).split("\n") == EXPECTED["published"]


def test_every_arm_of_the_trial_pruning_does_the_same_on_a_recorded_pool():
    pool = pools(trial_pruning.FOLDER, "wine")[0]
    arms = {
        name: {key: value for key, value in row.items() if key != "anytime"}
        for name, row in trial_pruning.unit(pool, 2, list(ARMS)).items()
    }
    agree({"arms": arms, "gaps": trial_pruning.gaps(pool)}, EXPECTED["trial_pruning, one pool"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_claimed_of_trial_pruning_is_what_its_tables_give():
    """Ours and, of what there is, the best of each task, on all pools; of the others what was recorded."""
    recorded = json.loads((RESULTS / "trial_pruning.json").read_text())["figures"]
    per_task = [name for name in recorded if name.endswith("_per_task") and not name.startswith("no_")]
    for task, some in all_pools(trial_pruning.FOLDER).items():
        if TASKS[task].tuning:
            continue
        rows = {name: arms[task] for name, arms in recorded["arms"].items()}
        best = {min(EXISTING, key=lambda name: rows[name][by]) for by in ("regret", "end")}
        units = [trial_pruning.unit(pool, trial_pruning.ORDERS, [*best, OURS]) for pool in some]
        agree(
            {name: trial_pruning._summary([unit[name] for unit in units]) for name in (*best, OURS)},
            {name: rows[name] for name in (*best, OURS)},
        )
        claimed = trial_pruning.claims({task: units}, sorted(best), resamples=1)
        agree(
            {name: claimed[name] for name in per_task},
            {name: {task: recorded[name][task]} for name in per_task},
        )


def test_what_is_claimed_of_all_tasks_follows_from_each():
    recorded = json.loads((RESULTS / "trial_pruning.json").read_text())["figures"]
    each = recorded["regret_ratio_per_task"]
    assert trial_pruning.geometric(list(each.values())) == pytest.approx(recorded["regret_ratio"], rel=1e-5)
    assert max(each.values()) == recorded["worst_task_regret_ratio"]
