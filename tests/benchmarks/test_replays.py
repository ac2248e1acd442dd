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
@pytest.mark.timeout(3600)
def test_what_is_claimed_of_trial_pruning_is_what_its_tables_give():
    """Ours and what there is; the other arms of the table take three times as long."""
    pools = {task: some for task, some in all_pools(trial_pruning.FOLDER).items() if not TASKS[task].tuning}
    table = trial_pruning.replayed(pools, trial_pruning.ORDERS, [*EXISTING, OURS])
    recorded = json.loads((RESULTS / "trial_pruning.json").read_text())["figures"]
    claimed = trial_pruning.claims(table, list(EXISTING))
    agree(claimed, {name: recorded[name] for name in claimed})
