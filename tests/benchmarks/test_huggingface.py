"""Models of transformers go through files and fresh processes."""

import pytest

pytest.importorskip("transformers")

from benchmarks.architectures import ARCHITECTURES
from benchmarks.huggingface import round_trips


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_architecture_comes_back_equal_in_fresh_processes(tmp_path):
    rows = round_trips(tuple(ARCHITECTURES), tmp_path)
    assert {name for name, row in rows.items() if not row["works"]} == set()
    assert len(rows) == 14
