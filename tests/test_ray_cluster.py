"""Two Ray nodes on one machine, as docs/cluster.md starts them; one of them is killed in the middle of a
search.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.record.ledger import Ledger
from tests.waiting import measured, until

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "tiny.yaml"
RAY = Path(sys.executable).with_name("ray")
# Ray's own token authentication: nodes and driver share a secret, as docs/cluster.md says
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
# a folder of its own: the killed head leaves a note there of where it was, which other tests must not follow
ENVIRONMENT = os.environ | TOKEN | {"RAY_TMPDIR": tempfile.mkdtemp(prefix="ray")}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*arguments: str) -> subprocess.Popen:
    """Start a node that lives as long as its process group; it has joined the cluster when this returns."""
    command = [str(RAY), "start", "--block", "--num-cpus=1", "--disable-usage-stats", *arguments]
    began = time.monotonic()
    node = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    said = []
    for line in node.stdout:
        said.append(line)
        if "Ray runtime started" in line:
            measured(time.monotonic() - began)
            return node
    raise AssertionError(f"no node: {''.join(said)}")


def kill(node: subprocess.Popen) -> None:
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture
def cluster() -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of a cluster of two nodes, and the one that may be killed."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    nodes = []
    try:
        nodes.append(start("--head", f"--port={port}", "--include-dashboard=false"))
        nodes.append(start(f"--address={address}"))
        yield address, nodes[1]
    finally:
        for node in reversed(nodes):
            kill(node)


def command(runs: Path, name: str, *more: str) -> list[str]:
    budget = ["--search.budget.evaluations", "160", "--search.lag", "16", "--search.chunk", "4"]
    return [sys.executable, "run_search.py", str(CONFIG), "--runs", str(runs), "--name", name, *budget, *more]


def found(runs: Path, name: str) -> list[tuple[int, bytes, float, float]]:
    ledger = Ledger.reader(runs / name / "ledger.db")
    rows = [
        (e.candidate.id, e.candidate.genome.tobytes(), e.metrics["error"], e.metrics["macs"])
        for _, e in ledger.evaluations()
    ]
    ledger.close()
    return sorted(rows)


def test_a_lost_node_changes_neither_the_end_nor_the_front(cluster, tmp_path):
    address, victim = cluster
    subprocess.run(command(tmp_path, "alone"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    words = command(tmp_path, "cluster", "--executor", "ray", "--ray.address", address, "--ray.batch", "1")
    run = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    path = tmp_path / "cluster" / "ledger.db"
    until(
        lambda: run.poll() is not None or (path.exists() and len(found(tmp_path, "cluster")) >= 20),
        "twenty results",
        pause=0.2,
    )
    kill(victim)
    assert run.wait() == 0
    assert found(tmp_path, "cluster") == found(tmp_path, "alone")
