"""The view of a run in PostgreSQL, for clusters: against a real server, where one is installed."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from run_search import main

DRIVER = next((name for name in ("psycopg2", "psycopg") if find_spec(name)), None)
FOLDERS = [
    *map(Path, sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)),
    Path(shutil.which("postgres") or "/nowhere").parent,
]
PROGRAMS = next(
    (folder for folder in FOLDERS if (folder / "initdb").exists() and (folder / "postgres").exists()), None
)

pytestmark = [
    pytest.mark.skipif(
        PROGRAMS is None,
        reason="no PostgreSQL server: neither /usr/lib/postgresql/*/bin nor PATH has initdb and postgres",
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a server of its own on a free port; return ``user@host:port/database``."""
    folder = Path(
        tempfile.mkdtemp(prefix="secateur-pg-", dir="/tmp")
    )  # pytest's own are closed to the user that the server runs as
    user = (
        next((name for name in ("postgres", "nobody") if _exists(name)), "nobody")
        if os.geteuid() == 0
        else pwd.getpwuid(os.geteuid()).pw_name
    )
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        _run(
            user,
            "initdb",
            "-D",
            f"{folder}/data",
            "-U",
            "secateur",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run(user, "pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"secateur@127.0.0.1:{port}/postgres"
        finally:
            _run(user, "pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def _run(user: str, program: str, *words: str) -> None:
    """Run a program of PostgreSQL, which refuses root, as `user`."""
    assert PROGRAMS is not None
    command = [str(PROGRAMS / program), *words]
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        command = [
            "setpriv",
            f"--reuid={entry.pw_uid}",
            f"--regid={entry.pw_gid}",
            "--clear-groups",
            *command,
        ]
    done = subprocess.run(
        command,
        cwd="/tmp",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_server_answers(server: str) -> None:
    user, place = server.split("@")
    host, port = place.split("/")[0].split(":")
    command = ["psql", "-h", host, "-p", port, "-U", user, "-tAc", "select 6 * 7", "postgres"]
    assert PROGRAMS is not None
    assert (
        subprocess.run(
            [str(PROGRAMS / command[0]), *command[1:]], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "42"
    )


@pytest.mark.skipif(DRIVER is None, reason="no driver for PostgreSQL: pip install psycopg2-binary")
def test_a_search_keeps_its_study_in_postgresql(server: str, tmp_path: Path, tuning_config: Path) -> None:
    url = f"postgresql+{DRIVER}://{server}"
    words = [
        str(tuning_config),
        "--runs",
        str(tmp_path / "runs"),
        "--executor",
        "inline",
        "--finish.members",
        "0",
        "--study.storage",
        url,
    ]
    assert main([*words, "--search.budget.evaluations", "6"]) == 0
    study = optuna.load_study(study_name="small", storage=url)
    first = {trial.number: trial.user_attrs["candidate"] for trial in study.trials}
    assert sorted(first.values()) == list(range(6)) and all(
        trial.state.is_finished() for trial in study.trials
    )
    assert any(trial.intermediate_values for trial in study.trials)

    assert (
        main([*words, "--search.budget.evaluations", "10"]) == 0
    )  # resumed: what is there is not written twice
    study = optuna.load_study(study_name="small", storage=url)
    assert sorted(trial.user_attrs["candidate"] for trial in study.trials) == list(range(10))
    assert {trial.number: trial.user_attrs["candidate"] for trial in study.trials}.items() >= first.items()
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert study.trials[0].params.keys() == {"model.width", "training.learning_rate"}
    assert not (tmp_path / "runs" / "small" / "study.log").exists()
