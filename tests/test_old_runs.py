"""Runs that were written by format 1 (tests/fixtures) go on, report and export."""

import csv
import shutil
from pathlib import Path

import pytest

from search.record.ledger import Ledger
from secateur.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
QUIET = ["--finish.onnx", "false", "--study.view", "false"]


@pytest.fixture
def old(tmp_path, capsys):
    """Copy a run of format 1; return a function that runs it with changes, and its folder."""

    def go(name, *changes):
        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(FIXTURES / f"runs_{name}", folder)
            for model in folder.glob("models/*"):  # it held paths of the machine, and is not read here
                (model / "model.onnx").touch()
        code = main([str(folder / "config.yaml"), "--runs", str(tmp_path), *QUIET, *changes])
        output = capsys.readouterr()
        assert code == 0, output.err
        return folder, output.out + output.err

    return go


@pytest.mark.parametrize(
    ("name", "more", "evaluations"),
    [
        ("channels", ["--search.budget.evaluations", "26"], 26),
        ("tuning", ["--search.budget.evaluations", "5"], 5),
        ("lineages", ["--search.budget.evaluations", "5"], 5),
        ("coevolution", [], 14),
        ("cells", [], 1),
    ],
)
def test_a_run_of_format_1_goes_on(old, name, more, evaluations):
    kept = (FIXTURES / f"runs_{name}" / "ledger.db").read_bytes()
    folder, told = old(name, *more)
    assert "training the base model" not in told, "the base model was paid for"
    assert (folder / "report.html").exists()
    ledger = Ledger.reader(folder / "ledger.db")
    assert ledger.counts()["evaluations"] == evaluations
    assert ledger.identity["format"] == "2"
    before = Ledger.reader(FIXTURES / f"runs_{name}" / "ledger.db")
    assert "format" not in before.identity and (FIXTURES / f"runs_{name}" / "ledger.db").read_bytes() == kept
    for (_, was), (_, now) in zip(before.evaluations(), ledger.evaluations(), strict=False):
        assert was.metrics == pytest.approx(now.metrics, nan_ok=True)


@pytest.mark.parametrize("name", ["coevolution", "lineages"])
def test_what_was_tuned_is_not_tuned_again(old, name):
    before = rows(FIXTURES / f"runs_{name}" / "front.csv")
    folder, told = old(name)
    assert "fine-tuning the front" not in told
    tuned = [row for row in rows(folder / "front.csv") if row["folder"]]
    assert [row["test_loss"] for row in tuned] == [row["test_loss"] for row in before if row["folder"]]


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))
