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

from search.ledger import Ledger

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
    """Start a node that lives as long as its process group."""
    command = [str(RAY), "start", "--block", "--num-cpus=1", "--disable-usage-stats", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=ENVIRONMENT
    )


def kill(node: subprocess.Popen) -> None:
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture
def cluster() -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of a cluster of two nodes, and the one that may be killed."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    nodes = [start("--head", f"--port={port}", "--include-dashboard=false")]
    try:
        time.sleep(8)
        nodes.append(start(f"--address={address}"))
        time.sleep(8)
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
    deadline = time.monotonic() + 120
    path = tmp_path / "cluster" / "ledger.db"
    while time.monotonic() < deadline and run.poll() is None:
        if path.exists() and len(found(tmp_path, "cluster")) >= 20:
            break
        time.sleep(0.2)
    kill(victim)
    assert run.wait(timeout=240) == 0
    assert found(tmp_path, "cluster") == found(tmp_path, "alone")
