"""One process at a time owns a run."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from evaluators import Digits
from search import Search
from search.record import lock as lock_module
from search.record.lock import STALE, RunLock
from spaces.errors import InputError
from spaces.models import Perceptron
from tests.waiting import until

HOLDER = """
import sys, time
from pathlib import Path
from search.record.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def holder(path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_live_process_keeps_others_out_and_is_named_and_the_lock_of_a_killed_one_is_free(path, holder):
    with pytest.raises(InputError, match=f"locked by process {holder.pid} on ") as refusal, RunLock(path):
        pass
    assert "\n" not in str(refusal.value)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RunLock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_it_is_free_after_the_block_and_can_be_taken_again(path):
    lock = RunLock(path)
    with lock, pytest.raises(InputError), RunLock(path):
        pass
    with lock:
        pass
    with RunLock(path):
        pass


def test_an_error_inside_gives_it_free(path):
    with pytest.raises(RuntimeError), RunLock(path):
        raise RuntimeError
    with RunLock(path):
        pass


def test_an_owner_on_another_host_counts_while_it_gives_signs_of_life(path):
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(InputError, match="process 7 on elsewhere"), RunLock(path):
        pass
    long_ago = time.time() - STALE - 5
    os.utime(path, (long_ago, long_ago))
    with RunLock(path):
        pass


def test_the_owner_gives_signs_of_life(path, monkeypatch):
    monkeypatch.setattr(lock_module, "BEAT", 0.01)
    with RunLock(path):
        os.utime(path, (0, 0))
        until(lambda: path.stat().st_mtime > 0, "a sign of life", pause=0.01)


def test_a_damaged_lock_file_is_no_obstacle(path):
    path.write_text("half of a {")
    with RunLock(path):
        pass


def test_a_mistake_leaves_neither_lock_nor_folder(tmp_path):
    search = Search(
        Perceptron((64, 8, 10)), Digits(), directory=tmp_path / "run", constraints=["macs <= 0.01%"]
    )
    with pytest.raises(InputError, match="smallest reachable"):
        search.run(evaluations=2)
    assert not (tmp_path / "run").exists()


def test_a_lock_that_was_removed_by_its_owner_is_not_taken_for_one(tmp_path, monkeypatch):
    """Who has opened the file just before it is removed claims a file that others no longer see."""
    path, claim = tmp_path / "lock", RunLock._claim
    owner = RunLock(path)
    owner.__enter__()
    late = []

    def claimed(lock, file):
        if not late:
            late.append(file)
            owner.remove()
        claim(lock, file)

    monkeypatch.setattr(RunLock, "_claim", claimed)
    with RunLock(path) as second:
        assert path.exists() and os.path.samestat(os.fstat(second._file), os.stat(path))
        with pytest.raises(InputError), RunLock(path):
            pass
