"""Help comes at once, says what there is, and a configuration that is written for somebody runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from search.config.keys import KEYS
from search.config.schema import KINDS, SECTIONS, make_parser
from search.progress import Progress
from secateur import cli, help
from secateur.cli import COMMANDS, main
from secateur.doctor import Finding, disk, packages
from secateur.outlet import outlets

ROOT = Path(__file__).parents[2]
MODEL = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

class Net(nn.Sequential):
    def __init__(self, width: int = 8):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

def samples():
    return TensorDataset(torch.randn(400, 64), torch.arange(400) % 10)
"""


@pytest.mark.parametrize("words", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_and_ends_well(words, capsys):
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(("Secateur", "usage: ")) and not printed.err
    assert all(len(line) <= 100 for line in printed.out.splitlines()) and printed.out.count("\n") < 60


def test_help_needs_no_torch():
    code = "import sys; from secateur.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_a_reader_who_leaves_gets_no_traceback():
    read, write = os.pipe()
    os.close(read)
    call = subprocess.run(
        [sys.executable, "run_search.py", "--help"], cwd=ROOT, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (call.returncode, call.stderr) == (cli.UNREAD, b"")


def test_what_is_printed_in_a_search_whose_reader_has_left_stops_nothing(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as nobody:
        monkeypatch.setattr(sys, "stderr", nobody)
        with outlets():
            progress = Progress()
            progress.say("searching")
            progress.search("1 of 2", 1, 2)
            assert sys.stderr.is_unread


def test_every_command_and_key_is_explained():
    assert list(help.COMMANDS) == list(COMMANDS)
    told = {action.dest.partition(".")[0] for action in make_parser()._actions if "help" not in action.dest}
    assert told - {"config", "print_config"} == {key.partition(".")[0] for key in KEYS}
    assert {*SECTIONS, *KINDS} <= {*KEYS}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("strategy", "Evolution  "),
        ("search", "--search.lag LAG"),
        ("seed", "--seed SEED"),
        ("Evolution", "--strategy.init_args.population"),
        ("Digits", "--data.init_args.train_samples"),
    ],
)
def test_help_on_a_key_or_a_class(asked, told, capsys):
    assert main(["run", "--help", asked]) == 0
    assert told in capsys.readouterr().out


def test_help_on_what_is_not_there(capsys):
    assert main(["--help", "strategi"]) == 2
    assert "did you mean 'strategy'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--print_config", "CONFIG"],
        ["--seed", "7", "CONFIG", "--print_config"],
        ["--seed=7", "--search.lag", "8", "--print_config", "CONFIG"],
    ],
)
def test_options_may_stand_before_the_configuration(words, capsys):
    config = str(ROOT / "configs" / "tiny.yaml")
    assert main([config if word == "CONFIG" else word for word in words]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["name"] == "tiny" and printed["seed"] == (7 if any("seed" in w for w in words) else 0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with somebody's model, where the command is called."""
    (tmp_path / "own_net_of_init.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("own_net_of_init", None)


def test_what_init_writes_runs_as_it_is(folder, capsys):
    assert main(["init", "own_net_of_init.Net", "own_net_of_init.samples", "--model.width", "12"]) == 0
    text = (folder / "own_net_of_init.yaml").read_text()
    found = yaml.safe_load(text)
    assert found["model"]["init_args"] == {"width": 12} and text.count("#") > 10
    small = ["--training.epochs", "1", "--search.budget.evaluations", "4", "--finish.members", "0"]
    small += ["--executor", "inline", "--study.view", "false", "--search.lag", "2", "--search.chunk", "1"]
    capsys.readouterr()
    assert main(["own_net_of_init.yaml", *small]) == 0, capsys.readouterr().err
    assert main(["init", "own_net_of_init.Net", "Digits"]) == 2
    assert "own_net_of_init.yaml exists" in capsys.readouterr().err
    assert not [*folder.glob(".secateur-*")]


def test_init_leaves_room_above_what_can_be_reached(folder, capsys):
    """Of a model that can hardly be made smaller half the cost cannot be asked for."""
    assert main(["init", "own_net_of_init.Net", "Digits", "--space.min_keep", "6", "--output", "a.yaml"]) == 0
    (limit,) = yaml.safe_load((folder / "a.yaml").read_text())["constraints"]
    assert int(limit.removeprefix("macs <= ").removesuffix("%")) > 80


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["own_net_of_init.Net"], "expected MODEL DATA"),
        (["own_net_of_init.Nets", "Digits"], "own_net_of_init.Nets' does not import"),
        (["own_net_of_init.Net", "own_net_of_init.nothing"], "own_net_of_init.nothing' does not import"),
    ],
)
def test_mistakes_of_init_are_one_line(folder, words, told, capsys):
    assert main(["init", *words]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and told in error[0]
    assert [path.name for path in folder.iterdir() if path.suffix == ".yaml"] == []


def versions(**others):
    from importlib import metadata

    def version(name):
        if others.get(name.replace("-", "_"), "") is None:
            raise metadata.PackageNotFoundError
        return others.get(name.replace("-", "_")) or metadata.version(name)

    return version


def test_the_doctor_names_what_is_missing_and_how_to_get_it():
    found = {str(finding) for finding in packages(versions(optuna_dashboard=None, optuna="4.1"))}
    assert any(line.startswith("note") and "secateur[dashboard]" in line for line in found)
    assert any(
        line.startswith("MISSING") and "optuna 4.1 is installed, >=5 is needed" in line for line in found
    )
    assert all(finding.state == "good" for finding in packages() if "Ray" in finding.what)


@pytest.mark.parametrize(("state", "code"), [("good", 0), ("note", 0), ("missing", 1)])
def test_the_doctor_ends_with_1_where_no_search_can_run(state, code, capsys, monkeypatch):
    monkeypatch.setattr("secateur.doctor.examine", lambda runs: [Finding("good", "a"), Finding(state, "b")])
    assert main(["doctor"]) == code
    assert main(["doctor", "--runz", "x"]) == cli.MISTAKE
    capsys.readouterr()


def test_the_doctor_looks_at_the_folder_of_runs(tmp_path):
    assert disk(tmp_path / "not" / "there").what.endswith(str(tmp_path))
