"""The link of a Ray node is cut in the middle of a search: neither side is told, and nothing is lost."""

from pathlib import Path

import pytest

from benchmarks.namespaces import NotAllowed
from benchmarks.silence import Settings, cut_in_the_middle, undisturbed
from tests.waiting import slowness

# Ray gives up a node about twelve seconds after its last word: four checks, a second apart, fail
CHECKS = 4
SOON = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": str(CHECKS),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "settings",
    [
        Settings(evaluations=120, before=20),
        # every worker has what it works on and nothing more; the limit is over before Ray knows
        Settings(evaluations=120, before=20, time_limit=4.0, workers=2),
    ],
    ids=["all the room there is", "two workers and a time limit"],
)
def test_a_cut_link_changes_neither_the_end_nor_the_front(settings: Settings, tmp_path: Path) -> None:
    try:
        story = cut_in_the_middle(tmp_path, settings, SOON)
    except NotAllowed as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")
    assert story.outcome == undisturbed(settings)
    assert story.outcome["failed"] == []
    if settings.time_limit is not None:
        assert story.known > settings.time_limit
    # a result may come before the driver's next look at the nodes: so this is held against Ray's checks
    assert story.known > CHECKS
    assert CHECKS < story.again < story.known + 20 * slowness()
