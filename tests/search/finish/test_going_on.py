"""Finishing again and again: what was tuned and exported stays until a better finished model dominates it."""

import csv
import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from evaluators import Cost, Evaluators, FineTuning, Quality
from evaluators.base import Candidate, Evaluation, State
from evaluators.data import Arrays
from search.executors import InlineExecutor
from search.finish.export import ModelSource
from search.finish.finish import Finish
from search.finish.finished_models import INDEX
from search.finish.recipe import WEIGHTS, Recipe, load
from search.problem import Objective, Problem
from search.record.about import About
from search.record.finals import Final, dominators, load_finals
from search.record.ledger import Ledger
from search.report import write_report
from search.report.table import text
from spaces.channels import ChannelSpace
from spaces.models import Perceptron

ORIGIN = ModelSource({"class_path": "spaces.models.Perceptron", "init_args": {"widths": [8, 16, 3]}})


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(160, 8)).astype(np.float32)
    data = Arrays(inputs, (inputs @ rng.normal(size=(8, 3))).argmax(axis=1))
    torch.manual_seed(0)
    space = ChannelSpace(Perceptron((8, 16, 3)).eval(), data.example())
    evaluator = Evaluators([Cost(), Quality(record_activations=False)])
    evaluator.bind(space, data)
    base = {"error": 0.5, "loss": 1.0} | {
        name: float(values[0]) for name, values in evaluator.screen(space.base[None]).items()
    }
    return Problem(space, evaluator, (Objective("error"), Objective("macs")), (), base)


@pytest.fixture
def ledger(problem, tmp_path):
    """A run of four candidates; the search calls each better than it is once it is tuned, or worse."""
    ledger = Ledger(tmp_path / "ledger.db", problem.space)
    About.of("toy", problem).save(ledger)
    search(problem, ledger, [(12, 0.3), (9, 0.4), (6, 0.5), (3, 0.6)])
    yield ledger
    ledger.close()


def search(problem, ledger, found):
    """Record candidates that keep so many channels, with the error that the search saw."""
    first = ledger.counts()["candidates"]
    for id, (kept, error) in enumerate(found, first):
        genome = np.zeros(problem.space.length, np.uint8)
        genome[(np.arange(kept) + id) % problem.space.length] = 1
        candidate = Candidate(id, genome, seed=id)
        metrics = {name: float(values[0]) for name, values in problem.evaluator.screen(genome[None]).items()}
        ledger.add_candidates([candidate])
        ledger.add_evaluation(
            Evaluation(candidate, State.COMPLETE, metrics | {"error": error, "loss": error})
        )
    ledger.commit()


def finish(problem, ledger, folder, **settings):
    defaults = {
        "members": 4,
        "epochs": 1,
        "batch_size": 16,
        "base": False,
        "onnx": False,
        "latency_repeats": 1,
        "latency_seconds": 0.0,
    }
    return Finish(**(defaults | settings)).run(problem, InlineExecutor(), ledger, folder, origin=ORIGIN)


def index(folder):
    return {model["folder"]: model for model in json.loads((folder / "models" / INDEX).read_text())["models"]}


def best(finals):
    return min(final.tuned["error"] for final in finals if final.folder)


def test_going_on_never_hides_a_better_finished_model(problem, ledger, tmp_path):
    first = finish(problem, ledger, tmp_path, epochs=4)
    # every new candidate beats an old one in the search: none of the old ones is on its front any more
    search(problem, ledger, [(11, 0.01), (8, 0.02), (5, 0.03), (2, 0.04)])
    second = finish(problem, ledger, tmp_path, epochs=1)
    assert {final.id for final in second if not final.earlier} == {4, 5, 6, 7}
    assert best(second) <= best(first), "a better model that was paid for has gone from the table"
    shown, models = {final.id for final in second}, index(tmp_path)
    assert any(final.earlier for final in second) and set(models) == {f"models/{id}" for id in range(8)}
    for final in first:
        after = [final.tuned["error"], final.searched["macs"]]
        better = [
            other.id
            for other in second
            if [other.tuned["error"], other.searched["macs"]] != after
            and other.tuned["error"] <= after[0]
            and other.searched["macs"] <= after[1]
        ]
        assert (final.id in shown) == (not better)
        assert (tmp_path / final.folder / WEIGHTS).is_file(), "what was paid for stays on the disk"
        row = models[final.folder]
        assert row["kept"] == (not better) and (row["dominated_by"] is None) == (not better)
    printed = text(second, About.load(ledger))
    assert all(final.name in printed for final in second) and "of earlier calls: candidate" in printed
    page = write_report(tmp_path).read_text()
    assert all(f"{final.folder}/weights.safetensors" in page for final in second)
    rows = list(csv.DictReader((tmp_path / "front.csv").open()))
    assert {int(row["candidate"]) for row in rows if row["folder"]} == shown
    assert [row["on_front"] for row in rows] == ["yes"] * 4 + ["no"] * (len(rows) - 4)
    for row in rows:
        tuned = next(final.tuned["error"] for final in second if final.id == int(row["candidate"]))
        assert float(row["tuned_error"]) == tuned


def test_the_index_says_which_folder_is_which(problem, ledger, tmp_path):
    finals = {final.folder: final for final in finish(problem, ledger, tmp_path)}
    models = index(tmp_path)
    assert set(models) == set(finals) and not list(tmp_path.glob("models/.*")), "half written"
    for folder, row in models.items():
        final = finals[folder]
        assert row["id"] == final.id and row["current"] and row["test"] == final.test
        assert row["before"] == {name: final.searched[name] for name in ("error", "macs")}
        assert row["after"] == {"error": final.tuned["error"], "macs": final.searched["macs"]}
        assert row["weights"] == Recipe.read(tmp_path / folder).weights
    search(problem, ledger, [(11, 0.01)])
    finish(problem, ledger, tmp_path, members=1)
    assert [folder for folder, row in index(tmp_path).items() if row["current"]] == ["models/4"]


def test_other_settings_write_over_nothing_and_come_back_for_nothing(problem, ledger, tmp_path, monkeypatch):
    tuned = []
    evaluate = FineTuning.evaluate
    monkeypatch.setattr(
        FineTuning, "evaluate", lambda self, *given: (tuned.append(given[1].id), evaluate(self, *given))[1]
    )
    long = finish(problem, ledger, tmp_path, epochs=6, members=2)
    written = {file: file.read_bytes() for file in tmp_path.glob("models/*/*")}
    short = finish(problem, ledger, tmp_path, epochs=1, members=2)
    assert all(file.read_bytes() == held for file, held in written.items())
    assert best(short) <= best(long)
    current = [final for final in short if not final.earlier]
    assert [final.folder for final in current] == [f"{final.folder}-2" for final in long]
    assert len({final.name for final in short}) == len(short), "two models of one name"
    for final in short:
        assert load(tmp_path / final.folder, problem.space.model) is not None
    assert len(tuned) == 4
    again = finish(problem, ledger, tmp_path, epochs=6, members=2)
    assert len(tuned) == 4, "the models of these settings are there"
    assert [final for final in again if not final.earlier] == long
    assert len(index(tmp_path)) == 4 and len(finish(problem, ledger, tmp_path, epochs=2, members=2)) >= 2
    assert sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir()) == sorted(
        f"{final.id}{suffix}" for final, suffix in itertools.product(long, ("", "-2", "-3"))
    )


def test_what_an_interrupted_call_had_tuned_is_exported_whatever_is_asked_next(
    problem, ledger, tmp_path, monkeypatch
):
    def export(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("search.finish.finish.Finish._export", export)
        with pytest.raises(Killed):
            finish(problem, ledger, tmp_path, epochs=4)
    search(problem, ledger, [(11, 0.01)])
    finals = finish(problem, ledger, tmp_path, epochs=1, members=1)
    assert {row["id"] for row in index(tmp_path).values()} == {0, 1, 2, 3, 4}
    assert [final.id for final in finals if not final.earlier] == [4]
    assert not list((tmp_path / "state" / "tuned").iterdir()), "weights stay twice on the disk"


def test_a_kill_in_mid_finish_leaves_table_and_index_whole(problem, ledger, tmp_path, monkeypatch):
    first = finish(problem, ledger, tmp_path, epochs=4)
    search(problem, ledger, [(11, 0.01), (8, 0.02), (5, 0.03), (2, 0.04)])
    exported = Finish._export
    begun = []

    def export(*given, **named):
        begun.append(1)
        if len(begun) > 2:
            raise Killed
        return exported(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Finish, "_export", export)
        with pytest.raises(Killed):
            finish(problem, ledger, tmp_path)
    halfway = load_finals(ledger)
    assert best(halfway) <= best(first) and len(index(tmp_path)) == 6
    write_report(tmp_path)
    assert best(finish(problem, ledger, tmp_path)) <= best(halfway) and len(index(tmp_path)) == 8


def test_a_model_that_somebody_deleted_is_no_longer_shown(problem, ledger, tmp_path):
    finish(problem, ledger, tmp_path, epochs=4)
    search(problem, ledger, [(11, 0.01), (8, 0.02), (5, 0.03), (2, 0.04)])
    earlier = [final for final in finish(problem, ledger, tmp_path) if final.earlier]
    shutil.rmtree(tmp_path / earlier[0].folder)
    after = finish(problem, ledger, tmp_path)
    assert earlier[0].id not in {final.id for final in after}
    assert earlier[0].folder not in index(tmp_path)


def test_a_run_of_an_older_version_gets_its_index_and_its_models_back(problem, ledger, tmp_path):
    finals = finish(problem, ledger, tmp_path, epochs=4)
    for final in finals:  # as an older version wrote them
        note = ledger.note(f"final/{final.id}")
        ledger.save_note(
            f"final/{final.id}", {k: v for k, v in note.items() if k not in ("tuned", "earlier")}
        )
    ledger.commit()
    (tmp_path / "models" / INDEX).unlink()
    search(problem, ledger, [(11, 0.01), (8, 0.02), (5, 0.03), (2, 0.04)])
    assert {final.id for final in load_finals(ledger)} >= {0, 1, 2, 3}, "the report alone shows them again"
    again = finish(problem, ledger, tmp_path, epochs=1)
    after = index(tmp_path)
    assert all(after[final.folder]["after"]["error"] == final.tuned["error"] for final in finals)
    assert best(again) <= best(finals)


def test_a_tuning_that_failed_is_tried_again_by_the_next_call(problem, ledger, tmp_path, monkeypatch):
    def fail(self, model, candidate):
        raise MemoryError("no room")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "evaluate", fail)
        failed = finish(problem, ledger, tmp_path, base=True)
        assert {final.reason for final in failed} == {"MemoryError: no room"}
    assert all(not final.reason for final in finish(problem, ledger, tmp_path, base=True))


def test_who_dominates_whom(problem):
    def final(id, error, macs, tuned=None):
        after = {} if tuned is None else {"error": tuned}
        return Final(id, {"error": error, "macs": macs}, folder=f"models/{id}", tuned=after)

    rows = [
        final(0, 0.9, 10, 0.1),
        final(1, 0.05, 10, 0.2),
        final(2, 0.3, 5),
        final(3, 0.3, 5),
        final(4, 0.4, 20),
    ]
    better = dominators(rows, problem)
    assert [None if found is None else found.id for found in better] == [None, 0, None, None, 0], (
        "after the tuning; equals do not dominate; by one that stands"
    )
    assert dominators([], problem) == []
