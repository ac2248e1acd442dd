"""The configuration in a run's folder is data: what it names is imported only where its reader allows it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import secateur.cli
from search.config.settings import Settings, StudySettings
from search.config.stored import StoredConfig
from secateur import HOMES
from secateur.cli import main
from spaces.errors import InputError

ROOT = Path(__file__).parents[3]
RUN = ROOT / "tests" / "fixtures" / "runs_channels"
PLANTED = """
import builtins
from torch import nn
from evaluators import Digits
from search import Evolution
builtins.RAN.append("import")

class Net(nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()
        builtins.RAN.append("Net")
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x):
        return self.layers(x)

class Data(Digits):
    pass

class Way(Evolution):
    pass

def run(*args, **kwargs) -> nn.Module:
    builtins.RAN.append("run")
    return Net()
"""


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """What modules of a stranger did: one can be imported, one is imported before anything is read."""
    monkeypatch.setattr("builtins.RAN", [], raising=False)
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in ("stranger", "stranger_before"):
        (folder / f"{name}.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(str(folder))
    __import__("stranger_before")
    marks = sys.modules["builtins"].RAN
    marks.clear()
    yield marks
    for name in ("stranger", "stranger_before"):
        sys.modules.pop(name, None)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a configuration with some keys changed; None takes one away."""

    def write(**keys):
        config = yaml.safe_load((RUN / "config.yaml").read_text())
        for key, value in keys.items():
            config[key.replace("__", ".")] = value
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
        return file

    return write


def refusal(file, *words, allow=()):
    with pytest.raises(InputError) as error:
        settings = Settings.parse([str(file), *words], HOMES, allow)
        for key in ("strategy", "data", "evaluators", "criteria", "model", "space"):
            settings.make(key)
    assert "\n" not in str(error.value)
    return str(error.value)


def space(name, **arguments):
    return {"space": {"class_path": f"spaces.{name}", "init_args": arguments}}


PERCEPTRONS = [
    [{"class_path": "spaces.models.Perceptron", "init_args": {"widths": widths}}]
    for widths in ([4, 2], [2, 4])
]
FORMS = {
    "a class": {"model": {"class_path": "stranger.Net"}},
    "a class that is imported": {"model": {"class_path": "stranger_before.Net", "init_args": {"width": 4}}},
    "a function": {"model": {"class_path": "stranger.run"}},
    "a name alone": {"model": "stranger.Net"},
    "a bare name that is imported": {"model": "Net"},
    "a bare class_path that is imported": {"model": {"class_path": "Net"}},
    "a command": {"model": {"class_path": "os.system", "init_args": {"command": "true"}}},
    "a function of ours": {"model": {"class_path": "search.load", "init_args": {"path": "x"}}},
    "a list": {"evaluators": ["stranger.Data"]},
    "an item of a list": {"evaluators": [{"class_path": "evaluators.Cost"}, {"class_path": "stranger.Data"}]},
    "a criterion": {"criteria": [{"class_path": "stranger.Net"}]},
    "nested": {
        "strategy": {
            "class_path": "search.Evolution",
            "init_args": {"initialisation": {"class_path": "stranger.Way"}},
        }
    },
    "nested, a name alone": {
        "strategy": {"class_path": "search.Evolution", "init_args": {"initialisation": "stranger.Way"}}
    },
    "a dotted key": {"model": None, "model__class_path": "stranger.Net"},
    "data": {"data": {"class_path": "stranger.Data"}},
    "a function of a space": space("TrialSpace", suggest="stranger.run"),
    "the model of a space": space(
        "TrialSpace", parameters={"x": {"low": 1, "high": 2}}, model="stranger.run"
    ),
    "an operation": space("CellSpace", operations=["skip", "stranger.run"]),
    "a pair": space(
        "MixedPairs", encoders=PERCEPTRONS[0], decoders=PERCEPTRONS[1], shape=[4], pair="stranger.run"
    ),
    "what may be anything": space(
        "MixedPairs", encoders=[{"class_path": "stranger.Net"}], decoders=PERCEPTRONS[1], shape=[4]
    ),
    "a default": {"finish": {"distillation": {"class_path": "stranger.Data"}}},
}


@pytest.mark.parametrize("form", FORMS)
def test_nothing_that_is_not_allowed_is_imported_or_called(ran, written, form):
    message = refusal(written(**FORMS[form]))
    assert ran == [] and "stranger" not in sys.modules
    assert "not allowed" in message, message


def test_where_anything_may_stand_only_what_is_needed_is_made(written, tmp_path):
    """A ledger is one of our public classes, and writes a file."""
    trials = {"class_path": "spaces.TrialSpace", "init_args": {"parameters": {"x": {"low": 1, "high": 2}}}}
    file = tmp_path / "written.db"
    ledger = {"class_path": "search.Ledger", "init_args": {"path": str(file), "space": trials}}
    mixed = {"encoders": [ledger], "decoders": PERCEPTRONS[1], "shape": [4]}
    message = refusal(written(**space("MixedPairs", **mixed)))
    assert "'search.Ledger' is not of the kind needed" in message and not file.exists()
    mixed["encoders"] = PERCEPTRONS[0]
    made = Settings.parse([str(written(**space("MixedPairs", **mixed)))], HOMES, []).make("space")
    assert made.encoders[0].layers[0].in_features == 4


def test_a_file_within_a_file_is_no_way_around(ran, written, tmp_path):
    (tmp_path / "model.yaml").write_text("class_path: stranger.Net\n")
    message = refusal(written(model=str(tmp_path / "model.yaml")))
    assert ran == [] and "stranger" not in sys.modules, message


def test_tags_and_loops_of_yaml_are_no_way_around(ran, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model: !!python/object/apply:os.system ['true']\n")
    assert "not YAML" in refusal(file)
    file.write_text("model: &a\n  init_args: {x: *a, y: {class_path: stranger.Net}}\n")
    assert "names 'stranger.Net'" in refusal(file) and ran == []


def test_the_refusal_has_the_line_to_write_and_the_line_works(ran, written):
    file = written(model={"class_path": "stranger.Net", "init_args": {"width": 4}})
    assert refusal(file) == (
        f"{file}: model.class_path names 'stranger.Net', which is not allowed; to allow it: "
        f"--allow stranger.Net"
    )
    for allow in (["stranger.Net"], ["stranger"]):
        assert Settings.parse([str(file)], HOMES, allow).make("model").layers[1].out_features == 4
    assert "in the current folder or on PYTHONPATH" in refusal(
        written(model="nowhere.Net"), allow=["nowhere"]
    )
    again = refusal(
        written(model={"class_path": "stranger.Net"}, data="stranger.Data"), allow=["stranger.Net"]
    )
    assert again.endswith("--allow stranger.Net --allow stranger.Data")


def test_the_users_own_configuration_and_words_name_what_they_like(ran, written, tmp_path):
    file = written(model={"class_path": "stranger.Net", "init_args": {"width": 4}}).rename(
        tmp_path / "own.yaml"
    )
    assert Settings.parse([str(file)], HOMES).make("model").layers[1].out_features == 4
    for words in (["--model", "stranger.Net"], ["--model={class_path: stranger.Net}"]):
        settings = Settings.parse([str(written()), *words], HOMES, ["jsonargparse.Namespace"])
        assert settings.make("model").layers[1].out_features == 3
    # what was read as data changes nothing for what is read next, and the other way round
    assert Settings.parse([str(file)], HOMES).make("model").layers[1].out_features == 4
    assert "not allowed" in refusal(file)


def test_folders_that_a_run_names_are_not_looked_into(written, tmp_path):
    before, folder = [*sys.path], str(tmp_path / "other")
    settings = Settings.parse([str(written(modules=[folder]))], HOMES, [])
    assert sys.path == before
    assert yaml.safe_load(settings.dump())["modules"] == [folder], "they are kept for the user's own calls"


def test_a_cluster_is_joined_only_where_the_reader_names_it(written):
    file = written(ray={"address": "10.0.0.1:6379"})
    assert "expected --ray.address 10.0.0.1:6379 if you trust it" in refusal(file)
    Settings.parse([str(file), "--ray.address", "null"], HOMES, [])
    assert Settings.parse([str(file), "--ray.address=10.0.0.1:6379"], HOMES, []).make("ray").address


def test_a_section_is_read_without_its_classes(ran, written):
    file = written(model="stranger.Net", study={"storage": "postgresql://x"})
    stored = StoredConfig(file, [], HOMES, [])
    assert stored.section("study", StudySettings) == StudySettings(True, "postgresql://x")
    assert stored.section("study", StudySettings, ["--study.view", "false"]).view is False
    assert ran == []
    with pytest.raises(InputError, match=r"study: .*nothing"):
        StoredConfig(written(study={"nothing": 1}), [], HOMES, []).section("study", StudySettings)


@pytest.mark.parametrize(
    "file",
    [*ROOT.glob("configs/*.yaml"), *ROOT.glob("tests/fixtures/*/config.yaml")],
    ids=lambda file: f"{file.parent.name}-{file.stem}",
)
def test_our_own_configurations_need_nothing_allowed(file):
    allow = ["monai.networks.nets.UNet"] if file.stem == "cells_segmentation" else []
    StoredConfig(file, [], HOMES, allow).check()


@pytest.fixture
def moved(tmp_path):
    """A run whose configuration names another folder; and a function that changes the configuration."""
    folder = tmp_path / "elsewhere" / "moved"
    shutil.copytree(RUN, folder)

    def change(**keys):
        config = yaml.safe_load((RUN / "config.yaml").read_text())
        config |= {"runs": str(tmp_path), "name": "not_here", **keys}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))

    change()
    return folder, change


def test_export_of_a_run_that_names_a_strangers_class_is_refused(ran, moved, capsys):
    folder, change = moved
    change(model={"class_path": "stranger.Net"})
    assert main(["export", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "model.class_path names 'stranger.Net'" in said and "--allow stranger.Net" in said and ran == []
    named = folder.rename(folder.with_name("stranger.Net"))  # a folder's name allows nothing
    assert main(["export", str(named), "--finish.members=2"]) == 2
    assert "--allow stranger.Net" in capsys.readouterr().err and ran == []


def test_the_dashboard_reads_a_url_and_nothing_else(ran, moved, monkeypatch, capsys):
    folder, change = moved
    called = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(
        secateur.cli.subprocess, "run", lambda command, **more: called.append((command, more)) or done
    )
    change(model="stranger.Net", study={"storage": "postgresql://host/base"})
    assert main(["dashboard", str(folder)]) == 0 and ran == []
    ((command, more),) = called
    assert command[1] == "-P" and "postgresql://host/base" in more["env"].values()
    assert "postgresql" not in " ".join(command)
    assert more["env"]["PYTHONPATH"].split(":")[0] == str(ROOT) and "" not in more["env"]["PYTHONPATH"].split(
        ":"
    )
    change(study={"storage": "--host=0.0.0.0"})
    assert main(["dashboard", str(folder)]) == 2 and len(called) == 1
    assert "study: what it gives is no URL" in capsys.readouterr().err


@pytest.mark.slow
def test_export_stays_in_the_folder_that_it_is_given(moved, tmp_path, capsys):
    folder, _ = moved
    words = ["--finish.onnx", "false", "--study.view", "false", "--executor", "inline"]
    assert main(["export", str(folder), *words, "--allow", "anything.else"]) == 0, capsys.readouterr().err
    assert not (tmp_path / "not_here").exists() and (folder / "report.html").exists()
