"""Models of transformers go through files and fresh processes."""

import pytest

pytest.importorskip("transformers")

from benchmarks.huggingface import QUICK, round_trips


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_architectures_come_back_equal_in_fresh_processes(tmp_path):
    """Four of the fourteen that ``python -m benchmarks.huggingface`` records."""
    rows = round_trips(QUICK, tmp_path)
    assert {name for name, row in rows.items() if not row["works"]} == set()
    assert len(rows) == 4
