"""Listeners hear of a run from its beginning to its end, in Python and from a config; those for TensorBoard,
MLflow and Weights & Biases write what their own readers find.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import re
import struct
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from search import Finish, Listener, MLflow, Search, TensorBoard, Tuning, WandB
from search.progress import Progress
from search.record.ledger import Ledger
from search.testing.trial_toys import PARAMETERS, Curves
from secateur.cli import main
from spaces import InputError, TrialSpace
from tests.search.loop_case import Killed


def search(folder=None, listeners=(), evaluator=None, **settings):
    heard = io.StringIO()
    made = Search(
        space=TrialSpace(PARAMETERS),
        evaluators=[evaluator or Curves(epochs=3)],
        objectives=["loss"],
        strategy=Tuning("random"),
        directory=folder,
        finish=Finish(0),
        study=False,
        lag=2,
        chunk=1,
        listeners=listeners,
        progress=Progress(Console(file=heard, soft_wrap=True)),
        **settings,
    )
    made.heard = heard
    return made


def needs(library):
    missing = importlib.util.find_spec(library) is None
    return pytest.mark.skipif(missing, reason=f"the library {library} is not installed")


class Hearing(Listener):
    def __init__(self):
        self.told = []

    def begin(self, run):
        self.told.append(("begin", run.name, run.objectives, run.settings["seed"]))
        self.describe = run.describe

    def evaluated(self, evaluation, joined_front):
        values = self.describe(evaluation.candidate.genome)
        self.told.append(("evaluated", evaluation.candidate.id, joined_front, "rate" in values))

    def tick(self, loop):
        self.front = len(loop.front)

    def end(self, result):
        self.told.append(("end", result and result.reason))


# -- what they hear ------------------------------------------------------------------------------------------


def test_they_hear_the_beginning_every_new_result_and_the_end(tmp_path):
    hearing = Hearing()
    search(tmp_path / "run", [hearing]).run(evaluations=4)
    kinds = [kind for kind, *_ in hearing.told]
    assert kinds == ["begin", *["evaluated"] * 4, "end"] and hearing.front == 1
    assert hearing.told[0] == ("begin", "run", ("loss",), "0") and hearing.told[-1] == ("end", "evaluations")
    assert [told[1] for told in hearing.told[1:5]] == [0, 1, 2, 3] and hearing.told[1][3]
    joined = [id for kind, id, joined_front, *_ in hearing.told[1:5] if joined_front]
    ledger = Ledger.reader(tmp_path / "run" / "ledger.db")
    best, expected = 1e9, []
    for _, e in ledger.evaluations():
        if e.state == "complete" and e.metrics["loss"] < best:
            best = e.metrics["loss"]
            expected.append(e.candidate.id)
    assert joined == expected


def test_a_run_that_goes_on_tells_what_is_new_and_a_complete_one_nothing(tmp_path):
    search(tmp_path, [Hearing()]).run(evaluations=3)
    again, complete = Hearing(), Hearing()
    search(tmp_path, [again]).run(evaluations=5)
    assert [told[1] for told in again.told if told[0] == "evaluated"] == [3, 4]
    assert search(tmp_path, [complete]).run(evaluations=5).complete and complete.told == []


def test_a_run_that_breaks_off_is_an_end_without_a_result(tmp_path):
    class Dying:
        def tick(self, loop):
            raise Killed

    hearing = Hearing()
    with pytest.raises(Killed):
        search(tmp_path, [hearing, Dying()]).run(evaluations=4)
    assert hearing.told[-1] == ("end", None)


@pytest.mark.parametrize("method", ["begin", "evaluated", "tick", "end"])
def test_what_a_listener_raises_stops_no_search_and_is_said_once(tmp_path, method):
    class Broken(Listener):
        pass

    def broken(self, *arguments):
        raise ConnectionError("the server\nis gone")

    setattr(Broken, method, broken)
    hearing = Hearing()
    made = search(tmp_path, [Broken(), hearing])
    assert made.run(evaluations=3).counts["complete"] == 3
    line = f"listener Broken: ConnectionError in {method}: the server is gone; it is told nothing more"
    assert made.heard.getvalue().count(line) == 1 and hearing.told[-1][0] == "end"


def test_listeners_are_no_part_of_a_run(tmp_path):
    with_one = search(tmp_path / "one", [Hearing()]).run(evaluations=4)
    without = search(tmp_path / "none").run(evaluations=4)
    assert [m.metrics for m in with_one.front] == [m.metrics for m in without.front]
    one, none = (Ledger.reader(tmp_path / name / "ledger.db").identity for name in ("one", "none"))
    assert one == none
    assert search(tmp_path / "one").run(evaluations=4).complete


def test_an_object_with_one_method_is_a_listener_too():
    class Only:
        heard = 0

        def evaluated(self, evaluation, joined_front):
            self.heard += 1

    only = Only()
    search(None, [only]).run(evaluations=3)
    assert only.heard == 3


# -- from a config -------------------------------------------------------------------------------------------

CONFIG = {
    "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 64}},
    "model": {"class_path": "spaces.models.DenseNet"},
    "space": {
        "class_path": "TrialSpace",
        "init_args": {"parameters": {"model.width": {"low": 8, "high": 16}}},
    },
    "evaluators": [{"class_path": "TrialTraining", "init_args": {"epochs": 1}}],
    "objectives": ["loss"],
    "strategy": {"class_path": "Tuning", "init_args": {"sampler": "random"}},
    "executor": "inline",
    "study": {"view": False},
    "finish": {"members": 0},
    "search": {"lag": 2, "chunk": 1, "budget": {"evaluations": 2}},
}


def config(folder, listeners):
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"listeners": listeners}))
    return [str(path), "--runs", str(folder / "runs")]


def test_a_config_names_ours_and_ones_own(tmp_path, capsys):
    (tmp_path / "own_listeners_of_a_test.py").write_text(
        textwrap.dedent(
            """
            from search import Listener

            class Counting(Listener):
                def __init__(self, file: str, more: int = 0) -> None:
                    self.file, self.count = file, more

                def evaluated(self, evaluation, joined_front):
                    self.count += 1

                def end(self, result):
                    open(self.file, "w").write(f"{self.count} {result.reason}")
            """
        )
    )
    own = {"file": str(tmp_path / "told"), "more": 40}
    listeners = [
        {"class_path": "TensorBoard", "init_args": {"folder": str(tmp_path / "board")}},
        {"class_path": "own_listeners_of_a_test.Counting", "init_args": own},
    ]
    assert main(config(tmp_path, listeners)) == 0, capsys.readouterr().err
    assert (tmp_path / "told").read_text() == "42 evaluations"
    assert list((tmp_path / "board").glob("events.*"))
    assert main(config(tmp_path, listeners)) == 0, "it is complete, and its config is what it was"


@pytest.mark.parametrize(
    ("listeners", "message"),
    [
        ([{"class_path": "search.TensorBord"}], "listeners"),
        ([{"class_path": "search.Evolution"}], "search.Listener"),
        ([{"class_path": "search.TensorBoard", "init_args": {"file": "x"}}], "file"),
        ("loud", "listeners: expected a list"),
    ],
)
def test_what_is_no_listener_is_refused_in_one_line(tmp_path, capsys, listeners, message):
    assert main(config(tmp_path, listeners)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("kind", "library"), [(TensorBoard, "tensorboardX"), (MLflow, "mlflow"), (WandB, "wandb")]
)
def test_a_missing_library_is_named_before_anything_starts(tmp_path, capsys, monkeypatch, kind, library):
    monkeypatch.setitem(sys.modules, library, None)  # which makes its import fail
    with pytest.raises(InputError, match=f"listeners: {kind.__name__} needs the library {library}"):
        kind()
    assert main(config(tmp_path, [{"class_path": f"search.{kind.__name__}"}])) == 2
    error = capsys.readouterr().err
    assert f"expected it installed: pip install {library}" in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_class_on_the_page_is_short_and_of_its_own():
    page = (Path(__file__).parents[3] / "docs" / "callbacks.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("from")]
    assert len(lines) < 20
    made: dict = {}
    exec(compile(code, "docs/callbacks.md", "exec"), made)
    assert issubclass(made["Patience"], Listener)
    for name in ("begin", "evaluated", "tick", "end"):
        given = inspect.signature(getattr(made["Patience"], name)).parameters
        assert list(given) == list(inspect.signature(getattr(Listener, name)).parameters)
    found = search(None, [made["Patience"](3)]).run(evaluations=200)
    assert found.reason == "interrupted" and found.counts["evaluations"] < 200


# -- ours ----------------------------------------------------------------------------------------------------


def events(folder):
    """The scalars and texts of event files: tag -> [(step, value)]."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list] = {}
    for file in sorted(folder.glob("events.*")):
        raw, place = file.read_bytes(), 0
        while place < len(raw):
            (size,) = struct.unpack_from("<Q", raw, place)
            event = Event.FromString(raw[place + 12 : place + 12 + size])
            place += 16 + size
            for value in event.summary.value:
                text = value.tensor.string_val[0].decode() if value.tensor.string_val else None
                found.setdefault(value.tag, []).append((event.step, text or value.simple_value))
    return found


@needs("tensorboardX")
def test_tensorboard_has_every_candidate_at_its_number(tmp_path):
    search(tmp_path / "run", [TensorBoard()]).run(evaluations=4)
    search(tmp_path / "run", [TensorBoard()]).run(evaluations=6)
    told = events(tmp_path / "run" / "tensorboard")
    ledger = Ledger.reader(tmp_path / "run" / "ledger.db")
    expected = [(e.candidate.id, e.metrics["loss"]) for _, e in ledger.evaluations()]
    assert [step for step, _ in told["candidates/loss"]] == [id for id, _ in expected]
    assert [value for _, value in told["candidates/loss"]] == pytest.approx([v for _, v in expected])
    front = [value for _, value in told["front/loss"]]
    assert front == sorted(front, reverse=True) and front[-1] == pytest.approx(min(v for _, v in expected))
    texts = {tag: value for tag, values in told.items() for _, value in values if isinstance(value, str)}
    assert "strategy.sampler: random" in "".join(texts.values()) and "evaluations" in texts.values()


@needs("tensorboardX")
def test_tensorboard_of_a_search_in_memory_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match="TensorBoard has no folder; expected one"):
        search(None, [TensorBoard()]).run(evaluations=2)
    search(None, [TensorBoard(str(tmp_path / "here"))]).run(evaluations=2)
    assert len(events(tmp_path / "here")["candidates/loss"]) == 2


@needs("mlflow")
def test_mlflow_has_settings_metrics_and_the_report_of_one_run(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)  # where it keeps artifacts
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    search(tmp_path / "run", [MLflow("ours", uri)]).run(evaluations=3)
    search(tmp_path / "run", [MLflow("ours", uri)]).run(evaluations=5)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("ours")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["ended"] == "evaluations"
    assert run.data.params["strategy.sampler"] == "random" and run.data.params["objectives"] == "loss"
    told = client.get_metric_history(run.info.run_id, "loss")
    ledger = Ledger.reader(tmp_path / "run" / "ledger.db")
    assert sorted((m.step, m.value) for m in told) == [
        (e.candidate.id, e.metrics["loss"]) for _, e in ledger.evaluations()
    ]
    assert client.get_metric_history(run.info.run_id, "front/loss")
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


@needs("wandb")
def test_weights_and_biases_has_an_offline_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    made = search(tmp_path / "run", [WandB("ours", "offline")])
    made.run(evaluations=3)
    assert "told nothing more" not in made.heard.getvalue()
    files = list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1 and b"front/loss" in files[0].read_bytes()
