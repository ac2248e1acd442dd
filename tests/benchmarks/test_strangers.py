"""The figures of models of other libraries are those of what was tried, and what was tried is kept."""

import json
from pathlib import Path

import pytest

from benchmarks.strangers.__main__ import figures, table, tried
from benchmarks.strangers.catalogue import CATALOGUE

NAME = "transformers/bert"


def outcome(state: str, left: float = 0.5) -> dict[str, object]:
    return {"state": state, "reason": "" if state == "works" else "why", "seconds": 2.0, "left": left}


def test_only_what_works_counts_and_what_others_alone_can_is_named():
    found = {
        "secateur": {"a": outcome("works"), "b": outcome("wrong"), "c": outcome("works", 0.3)},
        "torch_pruning": {"a": outcome("works"), "b": outcome("works"), "c": outcome("error")},
    }
    told = figures(found)
    assert told["works"] == pytest.approx(2 / 3) and told["wrong"] == 1 and told["left"] == 0.5
    assert told["works_by_tool"] == {"secateur": "2 of 3", "torch_pruning": "2 of 3"}
    assert told["over_torch_pruning"] == 1.0
    assert told["theirs_alone"] == ["b"] and told["not"] == {"b": "wrong: why"}


def test_what_was_tried_is_not_tried_again(tmp_path):
    (tmp_path / "transformers-bert-secateur.json").write_text(json.dumps(outcome("works")))
    assert tried(NAME, "secateur", tmp_path)["state"] == "works"


def test_there_are_as_many_models_as_the_table_promises():
    assert len(CATALOGUE) >= 120 and len({model.library for model in CATALOGUE.values()}) == 9


def test_what_the_docs_show_is_what_was_recorded():
    root = Path(__file__).parents[2]
    recorded = json.loads((root / "benchmarks" / "results" / "strangers.json").read_text())
    assert table(recorded["figures"]) in (root / "docs" / "operations.md").read_text()
