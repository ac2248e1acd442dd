"""The view of a run that is too large to be shown whole: bounded in trials, in bytes and in memory, with the
front, the finished ones, the newest and an even sample, and it says so.
"""

from __future__ import annotations

import pickle

import numpy as np
import optuna
import pytest

import search.study.view as viewing
from evaluators.base import Candidate, Evaluation, Report, State
from search.record.about import About
from search.record.ledger import Ledger
from search.study import StudyView
from search.study.__main__ import main
from search.study.selection import Selection
from search.study.view import View
from search.testing import pruning
from tests.waiting import patience

PROBLEM = pruning(12, ["macs <= 60%"])  # a front of about ten
optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", PROBLEM.space)
    About.of("toy", PROBLEM).save(ledger)
    ledger.commit()
    yield ledger
    ledger.close()


def fill(ledger, start, stop, steps=0):
    """Evaluate random candidates, with so many reports each."""
    rng = np.random.default_rng(start)
    for id in range(start, stop):
        genome = PROBLEM.space.sample(1, rng)[0]
        candidate = Candidate(id, genome, (), "sample", id)
        metrics = {name: float(v[0]) for name, v in PROBLEM.evaluator.function(genome[None]).items()}
        ledger.add_candidates([candidate])
        for step in range(steps):
            ledger.add_report(id, Report({"error": 1.0 / (step + 1)}, step))
        ledger.add_evaluation(Evaluation(candidate, State.COMPLETE, metrics))
    ledger.commit()


def show(folder, most, finish=True):
    view = View(folder, None, most)
    while view.step():
        pass
    return view.finish() if finish else ""


def study_of(folder):
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
    return optuna.load_study(study_name="toy", storage=optuna.storages.JournalStorage(backend))


def numbers(folder):
    found = [trial.user_attrs["seq"] for trial in study_of(folder).trials]
    assert len(set(found)) == len(found), "no evaluation is shown twice"
    return set(found)


def front(folder):
    with_ledger = Ledger.reader(folder / "ledger.db")
    from search.front import Front

    found = Front(PROBLEM)
    seqs = {}
    for seq, evaluation in with_ledger.evaluations():
        found.add(evaluation)
        seqs[evaluation.candidate.id] = seq
    return {seqs[member.candidate.id] for member in found.members}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(viewing, "NEWEST", 10)
    monkeypatch.setattr("os.fsync", lambda file: None)  # for the time that it takes
    monkeypatch.setattr(viewing, "_CHUNK", 20)


def bounded(folder, most, total):
    shown = numbers(folder)
    assert len(shown) <= most + 10 and front(folder) <= shown
    assert set(range(total - 9, total + 1)) <= shown, "the newest"
    return shown


@pytest.mark.parametrize("steps", [[300], [40, 120, 300], [20, 50, 130, 300]])
def test_a_large_run_is_shown_by_a_part_of_it_however_it_grew(ledger, tmp_path, small, steps):
    done = 0
    for stop in steps:
        fill(ledger, done, stop)
        done = stop
        told = show(tmp_path, 80)
    shown = bounded(tmp_path, 80, 300)
    assert {seq for seq in range(1, 301) if seq % 16 == 0} <= shown, "an even sample"
    assert told.startswith(
        f"the Optuna view shows {len(shown)} of 300 trials: the front, the finished ones, "
    )
    study = study_of(tmp_path)
    assert study.user_attrs["shown"] == told
    note = study._storage.get_study_system_attrs(study._study_id)["dashboard:note_str:0"]
    assert f"**{len(shown)} of 300 candidates shown**" in note and "All candidates are in `ledger.db`" in note


def test_a_view_that_follows_a_growing_run_thins_its_study(ledger, tmp_path, small):
    view = View(tmp_path, None, 80)
    log, sizes = tmp_path / "study.log", []
    for stop in range(50, 550, 50):
        fill(ledger, stop - 50, stop)
        while view.step():
            sizes.append(len(view._study.trials))
    view.finish()
    assert max(sizes) <= 80 + 20 + 10 and min(sizes[len(sizes) // 2 :]) >= 20
    assert not log.with_suffix(".new").exists()
    bounded(tmp_path, 100, 500)
    every = view._selection.every
    assert every >= 8 and {s for s in range(1, 501) if s % every == 0} <= numbers(tmp_path)


def test_what_is_finished_is_shown_whatever_its_number(ledger, tmp_path, small):
    fill(ledger, 0, 300)
    ledger.save_note("final/150", {"test": {"error": 0.1}})
    ledger.commit()
    show(tmp_path, 60)
    assert 151 in numbers(tmp_path)


def test_a_small_run_is_shown_whole_and_says_nothing(ledger, tmp_path):
    fill(ledger, 0, 60)
    assert show(tmp_path, 80) == ""
    assert numbers(tmp_path) == set(range(1, 61)) and "shown" not in study_of(tmp_path).user_attrs


def test_a_journal_of_before_goes_on(ledger, tmp_path, small):
    fill(ledger, 0, 50)
    show(tmp_path, 10_000)
    old = (tmp_path / "study.log").read_bytes()
    fill(ledger, 50, 75)
    show(tmp_path, 80)
    assert (tmp_path / "study.log").read_bytes().startswith(old), "it is appended to"
    assert numbers(tmp_path) == set(range(1, 76))


@pytest.mark.parametrize("too_many", [True, False], ids=["trials", "bytes"])
def test_a_journal_of_before_that_is_too_large_is_written_anew(
    ledger, tmp_path, small, monkeypatch, too_many
):
    fill(ledger, 0, 300)
    show(tmp_path, 10_000)
    assert len(numbers(tmp_path)) == 300
    if not too_many:
        monkeypatch.setattr(viewing, "LOG_BYTES", 60_000)
        assert (tmp_path / "study.log").stat().st_size > 60_000
    show(tmp_path, 80)
    if too_many:
        bounded(tmp_path, 80, 300)
    assert (tmp_path / "study.log").stat().st_size < 90_000 and set(range(291, 301)) <= numbers(tmp_path)


def test_long_curves_are_bounded_by_bytes(ledger, tmp_path, small, monkeypatch):
    monkeypatch.setattr(viewing, "LOG_BYTES", 200_000)
    fill(ledger, 0, 200, steps=100)
    show(tmp_path, 10_000)
    shown = numbers(tmp_path)
    assert (tmp_path / "study.log").stat().st_size < 300_000 and 15 <= len(shown) < 200
    assert set(range(191, 201)) <= shown and len(study_of(tmp_path).trials[0].intermediate_values) == 100


def test_killed_while_it_writes_anew_it_goes_on(ledger, tmp_path, small, monkeypatch):
    fill(ledger, 0, 75)
    show(tmp_path, 80)

    class Killed(BaseException):
        pass

    def dying(self, study, front):
        study.write(next(iter(self._store.evaluations())))
        raise Killed

    fill(ledger, 75, 300)
    with monkeypatch.context() as patch:
        patch.setattr(View, "_write_selected", dying)
        patch.setattr(Selection, "fit", lambda self, total: None)  # as a run that grew while it was shown
        with pytest.raises(Killed):
            show(tmp_path, 80)
    assert (tmp_path / "study.new").exists()
    show(tmp_path, 80)
    bounded(tmp_path, 80, 300)


@pytest.mark.slow
def test_a_database_is_bounded_too(ledger, tmp_path, small):
    fill(ledger, 0, 60)
    url = f"sqlite:///{tmp_path}/view.db"
    view = View(tmp_path, url, 30)
    while view.step():
        pass
    told = view.finish()
    study = optuna.load_study(study_name="toy", storage=url)
    seqs = {trial.user_attrs["seq"] for trial in study.trials}
    assert len(seqs) == len(study.trials) <= 40 and front(tmp_path) <= seqs
    assert study.user_attrs["shown"] == told != ""


def test_a_large_front_is_sampled_evenly():
    selection = Selection(40)
    assert selection.of_front(range(30)) == list(range(30)), "as long as everything is shown"
    selection.fit(1000)
    assert selection.every == 64 and selection.of_front(range(8)) == list(range(8))
    few = selection.of_front(range(1000))
    assert len(few) == 20 and few == list(range(0, 1000, 50))
    assert selection.holds(64) and not selection.holds(65)
    assert pickle.loads(pickle.dumps(selection)).every == 64


def test_the_driver_hears_what_is_left_out(ledger, tmp_path, small, monkeypatch, capsys):
    fill(ledger, 0, 60)
    assert StudyView(tmp_path).finish(patience()) == "", "all are shown"
    monkeypatch.setattr("search.study.view.SHOWN", 30)
    monkeypatch.setattr(View.__init__, "__defaults__", (30,))
    monkeypatch.setattr(viewing, "NEWEST", 5)
    (tmp_path / "study.log").unlink()
    main([str(tmp_path)])
    assert capsys.readouterr().err.startswith("note: the Optuna view shows ")
