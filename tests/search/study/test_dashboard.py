"""The dashboard shows what was finished, offers its files, and takes nothing infeasible for the best."""

import json
from pathlib import Path

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from search.record.finals import BASE
from search.record.ledger import Ledger
from search.study.dashboard import prepare
from search.study.files import RunFiles, id_of
from tests.search.study.test_study import fill, front_ids, ledger, notes_of, rebuild, study_of  # noqa: F401


def finish(ledger: Ledger, directory: Path, id: int) -> None:  # noqa: F811
    """Export a model, as a run does."""
    folder = directory / "models" / f"{id}-2"
    folder.mkdir(parents=True)
    for name in ("model.onnx", "recipe.json", "notes.txt"):
        (folder / name).write_text(name)
    test = {"test_error_before": 0.4375, "test_error": 0.0625}
    final = {
        "test": test,
        "tuned": {"error": 0.03125},
        "realised": {"macs": 0.125},
        "folder": f"models/{id}-2",
    }
    ledger.save_note(f"final/{id}", final)
    ledger.save_note(f"final/{BASE}", {"test": {"test_error": 0.05}, "realised": {"macs": 1.0}, "folder": ""})
    ledger.commit()


def test_notes_and_artifacts_show_what_was_finished(ledger: Ledger, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("optuna_dashboard")
    evaluations = fill(ledger, 0, 60)
    member = min(front_ids(evaluations))
    finish(ledger, tmp_path, member)
    (tmp_path / "report.html").write_text("the report")
    rebuild(tmp_path)
    note = notes_of(tmp_path)[member]
    assert "| error | 0.4375 | 0.0625 | 0.03125 |" in note and "| macs | 0.125 |" in note
    assert f"models/{member}-2/model.onnx" in note
    attributes = study_of(tmp_path)._storage.get_study_system_attrs(0)
    summary = attributes["dashboard:note_str:0"]
    assert f"| {member} | 0.4375 | 0.0625 | 0.1250 |" in summary and "report.html" in summary
    assert "| base model |  | 0.0500 | 1 |" in summary

    offered = {key: json.loads(value) for key, value in attributes.items() if "artifacts:" in key}
    names = sorted((key.rpartition(":")[0], found["filename"]) for key, found in offered.items())
    trial = f"dashboard:artifacts:{member}"
    assert names == [("artifacts", "report.html"), (trial, "model.onnx"), (trial, "recipe.json")]
    files = RunFiles(tmp_path)
    read = {files.open_reader(found["artifact_id"]).read().decode() for found in offered.values()}
    assert read == {"the report", "model.onnx", "recipe.json"}

    (tmp_path / "models" / f"{member}-2" / "model.onnx").unlink()
    rebuild(tmp_path)
    attributes = study_of(tmp_path)._storage.get_study_system_attrs(0)
    assert [value for key, value in attributes.items() if key in offered].count("null") == 1


def test_only_files_of_the_run_are_offered(tmp_path: Path) -> None:
    (tmp_path / "run" / "models" / "3").mkdir(parents=True)
    (tmp_path / "secret").write_text("no")
    (tmp_path / "run" / "report.html").symlink_to(tmp_path / "secret")
    (tmp_path / "run" / "models" / "3" / "recipe.json").write_text("yes")
    files = RunFiles(tmp_path / "run")
    assert files.of_run() == [] and files.of_model("../..") == []
    assert files.open_reader(id_of(Path("models/3/recipe.json"))).read() == b"yes"
    for name in ("report.html", "models/3/model.onnx", "../secret"):
        with pytest.raises(ArtifactNotFound):
            files.open_reader(id_of(Path(name)))
    for change in (lambda: files.write("x", None), lambda: files.remove("x")):
        with pytest.raises(ArtifactNotFound, match="read only"):
            change()


def test_what_is_beyond_a_limit_is_not_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = pytest.importorskip("optuna_dashboard._app")
    cli = pytest.importorskip("optuna_dashboard._cli")
    for module, name in (
        (app, "get_pareto_front_trials"),
        (cli, "get_storage"),
        (cli, "create_artifact_store_from_config"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back at the end
    prepare(tmp_path)
    assert isinstance(cli.create_artifact_store_from_config({}), RunFiles)
    (tmp_path / "study.log").touch()
    storage = cli.get_storage(str(tmp_path / "study.log"))
    study = storage.create_new_study([StudyDirection.MINIMIZE], "one")
    for value, feasible in ((1.0, "no"), (3.0, "yes"), (2.0, "yes")):
        attributes = {"feasible": feasible}
        trial = create_trial(state=TrialState.COMPLETE, value=value, user_attrs=attributes)
        storage.create_new_trial(study, trial)
    assert storage.get_best_trial(study).value == 2.0
    trials = [
        create_trial(state=TrialState.COMPLETE, values=values, user_attrs={"feasible": feasible})
        for values, feasible in (([1.0, 1.0], "no"), ([2.0, 3.0], "yes"), ([3.0, 4.0], "yes"))
    ]
    shown = app.get_pareto_front_trials(trials=trials, directions=[StudyDirection.MINIMIZE] * 2)
    assert [trial.values for trial in shown] == [[2.0, 3.0]]
