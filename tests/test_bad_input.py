"""Whatever is wrong with what the user gave ends in one line on standard error and exit code 2, before
anything is trained or evaluated.
"""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
import torch
import yaml
from safetensors.torch import save_file

from run_search import main
from search.record.ledger import Ledger
from search.record.lock import RunLock
from search.setup.baseline import Baseline
from search.testing import BitSpace
from spaces.models import ResidualNet
from tests.waiting import slowness

PARTS = '''
import torch
from torch import nn
from evaluators import Evaluator, Report
from evaluators.data import Arrays
from spaces.models import Perceptron


class Witnessed(Perceptron):
    """Training it and evaluating it would leave a trace."""

    def __init__(self, witness: str, widths: list[int] = [64, 8, 10]):
        super().__init__(widths)
        self.witness = witness

    def train(self, mode: bool = True):
        return super().train(mode)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.flatten(x, 1)
        if x.sum() > 0:
            x = -x
        return self.layer(x)


class OneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(torch.flatten(x, 1))


class Refusing(nn.Module):
    def __init__(self, width: int = 3):
        raise ValueError(f"width {width} is odd")


class Untyped(nn.Module):
    def __init__(self, width):
        super().__init__()


def inputs(n=40):
    return torch.rand(n, 1, 8, 8)


class WithNaN(Arrays):
    def __init__(self):
        x = inputs()
        x[7, 0, 3, 3] = float("nan")
        super().__init__(x, torch.arange(40) % 10)


class WrongLabels(Arrays):
    def __init__(self):
        from evaluators.data import Classification

        super().__init__(inputs(), torch.arange(40) % 12, task=Classification(10))
'''


@pytest.fixture
def config(tmp_path):
    """A sound configuration on Ray: nothing of it may start."""
    (tmp_path / "wrong_parts.py").write_text(PARTS)
    return {
        "name": "wrong",
        "runs": str(tmp_path / "runs"),
        "model": {"class_path": "spaces.models.Perceptron", "init_args": {"widths": [64, 8, 10]}},
        "training": {"epochs": 1},
        "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 50}},
        "search": {"lag": 4, "chunk": 2, "budget": {"evaluations": 4}},
        "study": {"view": False},
    }


@pytest.fixture
def refuse(tmp_path, capsys, monkeypatch):
    """Run the door, see that it refuses in one line with code 2, and return that line."""

    def check(config, *options):
        path = tmp_path / "wrong.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        monkeypatch.setattr(Baseline, "train", lambda *_: pytest.fail("the base model was trained"))
        capsys.readouterr()
        code = main([str(path), *options])
        output = capsys.readouterr()
        assert code == 2, output.err
        assert output.err.startswith("error: ") and output.err.count("\n") == 1, output.err
        assert output.out == ""
        assert not ray.is_initialized(), "a worker was started"
        return output.err

    return check


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nmae": "x"}, ["unknown key 'nmae'", "did you mean 'name'", "accepted: ", "strategy"]),
        (
            {"search": {"ordr": "strict"}},
            ["search: unknown key 'ordr'", "did you mean 'order'", "accepted: budget, chunk, lag, order"],
        ),
        (
            {"search": {"budget": {"evals": 3}}},
            ["search.budget: unknown key 'evals'", "epochs, evaluations, seconds, stall"],
        ),
        ({"ray": {"adress": "auto"}}, ["ray: unknown key 'adress'", "did you mean 'address'"]),
        (
            {"strategy": {"class_path": "search.Evolution", "init_args": {"popultion": 3}}},
            ["strategy (search.Evolution): unknown key 'popultion'", "did you mean 'population'"],
        ),
        (
            {"space": {"class_path": "spaces.ChannelSpace", "init_args": {"model": 3}}},
            ["space (spaces.ChannelSpace): unknown key 'model'"],
        ),
        (
            {"model": {"clas_path": "x"}},
            ["model (torch.nn.Module): unknown key 'clas_path'", "accepted: class_path, init_args"],
        ),
    ],
)
def test_unknown_keys(config, refuse, change, words):
    line = refuse(config | change)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "zero"}, ["seed: expected a whole number, got zero"]),
        ({"seed": -1}, ["seed: expected a whole number of at least 0"]),
        ({"seed": None}, ["seed: expected a whole number of at least 0"]),
        ({"search": 3}, ["search: expected keys and values of order, lag, chunk"]),
        ({"search": {"budget": 3}}, ["search.budget: expected keys and values of evaluations"]),
        (
            {"search": {"budget": {"evaluations": "many"}}},
            ["search.budget.evaluations: expected a whole number or null, got many"],
        ),
        ({"search": {"budget": {"evaluations": 0}}}, ["budget.evaluations 0", "expected more than 0"]),
        ({"search": {"order": "random"}}, ["search.order: expected 'strict' or 'arrival', got random"]),
        ({"search": {"lag": 5, "chunk": 2}}, ["lag", "multiple of chunk"]),
        ({"objectives": "error"}, ["objectives: expected a list, got error"]),
        ({"objectives": []}, ["objectives: expected at least one"]),
        ({"objectives": ["min the error"]}, ["objective 'min the error'", "expected a metric"]),
        ({"constraints": ["macs < 3"]}, ["constraint 'macs < 3'", "METRIC <= NUMBER"]),
        ({"name": "a/b"}, ["name: 'a/b'", "expected letters"]),
        ({"training": {"epochs": 0}}, ["training: epochs 0; expected at least 1"]),
        (
            {"strategy": {"class_path": "search.Evolution", "init_args": {"population": "x"}}},
            ["strategy.population", "expected a whole number or 'auto', got x"],
        ),
        ({"finish": {"members": -1}}, ["finish: members -1; expected at least 0"]),
        ({"ray": {"batch": 0}}, ["ray.batch 0: expected at least 1"]),
        ({"strategy": None}, ["strategy: expected class_path (and init_args) of a search.Strategy"]),
    ],
)
def test_wrong_types_and_values(config, refuse, change, words):
    line = refuse(config | change)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("key", "path", "words"),
    [
        (
            "model",
            "no.such.Model",
            [
                "model: class_path 'no.such.Model' does not import",
                "No module named 'no'",
                "beside the config",
            ],
        ),
        ("model", "spaces.models.Nope", ["'spaces.models.Nope' does not import", "no attribute 'Nope'"]),
        ("model", "spaces.Segment", ["spaces.Segment is not a torch.nn.Module", "inherits torch.nn.Module"]),
        ("strategy", "evaluators.Cost", ["evaluators.Cost is not a search.Strategy"]),
        ("data", "evaluators.Cost", ["evaluators.Cost is not a evaluators.data.Data"]),
        ("space", "evaluators.Cost", ["evaluators.Cost is not a spaces.Space"]),
        ("model", "wrong_parts.Untyped", ["parameter 'width'", "annotate it"]),
        ("model", "wrong_parts.Refusing", ["model (wrong_parts.Refusing): ValueError: width 3 is odd"]),
        (
            "model",
            "broken_module.Net",
            ["'broken_module.Net' does not import", "NameError: name 'nothing' is not defined"],
        ),
        ("model", "halved_module.Net", ["'halved_module.Net' does not import", "SyntaxError"]),
    ],
)
def test_classes_that_are_not_there_or_not_of_the_kind(config, refuse, tmp_path, key, path, words):
    (tmp_path / "broken_module.py").write_text("nothing.at.all\n")
    (tmp_path / "halved_module.py").write_text("def half(:\n")
    line = refuse(config | {key: {"class_path": path}})
    assert all(word in line for word in words), line


def test_an_evaluator_that_is_none(config, refuse):
    assert "is not a evaluators.Evaluator" in refuse(
        config | {"evaluators": [{"class_path": "search.Evolution"}]}
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("", "not YAML with keys and values"),
        ("[1, 2]", "not YAML with keys and values"),
    ],
)
def test_a_file_that_is_no_configuration(refuse, text, words):
    assert words in refuse(text)


def test_no_configuration(capsys):
    for words in (
        [],
        ["nowhere.yaml"],
        ["report"],
        ["report", "nowhere"],
        ["export", "nowhere"],
        ["dashboard", "nowhere"],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_unknown_options(config, refuse):
    assert "unknown option '--serch.lag'; did you mean '--search.lag'?" in refuse(config, "--serch.lag", "4")
    assert "search.lag: expected a whole number, got x" in refuse(config, "--search.lag", "x")


def test_a_model_that_cannot_be_traced_is_named_with_its_line(config, refuse):
    line = refuse(config | {"model": {"class_path": "wrong_parts.Branching"}})
    assert "Branching" in line and "if x.sum() > 0" in line and "wrong_parts.py" in line


def test_nothing_to_prune(config, refuse):
    assert "nothing can be pruned" in refuse(config | {"model": {"class_path": "wrong_parts.OneLayer"}})


def test_a_limit_out_of_reach_comes_with_the_smallest_figure(config, refuse):
    line = refuse(config | {"constraints": ["macs <= 5%"]})
    # one of eight hidden units stays: 64 + 10 of 592 multiply-accumulates
    assert (
        "'macs <= 5%'" in line
        and "cannot be reached" in line
        and "smallest reachable macs is 74 (0.125 of" in line
    )
    assert "largest reachable params is" in refuse(config | {"constraints": ["params >= 1e9"]})


def test_a_latency_out_of_reach_is_measured_on_the_smallest_model(config, refuse):
    parts = [{"class_path": f"evaluators.{name}"} for name in ("Cost", "Quality", "Latency")]
    line = refuse(config | {"evaluators": parts, "constraints": ["latency_ms <= 0.0001"]})
    assert "'latency_ms <= 0.0001'" in line and "smallest reachable latency_ms is 0." in line


def test_metrics_that_nobody_computes(config, refuse):
    line = refuse(config | {"constraints": ["latency_ms <= 3"]})
    assert (
        "no evaluator computes 'latency_ms'" in line
        and "there are params, macs, bytes, loss, error, accuracy" in line
    )
    assert "no evaluator computes 'flops'" in refuse(config | {"objectives": ["error", "flops"]})
    assert "'macs' stands there twice" in refuse(config | {"objectives": ["macs", "macs"]})


@pytest.mark.parametrize(("data", "words"), [("WithNaN", ["NaN"]), ("WrongLabels", ["0 to 9"])])
def test_data_with_nan_or_labels_out_of_range(config, refuse, data, words):
    line = refuse(config | {"data": {"class_path": f"wrong_parts.{data}"}})
    assert all(word.lower() in line.lower() for word in words), line


def test_no_data(config, refuse):
    assert "data: missing" in refuse({key: value for key, value in config.items() if key != "data"})
    assert "model: missing" in refuse({key: value for key, value in config.items() if key != "model"})


def test_checkpoints_that_do_not_fit(config, refuse, tmp_path):
    config["model"] = {"class_path": "spaces.models.ResidualNet", "init_args": {"widths": [4, 8]}}
    save_file(ResidualNet((4, 6)).state_dict(), tmp_path / "narrow.safetensors")
    line = refuse(config | {"checkpoint": "narrow.safetensors"})
    assert "'blocks.1.conv1.weight' has shape (6, 4, 3, 3); expected (8, 4, 3, 3)" in line
    state = ResidualNet((4, 8)).state_dict()
    torch.save({name: value for name, value in state.items() if name != "head.bias"}, tmp_path / "less.pt")
    assert "no 'head.bias'" in refuse(config | {"checkpoint": "less.pt"})
    torch.save(state | {"tail.weight": torch.zeros(1)}, tmp_path / "more.pt")
    assert "'tail.weight' is not of ResidualNet" in refuse(config | {"checkpoint": "more.pt"})
    assert "'nowhere.pt' is no file" in refuse(config | {"checkpoint": "nowhere.pt"})


def test_a_checkpoint_that_would_execute_code_is_refused(config, refuse, tmp_path):
    torch.save(ResidualNet((4, 8)), tmp_path / "pickled.pt")  # the whole module: only a pickle can hold it
    assert "cannot be read" in refuse(config | {"checkpoint": "pickled.pt"})


def _finished_run(config, tmp_path):
    """A run of four candidates in this process, without fine-tuning."""
    path = tmp_path / "sound.yaml"
    path.write_text(yaml.safe_dump(config | {"executor": "inline", "finish": {"members": 0}}))
    assert main([str(path)]) == 0
    return tmp_path / "runs" / config["name"]


@pytest.fixture
def run(config, tmp_path, capsys):
    return _finished_run(config, tmp_path)


def _contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 7}, ["seed (was 0, is 7)"]),
        ({"search": {"lag": 8, "chunk": 2, "budget": {"evaluations": 4}}}, ["lag (was 4, is 8)"]),
        ({"constraints": ["macs <= 50%"]}, ["constraints"]),
        (
            {"strategy": {"class_path": "search.Evolution", "init_args": {"population": 5}}},
            ["strategy.population (was auto, is 5)"],
        ),
        (
            {
                "evaluators": [
                    {"class_path": "evaluators.Cost"},
                    {"class_path": "evaluators.Quality", "init_args": {"batch_size": 9}},
                ]
            },
            ["batch_size"],
        ),
        (
            {"data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 60}}},
            ["data (was "],
        ),
        ({"training": {"epochs": 2}}, ["weights (was "]),
    ],
)
def test_a_directory_of_another_run_is_named_and_left_alone(config, refuse, run, change, words):
    before = _contents(run)
    line = refuse(config | change)
    assert "belongs to another run" in line and all(word in line for word in words), line
    assert _contents(run) == before


def test_a_directory_locked_by_a_live_process(config, refuse, run):
    with RunLock(run / "lock"):
        assert f"locked by process {os.getpid()} on " in refuse(config)


def test_a_damaged_ledger(config, refuse, run):
    (run / "ledger.db").write_bytes(b"SQLite format 3\0" + b"nonsense" * 500)
    assert "damaged" in refuse(config)
    (run / "ledger.db").write_bytes(b"what is this")
    assert "ledger.db" in refuse(config)


def test_a_ledger_of_a_newer_version(config, refuse, run):
    with sqlite3.connect(run / "ledger.db") as db:
        db.execute("PRAGMA user_version = 99")
    assert "another version" in refuse(config)


def test_a_directory_that_cannot_be_written(config, refuse, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"cannot write to {tmp_path / 'file' / 'wrong'}" in refuse(
        config | {"runs": str(tmp_path / "file")}
    )
    assert "cannot write to /proc/nothing/wrong" in refuse(config | {"runs": "/proc/nothing"})


def test_a_ray_address_that_does_not_answer(config, refuse):
    began = time.monotonic()
    line = refuse(config | {"ray": {"address": "127.0.0.1:9"}})
    assert time.monotonic() - began < 15 * slowness()
    assert "ray.address '127.0.0.1:9'" in line and "expected HOST:PORT" in line


def test_another_run_that_has_nothing_in_common_or_is_not_there_leaves_no_folder(config, refuse, tmp_path):
    Ledger(tmp_path / "ledger.db", BitSpace(8, 2)).close()
    line = refuse(config | {"warm_start": str(tmp_path)})
    assert (
        f"{tmp_path}: no segment of it is one of ChannelSpace: it has bits0, bits1; expected some of layers.0"
        in line
    ), line
    assert "no ledger here" in refuse(config | {"warm_start": str(tmp_path / "nowhere")})
    assert "PruningLines begins in a way of its own" in refuse(
        config | {"warm_start": str(tmp_path), "strategy": {"class_path": "search.PruningLines"}}
    )
    assert not (tmp_path / "runs").exists()


def test_the_command_line_itself(config, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(config | {"nmae": "x"}))
    door = Path(__file__).parents[1] / "run_search.py"
    done = subprocess.run([sys.executable, str(door), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: unknown key 'nmae'") and done.stderr.count("\n") == 1
