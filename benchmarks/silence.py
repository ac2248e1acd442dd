"""A link that is cut in the middle of a search: how long no result comes, and what is lost.

Three Ray nodes in network namespaces. The driver runs beside the head; the link of another node goes down
while an evaluation runs there, and neither side is told.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from torch import nn

from benchmarks.namespaces import Network, network
from evaluators.base import Candidate, Evaluation, Evaluator, Report, State
from search.executors import Executor, InlineExecutor, RayExecutor
from search.loop import Budget, Loop
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from search.strategies.evolution import Evolution
from search.testing import BitSpace

ROOT = Path(__file__).parent.parent
VICTIM = 1
_POLL = 0.01
PATIENCE = 600.0  # seconds after which something is wrong


@dataclass(frozen=True)
class Settings:
    """Of a search.

    Args:
        evaluations: how many.
        seconds: that each takes.
        before: so many results before the link is cut.
        time_limit: of a candidate; None for none.
        workers: None for as many as there is room for.
    """

    evaluations: int = 240
    seconds: float = 0.5
    before: int = 30
    time_limit: float | None = None
    workers: int | None = None


class Noted(Evaluator):
    """Two opposing shares of kept channels; a line in a file as an evaluation begins: when, which, on what
    node.
    """

    metrics = ("error", "cost")

    def __init__(self, file: Path | None, seconds: float) -> None:
        self.file, self.seconds = None if file is None else str(file), seconds

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        if self.file is not None:
            line = f"{time.time()} {candidate.id} {ray.get_runtime_context().get_node_id()}\n"
            with open(self.file, "ab", buffering=0) as file:
                file.write(line.encode())
        for _ in range(5):
            time.sleep(self.seconds / 5)
        kept = candidate.genome.astype(float)
        error = 1 - float(kept[1::2].mean()) + 0.01 * torch.rand(1).item()
        yield Report({"error": error, "cost": float(kept[::2].mean())})


class Heard:
    """A listener: when which result came, and when Ray gave up a node."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def evaluated(self, evaluation: Evaluation, joined: bool) -> None:
        self.note("result", evaluation.candidate.id)

    def note(self, what: str, which: object) -> None:
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(f"{time.time()} {what} {which}\n")

    def watch(self) -> None:
        """Ask Ray again and again which nodes are alive."""
        before: set[str] = set()
        while ray.is_initialized():
            now = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            for node in before - now:
                self.note("dead", node)
            before = now
            time.sleep(0.2)


def search(executor: Executor, folder: Path | None, settings: Settings) -> dict[str, Any]:
    """Run a search; return its end, its front and what failed.

    Args:
        folder: for notes; None writes none and lets evaluations take no time.
    """
    space = BitSpace(64, 8)
    notes = None if folder is None else folder / "starts"
    evaluator = Noted(notes, 0.0 if folder is None else settings.seconds)
    evaluator.bind(space)
    heard = Heard(None if folder is None else folder / "heard")
    loop = Loop(
        Problem(space, evaluator, (Objective("error"), Objective("cost"))),
        Evolution(population=16),
        executor,
        Ledger(None, space),
        Budget(evaluations=settings.evaluations),
        lag=16,
        chunk=4,
        listeners=[heard],
    )
    if isinstance(executor, RayExecutor):
        executor.connect()
        threading.Thread(target=heard.watch, daemon=True).start()
    ending = loop.run()
    return {
        "ending": str(ending.kind),
        "front": [
            [e.candidate.id, e.candidate.genome.tobytes().hex(), e.metrics] for e in loop.front.members
        ],
        "failed": [
            [e.candidate.id, e.reason] for _, e in loop.ledger.evaluations() if e.state is not State.COMPLETE
        ],
    }


def undisturbed(settings: Settings) -> dict[str, Any]:
    """Return what the search comes to in one process."""
    return json.loads(json.dumps(search(InlineExecutor(), None, settings)))


@dataclass(frozen=True)
class Story:
    """What happened, in seconds since the link was cut.

    Attributes:
        known: Ray gave the node up.
        again: what ran there began again elsewhere.
        longest: so long no result came.
        outcome: of the search.
    """

    known: float
    again: float
    longest: float
    outcome: dict[str, Any]


def cut_in_the_middle(folder: Path, settings: Settings, variables: dict[str, str]) -> Story:
    """Run the search on three nodes, and cut the link of one while an evaluation runs there.

    Args:
        folder: for notes.
        variables: of the nodes' environment.

    Raises:
        NotAllowed: there can be no namespaces here.
    """
    with network(3, variables) as net:
        for host in range(net.hosts):
            address = net.node(host)
        words = [
            sys.executable,
            "-m",
            "benchmarks.silence",
            str(folder),
            address,
            json.dumps(asdict(settings)),
        ]
        with subprocess.Popen(net.within(0, words), cwd=ROOT, env=net.environment) as driver:
            try:
                cut, lost = _cut(net, folder, settings, driver)
                assert driver.wait(PATIENCE) == 0
            finally:
                driver.kill()
    heard = [line.split() for line in (folder / "heard").read_text().splitlines()]
    results = [float(at) for at, what, _ in heard if what == "result"]
    starts = _starts(folder)
    return Story(
        known=next(float(at) for at, what, _ in heard if what == "dead") - cut,
        again=min(at for at, id, _ in starts if id == lost and at > cut) - cut,
        longest=max(b - a for a, b in itertools.pairwise(results) if b > cut),
        outcome=json.loads((folder / "outcome.json").read_text()),
    )


def _cut(
    net: Network, folder: Path, settings: Settings, driver: subprocess.Popen[bytes]
) -> tuple[float, int]:
    """Cut the link as soon as an evaluation has begun there; return when that was, and which it was."""
    until, seen = time.monotonic() + PATIENCE, 0
    victim = net.address(VICTIM)
    while time.monotonic() < until and driver.poll() is None:
        starts = _starts(folder)
        fresh, seen = starts[seen:], len(starts)
        here = [id for _, id, node in fresh if node == _node(folder, victim)]
        if here and len(starts) >= settings.before:
            net.cut(VICTIM)
            return time.time(), here[-1]
        time.sleep(_POLL)
    raise AssertionError(f"the link was not cut: the driver ended with {driver.poll()}, {seen} starts")


def _starts(folder: Path) -> list[tuple[float, int, str]]:
    file = folder / "starts"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(float(at), int(id), node) for at, id, node in (line.split() for line in lines)]


def _node(folder: Path, address: str) -> str:
    file = folder / "nodes.json"
    return json.loads(file.read_text())[address] if file.exists() else ""


def drive(folder: Path, address: str, settings: Settings) -> None:
    """Run the search in this process, on a cluster, and write how it ended."""
    torch.set_num_threads(1)
    executor = RayExecutor(address=address, workers=settings.workers, time_limit=settings.time_limit)
    executor.connect()
    nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes()}
    (folder / "nodes.json").write_text(json.dumps(nodes))
    outcome = search(executor, folder, settings)
    (folder / "outcome.json").write_text(json.dumps(outcome))
    executor.close()


if __name__ == "__main__":
    drive(Path(sys.argv[1]), sys.argv[2], Settings(**json.loads(sys.argv[3])))
