"""The Optuna view: what the ledger has, the study shows, whatever happens to the process that writes it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from torch import nn

import search.study.ordering as ordering
import search.study.view as viewing
from evaluators.base import Candidate, Evaluation, Report, State
from search.problem import Constraint, Objective, Problem
from search.record.about import About
from search.record.ledger import Ledger
from search.study import StudyView
from search.study.__main__ import main
from search.study.view import View
from search.testing import Toy, pruning
from spaces.base import Segment, Space
from tests.waiting import patience, slowness, until

PROBLEM = pruning(40, ["macs <= 60%"])


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.db", PROBLEM.space)
    About.of("toy", PROBLEM).save(ledger)
    ledger.commit()
    yield ledger
    ledger.close()


def fill(ledger: Ledger, start: int, stop: int, problem: Problem = PROBLEM) -> list[Evaluation]:
    """Evaluate random candidates; every tenth fails, the one after it is pruned."""
    genomes = problem.space.sample(stop, np.random.default_rng(0))[start:]
    metrics = problem.evaluator.function(genomes)  # type: ignore[attr-defined]
    evaluations = []
    for place, genome in enumerate(genomes):
        id = start + place
        candidate = Candidate(
            id, genome, (id - 2, id - 1) if id > 1 else (), "Uniform+BitFlip" if id > 1 else "sample", id
        )
        values = {name: float(column[place]) for name, column in metrics.items()}
        state = {0: State.FAILED, 1: State.PRUNED}.get(id % 10, State.COMPLETE)
        reason = "RuntimeError: no" if state is State.FAILED else ""
        evaluations.append(
            Evaluation(
                candidate, state, {} if reason else values, reason=reason, seconds=0.5, worker="here:1"
            )
        )
    ledger.add_candidates(e.candidate for e in evaluations)
    for evaluation in evaluations:
        if evaluation.state is State.PRUNED:
            for step in range(3):
                ledger.add_report(evaluation.candidate.id, Report({"error": 1 - step / 10}, step))
        ledger.add_evaluation(evaluation)
    ledger.commit()
    return evaluations


def study_of(directory: Path) -> optuna.Study:
    return optuna.load_study(
        study_name="toy", storage=JournalStorage(JournalFileBackend(str(directory / "study.log")))
    )


def trials_of(directory: Path) -> dict[int, FrozenTrial]:
    """Trials by candidate."""
    trials = study_of(directory).trials
    by_candidate = {trial.user_attrs["candidate"]: trial for trial in trials}
    assert len(by_candidate) == len(trials), "a candidate was written twice"
    return by_candidate


def rebuild(directory: Path) -> None:
    main([str(directory)])


def front_ids(evaluations: list[Evaluation]) -> set[int]:
    complete = [e for e in evaluations if e.state is State.COMPLETE and PROBLEM.violations([e])[0] == 0]
    points = PROBLEM.values(complete)
    return {
        e.candidate.id
        for e, point in zip(complete, points, strict=True)
        if not ((points <= point).all(1) & (points < point).any(1)).any()
    }


def notes_of(directory: Path) -> dict[int, str]:
    """Notes of trials by candidate, as optuna-dashboard shows them."""
    attributes = study_of(directory)._storage.get_study_system_attrs(0)
    return {
        id: attributes.get(f"dashboard:{trial._trial_id}:note_str:0", "")
        for id, trial in trials_of(directory).items()
    }


def test_every_evaluation_is_a_trial(ledger: Ledger, tmp_path: Path) -> None:
    evaluations = fill(ledger, 0, 60)
    rebuild(tmp_path)
    study, trials = study_of(tmp_path), trials_of(tmp_path)
    assert study.metric_names == ["error", "macs"] and [d.name for d in study.directions] == [
        "MINIMIZE",
        "MINIMIZE",
    ]
    assert set(trials) == set(range(60))
    states = {
        State.COMPLETE: TrialState.COMPLETE,
        State.FAILED: TrialState.FAIL,
        State.PRUNED: TrialState.PRUNED,
    }
    for evaluation in evaluations:
        trial = trials[evaluation.candidate.id]
        assert trial.state is states[evaluation.state]
        shares = {
            name: round(float(evaluation.candidate.genome[part].mean()), 6)
            for name, part in PROBLEM.space.slices.items()
        }
        assert trial.params == shares
        assert trial.duration is not None and trial.duration.total_seconds() == 0.5
        if evaluation.state is State.COMPLETE:
            assert trial.values == [evaluation.metrics["error"], evaluation.metrics["macs"]]


def test_parents_operator_feasibility_and_reasons_are_visible(ledger: Ledger, tmp_path: Path) -> None:
    evaluations = fill(ledger, 0, 60)
    rebuild(tmp_path)
    trials = trials_of(tmp_path)
    assert (
        trials[12].user_attrs["operator"] == "Uniform+BitFlip"
        and trials[12].user_attrs["parents"] == "10, 11"
    )
    assert trials[10].user_attrs["reason"] == "RuntimeError: no"
    feasible = {
        e.candidate.id: bool(PROBLEM.violations([e])[0] == 0)
        for e in evaluations
        if e.state is State.COMPLETE
    }
    assert len(set(feasible.values())) == 2
    for id, is_feasible in feasible.items():
        trial = trials[id]
        assert trial.user_attrs["feasible"] == ("yes" if is_feasible else "no")
        assert (trial.constraints["macs <= 60%"] <= 0) is is_feasible  # what Optuna reads
        assert (
            all(value <= 0 for value in trial.system_attrs["constraints"]) is is_feasible
        )  # what optuna-dashboard 0.21 reads


def test_reports_are_intermediate_values(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, 0, 12)
    rebuild(tmp_path)
    assert trials_of(tmp_path)[11].intermediate_values == {0: 1.0, 1: 0.9, 2: 0.8}


def test_members_of_the_front_carry_notes_and_who_left_it_says_so(ledger: Ledger, tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    early = fill(ledger, 0, 20)
    rebuild(tmp_path)
    first, notes = front_ids(early), notes_of(tmp_path)
    assert {id for id, note in notes.items() if note.startswith("## On the front")} == first
    everything = early + fill(ledger, 20, 300)
    (tmp_path / "models" / str(min(front_ids(everything)))).mkdir(parents=True)
    (tmp_path / "models" / str(min(front_ids(everything))) / "recipe.json").touch()
    finished = {"test": {"test_error": 0.0625}, "folder": f"models/{min(front_ids(everything))}"}
    ledger.save_note(f"final/{min(front_ids(everything))}", finished)
    ledger.commit()
    rebuild(tmp_path)  # another process, as far as the study can tell
    notes = notes_of(tmp_path)
    assert {id for id, note in notes.items() if note.startswith("## On the front")} == front_ids(everything)
    assert first - front_ids(everything), "the test needs a member that left"
    assert all("dominated by now" in notes[id] for id in first - front_ids(everything))
    assert (
        "0.0625" in notes[min(front_ids(everything))] and "recipe.json" in notes[min(front_ids(everything))]
    )


def test_writing_again_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, 0, 50)
    rebuild(tmp_path)
    before = (tmp_path / "study.log").read_bytes()
    rebuild(tmp_path)
    assert (tmp_path / "study.log").read_bytes() == before and len(trials_of(tmp_path)) == 50


def test_a_deleted_study_is_written_again(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, 0, 50)
    rebuild(tmp_path)
    before = {id: (trial.values, trial.params, trial.state) for id, trial in trials_of(tmp_path).items()}
    (tmp_path / "study.log").unlink()
    rebuild(tmp_path)
    assert {
        id: (trial.values, trial.params, trial.state) for id, trial in trials_of(tmp_path).items()
    } == before


def test_the_study_of_an_earlier_ledger_is_replaced(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, 0, 50)
    rebuild(tmp_path)
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    again = Ledger(tmp_path / "ledger.db", PROBLEM.space)
    About.of("toy", PROBLEM).save(again)
    fill(again, 0, 20)
    again.close()
    rebuild(tmp_path)
    assert set(trials_of(tmp_path)) == set(range(20))


def test_a_killed_view_leaves_nothing_that_hurts(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, 0, 50)
    rebuild(tmp_path)
    content = (tmp_path / "study.log").read_bytes()
    lines = content.splitlines(keepends=True)
    (tmp_path / "study.log").write_bytes(
        b"".join(lines[:30]) + lines[30][: len(lines[30]) // 2]
    )  # killed in the middle of a line
    (tmp_path / "study.log.lock").symlink_to("somewhere")
    start = time.monotonic()
    rebuild(tmp_path)
    assert time.monotonic() - start < 20 * slowness(), "it waited for the lock of a dead process"
    assert set(trials_of(tmp_path)) == set(range(50))


def test_what_joins_the_front_is_written_first(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations = fill(ledger, 0, 300)
    monkeypatch.setattr(viewing, "_CHUNK", 1)
    view = View(tmp_path, None, 200)  # too few for all
    assert view.step()
    view.annotate()
    shown = set(trials_of(tmp_path))
    assert front_ids(evaluations) <= shown and len(shown) <= len(front_ids(evaluations)) + 1
    summary = study_of(tmp_path)._storage.get_study_system_attrs(0).get("dashboard:note_str:0", "")
    assert f"{300 - len(shown)} left out" in summary


def arrive(ledger: Ledger, order: list[int], asked: int) -> None:
    """Evaluate candidates in an order of their own."""
    genomes = PROBLEM.space.sample(asked, np.random.default_rng(0))
    metrics = PROBLEM.evaluator.function(genomes)  # type: ignore[attr-defined]
    known = ledger.counts()["candidates"]
    ledger.add_candidates(Candidate(id, genomes[id], (), "sample", id) for id in range(known, asked))
    for id in order:
        values = {name: float(column[id]) for name, column in metrics.items()}
        candidate = Candidate(id, genomes[id], (), "sample", id)
        ledger.add_evaluation(Evaluation(candidate, State.COMPLETE, values, seconds=0.5))
    ledger.commit()


def test_a_trial_has_the_number_of_its_candidate(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(ledger, [3, 0, 2, 7, 1], asked=9)
    view = View(tmp_path, None)
    view.step()
    assert list(trials_of(tmp_path)) == [0, 1, 2, 3], "7 waits for 4 to 6"
    monkeypatch.setattr(ordering, "PATIENCE", -1.0)
    view.step()
    view.step()
    trials = trials_of(tmp_path)
    running = [id for id, trial in trials.items() if trial.state is TrialState.RUNNING]
    assert running == [4, 5, 6] and trials[7].number == 7 and trials[5].params
    arrive(ledger, [5, 8, 4, 6], asked=9)
    rebuild(tmp_path)  # by another process
    trials = trials_of(tmp_path)
    assert all(trial.number == id == trial.user_attrs["candidate"] for id, trial in trials.items())
    fresh = trials[8]
    for trial in (trials[5], trials[8]):
        assert trial.state is TrialState.COMPLETE and len(trial.values) == 2
        assert (
            trial.user_attrs.keys() == fresh.user_attrs.keys() and trial.params.keys() == fresh.params.keys()
        )
        assert trial.constraints.keys() == fresh.constraints.keys() >= {"macs <= 60%"}
        assert list(trial.system_attrs["constraints"]) == [trial.constraints["macs <= 60%"]]
    before = (tmp_path / "study.log").read_bytes()
    rebuild(tmp_path)
    assert (tmp_path / "study.log").read_bytes() == before


def test_a_study_with_other_numbers_is_written_anew(ledger: Ledger, tmp_path: Path) -> None:
    """Older versions wrote trials in the order of arrival."""
    arrive(ledger, [3, 0, 2, 1], asked=4)
    rebuild(tmp_path)
    study = study_of(tmp_path)
    trials = {trial.number: trial for trial in study.trials}
    optuna.delete_study(study_name="toy", storage=study._storage)
    older = optuna.create_study(study_name="toy", storage=study._storage, directions=study.directions)
    for number in (3, 0, 2, 1):
        older.add_trial(trials[number])
    rebuild(tmp_path)
    assert {id: trial.number for id, trial in trials_of(tmp_path).items()} == {id: id for id in range(4)}


def test_a_candidate_that_is_evaluated_again_keeps_its_number(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, 0, 20)
    view = View(tmp_path, None)
    view.step()
    ledger.remove_evaluation(10)  # it had failed
    arrive(ledger, [10], asked=20)
    view.step()
    view.finish()
    trials = trials_of(tmp_path)
    assert trials[10].state is TrialState.COMPLETE
    assert all(trial.number == id for id, trial in trials.items()) and len(trials) == 20


def test_the_process_follows_the_ledger_and_ends_when_told(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger, 0, 30)
    view = StudyView(tmp_path)
    try:
        until(
            lambda: (
                (tmp_path / "study.log").is_file()
                and (tmp_path / "study.log").read_bytes().count(b'"candidate"') >= 30
            ),
            "the view",
        )
        fill(ledger, 30, 90)
    finally:
        complaint = view.finish(patience())
    assert complaint == "" and not (tmp_path / "study.err").exists()
    assert set(trials_of(tmp_path)) == set(range(90))


def test_a_view_that_breaks_is_told_and_hurts_nobody(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no ledger at all")
    complaint = StudyView(tmp_path).finish(patience())
    assert "the Optuna view ended early" in complaint and "\n" not in complaint


def test_the_view_needs_no_torch() -> None:
    check = (
        "import sys, search.study.__main__; assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=patience())


class Mixed(Space):
    """A choice with names, a number, a keep bit of its own, and edges of a cell."""

    segments = (
        Segment("activation", 1, 3),
        Segment("depth", 1, 4),
        Segment("skip", 1, 2),
        Segment("edges", 2, 5),
    )
    fingerprint = "mixed"

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return (rng.random((n, 5)) * self.choices).astype(np.uint8)

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        return genomes

    def build(self, genome: np.ndarray) -> nn.Module:
        return nn.Identity()

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        return {
            "activation": ["relu", "gelu", "silu"][genome[0]],
            "depth": int(genome[1]) * 2 + 2,
            "skip": int(genome[2]),
        }


def test_choices_are_shown_by_their_names(tmp_path: Path) -> None:
    evaluator = Toy(lambda genomes: {"error": genomes.mean(axis=1)}, ("error",))
    problem = Problem(Mixed(), evaluator, (Objective("error", maximise=True),))
    ledger = Ledger(tmp_path / "ledger.db", problem.space)
    About.of("toy", problem).save(ledger)
    evaluations = fill(ledger, 0, 30, problem)
    rebuild(tmp_path)
    trials = trials_of(tmp_path)
    for evaluation in evaluations:
        genome = evaluation.candidate.genome
        edges = {"edges[0]": int(genome[3]), "edges[1]": int(genome[4])}
        assert trials[evaluation.candidate.id].params == problem.space.describe(genome) | edges
    assert (
        study_of(tmp_path).best_trial.user_attrs["candidate"]
        == max(
            (e for e in evaluations if e.state is State.COMPLETE), key=lambda e: e.metrics["error"]
        ).candidate.id
    )


def test_a_run_that_has_not_begun_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no ledger here"):
        main([str(tmp_path)])
    Ledger(tmp_path / "ledger.db", PROBLEM.space).close()
    with pytest.raises(SystemExit, match="has not begun"):
        main([str(tmp_path)])


def test_bounds_from_below_and_objectives_to_maximise() -> None:
    from search.study.goals import Goals

    goals = Goals(
        {
            "objectives": [{"metric": "accuracy", "maximise": True}, {"metric": "macs", "maximise": False}],
            "constraints": [
                {
                    "text": "accuracy >= 0.5",
                    "metric": "accuracy",
                    "relation": ">=",
                    "limit": Constraint.parse("accuracy >= 0.5").bound,
                }
            ],
        }
    )
    assert not goals.join(1, {"accuracy": 0.4, "macs": 1.0})
    assert goals.join(2, {"accuracy": 0.8, "macs": 5.0}) and goals.join(3, {"accuracy": 0.6, "macs": 3.0})
    assert not goals.join(4, {"accuracy": 0.6, "macs": 3.0}), "of equals the first one stays"
    assert goals.join(5, {"accuracy": 0.9, "macs": 2.0}) and goals.front == [5]
