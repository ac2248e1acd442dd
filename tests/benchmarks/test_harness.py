"""What every benchmark prints and writes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import harness


def test_main_writes_figures_settings_and_environment(tmp_path, monkeypatch, capsys):
    file = tmp_path / "results" / "made.json"
    monkeypatch.setattr(sys, "argv", ["made", "--quick", "--json", str(file)])
    harness.main(
        "made",
        lambda quick: (
            {"ratio": np.float32(1.5), "spread": harness.spread([1, 2, 3])},
            {"rounds": 3 if quick else 9},
        ),
    )
    result = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert list(result) == ["benchmark", "figures", "settings", "environment"]
    assert result["benchmark"] == "made"
    assert result["figures"] == {"ratio": 1.5, "spread": {"median": 2.0, "low": 1.5, "high": 2.5, "n": 3}}
    assert result["settings"] == {"quick": True, "rounds": 3}
    assert {"python", "torch", "ray", "cpus", "processor", "commit"} <= set(result["environment"])


@pytest.mark.parametrize(
    ("value", "plain"),
    [(np.int64(3), 3), (1 / 3, 0.333333), (np.bool_(True), True), ((1, [2.0]), [1, [2.0]]), ("a", "a")],
)
def test_rounded_is_plain_enough_for_json(value, plain):
    assert harness.rounded(value) == plain
    assert type(harness.rounded(value)) is type(plain)
