"""A password is nowhere but where the user keeps it: not in the files of a run, not on its command lines, not
in what is printed; and a run is the same run with another one.
"""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing

import optuna
import psutil
import pytest
import yaml

from run_search import main
from search.config.settings import Settings
from search.config.study import StudySettings
from search.finish.recipe import load
from search.record.about import About
from search.record.directory import RunDirectory
from search.record.identity import Identity, describe, without_secrets
from search.record.ledger import Ledger
from search.report.phrases import surroundings
from search.study import StudyView
from search.testing import pruning
from spaces.errors import InputError
from tests.waiting import patience

SECRETS = ("hunter2-storage", "hunter3%40dsn", "hunter3@dsn", "hunter4-key")
PARTS = """
from collections.abc import Iterator
from evaluators import Evaluator, Report
from spaces.models import Perceptron


class Hosted(Perceptron):
    def __init__(self, widths: list[int], api_key: str = "hunter4-key"):
        super().__init__(widths)
        self.api_key = api_key


class Dialling(Evaluator):
    metrics = ("answer",)

    def __init__(self, dsn: str, password: str):
        self.dsn, self.password = dsn, password

    def evaluate(self, model, candidate) -> Iterator[Report]:
        if candidate.id == 1:
            raise ConnectionError(f"cannot reach {self.dsn} as {self.password}")
        yield Report({"answer": 42.0})
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "secret_parts.py").write_text(PARTS)
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "mine",
                "runs": str(tmp_path / "runs"),
                "executor": "inline",
                "model": {
                    "class_path": "secret_parts.Hosted",
                    "init_args": {"widths": [64, 8, 10], "api_key": "hunter4-key"},
                },
                "training": {"epochs": 1},
                "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 50}},
                "evaluators": [
                    {"class_path": "evaluators.Cost"},
                    {"class_path": "evaluators.Quality"},
                    {
                        "class_path": "secret_parts.Dialling",
                        "init_args": {
                            "dsn": "postgresql://me:hunter3%40dsn@db/x?password=hunter3@dsn",
                            "password": "hunter3@dsn",
                        },
                    },
                ],
                "search": {"lag": 2, "chunk": 2, "budget": {"evaluations": 4}},
                "finish": {"members": 1, "epochs": 1, "onnx": False, "latency_seconds": 0.0},
            }
        )
    )
    return path


def database(folder, password="hunter2-storage"):
    return f"sqlite:///file:{folder}/study.db?password={password}&uri=true"


def traces_of(folder, secrets=SECRETS):
    """Which file of a folder holds which secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 8
    return [
        (path.name, secret) for path in files for secret in secrets if secret.encode() in path.read_bytes()
    ]


@pytest.fixture
def command_lines():
    """Return the command lines of all processes that this one starts, in one text."""
    seen, over = set(), threading.Event()

    def watch():
        while not over.is_set():
            for child in psutil.Process().children(recursive=True):
                try:
                    seen.add(" ".join(child.cmdline()))
                except psutil.Error:
                    continue
            time.sleep(0.05)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield lambda: "\n".join(seen)
    over.set()
    thread.join()


@pytest.mark.slow
def test_a_run_keeps_no_secret_anywhere(config, tmp_path, capsys, monkeypatch, command_lines):
    folder = tmp_path / "runs" / "mine"
    monkeypatch.setattr(sys, "argv", ["secateur", str(config), "--x.password", "hunter3@dsn"])
    assert main([str(config), "--study.storage", database(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert not any(secret in printed.out + printed.err for secret in SECRETS), printed.err
    assert printed.err.count("warning: the command line holds a secret") == 1
    assert "search.study" in command_lines()
    assert not any(secret in command_lines() for secret in SECRETS)
    assert not traces_of(folder)
    assert len(optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/study.db").trials) == 4
    with pytest.raises(InputError, match=r"init_args.*|api_key of secret_parts.Hosted was a secret"):
        load(next(folder.glob("models/*/")), allow=["secret_parts.Hosted"])
    for name in ("config.yaml", "environment.json", "report.html", "ledger.db"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name

    # the same run, with another password for everything, in the ways that show none
    monkeypatch.setenv("WHERE_THE_STUDY_IS", database(tmp_path, "hunter5-other"))
    for secret in ("hunter3%40dsn", "hunter3@dsn"):
        config.write_text(config.read_text().replace(secret, "hunter6"))
    words = [str(config), "--study.storage_env", "WHERE_THE_STUDY_IS"]
    assert main(words) == 0
    assert capsys.readouterr().err.startswith("complete: 4 evaluations")
    assert main([*words, "--search.budget.evaluations", "6"]) == 0
    printed = capsys.readouterr()
    assert "going on after 4 evaluations" in printed.err and "warning" not in printed.err
    assert not traces_of(folder, (*SECRETS, "hunter5-other", "hunter6"))
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert kept["study"]["storage_env"] == "WHERE_THE_STUDY_IS"


def test_what_was_left_out_is_never_used(config, tmp_path, capsys, monkeypatch):
    kept = tmp_path / "kept.yaml"
    url = "postgresql://me:hunter2-storage@nowhere/db"
    kept.write_text(Settings.parse([str(config), "--study.storage", url]).dump())
    text = kept.read_text()
    assert "postgresql://me:***@nowhere/db" in text and not any(secret in text for secret in SECRETS)
    capsys.readouterr()
    assert main([str(kept)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "model.api_key: its secret was left out" in line, line
    monkeypatch.setitem(os.environ, "STUDY", url)
    whole = [str(kept), "--model.init_args.api_key", "hunter4-key"]
    assert main([*whole, "--study.storage_env", "STUDY"]) == 2
    assert "evaluators.2.dsn: its secret was left out" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    whole += ["--evaluators", "[{class_path: evaluators.Cost}, {class_path: evaluators.Quality}]"]
    assert main(whole) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "study.storage: postgresql://me:***@nowhere/db" in line, line
    assert "--study.storage_env NAME" in line and not (tmp_path / "runs").exists()
    assert Settings.parse([*whole, "--study.storage_env", "STUDY"]).storage == url


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"storage_env": "NOT_THERE"}, ["study.storage_env: the environment has no NOT_THERE; expected"]),
        (
            {"storage_env": "postgresql://u:hunter2-storage@h/x"},
            ["study.storage_env: 'postgresql://u:***@h/x' is no name"],
        ),
        ({"storage_file": "/nowhere/url"}, ["study.storage_file: '/nowhere/url' is no file; expected"]),
        (
            {"storage": "sqlite:///x.db", "storage_env": "STUDY"},
            ["study: storage and storage_env are given; expected one of them"],
        ),
    ],
)
def test_a_url_that_is_not_to_be_had_is_one_line(given, words, monkeypatch):
    monkeypatch.setenv("STUDY", "sqlite:///y.db")
    with pytest.raises(InputError) as refused:
        StudySettings(**given).url()
    assert all(word in str(refused.value) for word in words)
    assert "hunter2" not in str(refused.value)


def test_a_url_lies_in_a_file_beside_the_configuration(config, tmp_path):
    secret = tmp_path / "url"
    secret.touch(mode=0o600)
    secret.write_text("postgresql://me:hunter2@storage@nowhere/db\n")
    words = [str(config), "--study.storage_file", "url"]
    settings = Settings.parse(words)
    assert settings.storage == "postgresql://me:hunter2%40storage@nowhere/db"
    assert yaml.safe_load(settings.dump())["study"]["storage_file"] == str(secret)
    assert not settings.warnings(words)
    secret.chmod(0o644)
    assert "others can read" in settings.warnings(words)[0]


def test_errors_of_databases_show_no_password(tmp_path):
    """SQLAlchemy quotes a URL that it does not like, password and all."""
    problem = pruning(8)
    with closing(Ledger(tmp_path / "ledger.db", problem.space)) as ledger:
        About.of("toy", problem).save(ledger)
    complaint = StudyView(tmp_path, "sqlite://me:hunter2-storage@/x.db").finish(patience())
    assert "ended early (ArgumentError: Invalid SQLite URL: sqlite://me:***@" in complaint, complaint
    assert "--storage_env NAME" in complaint
    assert not any(secret.encode() in (tmp_path / "study.err").read_bytes() for secret in SECRETS)
    assert stat.S_IMODE((tmp_path / "study.err").stat().st_mode) == 0o600


def test_the_dashboard_gets_its_url_unseen(config, tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "ledger.db").touch()
    (folder / "config.yaml").write_text(Settings.parse([str(config)]).dump())
    script = tmp_path / "optuna_dashboard" / "_cli.py"
    script.parent.mkdir()
    (script.parent / "__init__.py").touch()
    script.write_text(
        f"def main():\n    import sys; open({str(tmp_path / 'told')!r}, 'w').write(str(sys.argv))"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("STUDY", database(tmp_path))
    started, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **more: started.append(words) or run(words, **more))
    assert main(["dashboard", str(folder), "--port", "80", "--study.storage_env", "STUDY", "--host=h"]) == 0
    assert database(tmp_path) in (tmp_path / "told").read_text()
    assert (tmp_path / "told").read_text().endswith("'--port', '80', '--host=h']")
    assert "hunter2" not in str(started)


def test_the_printed_configuration_has_no_secret(config, capsys):
    with pytest.raises(SystemExit):
        Settings.parse([str(config), "--study.storage", database("/x"), "--print_config"])
    printed = capsys.readouterr().out
    assert "password=***" in printed and not any(secret in printed for secret in SECRETS)


def test_mistakes_show_no_secret(config, capsys):
    for words in (
        [
            "--evaluators",
            "[{class_path: secret_parts.Dialling, init_args: {dsnn: x, password: hunter4-key}}]",
        ],
        ["--study", "{storag: postgresql://u:hunter2-storage@h/x}"],
        ["--study.view", "postgresql://u:hunter2-storage@h/x"],
        ["--sttudy.storage=postgresql://u:hunter2-storage@h/x"],
        ["--seed", "postgresql://u:hunter2-storage@h/x"],
    ):
        capsys.readouterr()
        assert main([str(config), *words]) == 2, words
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and not any(secret in line for secret in SECRETS), line


def test_what_a_run_writes_down_has_no_secret(config, tmp_path, monkeypatch):
    """The same without a search: configuration, environment and identity, in the report as well."""
    monkeypatch.setattr(sys, "argv", ["secateur", "--x.password", "hunter3@dsn", f"--y={database('/x')}"])
    old = {"command": ["run", "--study.storage", "mysql://u:hunter2-storage@h/x"], "python": "3.11"}
    directory = RunDirectory.create(tmp_path / "run")
    directory.environment.write_text(json.dumps(old | {"before": [old | {"python": "3.10"}]}))
    directory.config.write_text(config.read_text())  # by an older version, as it was given
    shown = surroundings(directory.path)
    directory.write_environment()
    settings = Settings.parse([str(config), "--study.storage", database("/x")])
    directory.write_config(settings.dump())
    shown += surroundings(directory.path) + json.dumps(describe("evaluators", settings.make("evaluators")))
    texts = [shown, directory.environment.read_text(), directory.config.read_text()]
    assert not any(secret in text for secret in SECRETS for text in texts)
    assert all("***" in text for text in texts) and '"python": "3.10"' in texts[1]


def test_an_identity_that_an_older_version_wrote_is_the_same_without_its_secrets(tmp_path):
    space = pruning(8).space
    lines = {"format": "2", "evaluators.0.password": "hunter2-storage", "evaluators.0.dsn": database("/x")}
    with closing(Ledger(tmp_path / "ledger.db", space)) as ledger:
        ledger._store.set_about("identity", lines)
        ledger.commit()
        ledger.claim(Identity(without_secrets(lines | {"evaluators.0.password": "hunter6"})))
        assert not any(secret in str(ledger.identity) for secret in SECRETS)
        with pytest.raises(InputError, match=r"belongs to another run, what differs is evaluators\.0\.dsn"):
            ledger.claim(Identity(ledger.identity | {"evaluators.0.dsn": "sqlite:///other.db"}))
