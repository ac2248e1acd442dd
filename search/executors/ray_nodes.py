"""The nodes of a Ray cluster: their room, which of them Ray has given up, and whether one answers now."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from search.executors.base import WorkersLostError
from spaces.lazy import LazyModule

if TYPE_CHECKING:
    import ray
else:
    ray = LazyModule("ray")

_KNOCK_SECONDS = 1.0
_AT_ONCE = 32
_SILENT_SECONDS = 30.0


class Nodes:
    """What Ray says of its nodes, as of the last look.

    Ray gives up a node that falls silent after about a minute. Whether one is silent meanwhile shows a
    connection to its port: of nodes that this process has reached before, and of no others, since a driver
    may stand outside of the cluster's network.
    """

    def __init__(self) -> None:
        self._alive: dict[str, Any] = {}
        self._met: set[str] = set()
        self._reached: set[str] = set()

    def look(self) -> set[str]:
        """Ask Ray; return the nodes that were there at the last look and are given up now."""
        before = self._alive
        self._alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        return before.keys() - self._alive.keys()

    def __contains__(self, node: str) -> bool:
        return node in self._alive

    def room(self, cpus: float, gpus: float) -> int:
        """Return how many tasks of this size the nodes can run at once."""
        total = 0
        for node in self._alive.values():
            resources = node["Resources"]
            fits = [
                int(resources.get(name, 0) / need + 1e-9)
                for name, need in (("CPU", cpus), ("GPU", gpus))
                if need
            ]
            total += min(fits, default=0)
        return total

    def meet(self, node: str) -> None:
        """Learn whether a node can be reached from here at all; asked once for each."""
        if node not in self._met and node in self._alive:
            self._met.add(node)
            self._reached |= self._answering([node])

    def silent(self, nodes: Iterable[str]) -> set[str]:
        """Return those that could be reached and do not answer now; takes a second at most."""
        asked = set(nodes) & self._reached
        return asked - self._answering(asked) if asked else set()

    def _answering(self, nodes: Iterable[str]) -> set[str]:
        found = [node for node in nodes if node in self._alive]
        if not found:
            return set()
        with ThreadPoolExecutor(min(len(found), _AT_ONCE)) as threads:
            answers = threads.map(_answers, [self._alive[node] for node in found])
            return {node for node, answer in zip(found, answers, strict=True) if answer}


def _answers(node: Any) -> bool:
    return _open(node["NodeManagerAddress"], node["NodeManagerPort"])


def _open(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


class Head:
    """The process that holds a Ray cluster together. A minute after it is gone Ray ends the driver, without a
    word on how to go on: so it is asked before.
    """

    def __init__(self) -> None:
        self.address = ""
        self._silent = -math.inf  # since when

    def meet(self) -> None:
        """Learn where it is, and whether it can be reached from here."""
        address = str(ray.get_runtime_context().gcs_address)
        host, _, port = address.rpartition(":")
        self.address = address if port.isdigit() and _open(host, int(port)) else ""

    def check(self) -> bool:
        """Whether it answers; where it has been silent for a while, all workers are lost.

        Raises:
            WorkersLostError: it has not answered for half a minute.
        """
        host, _, port = self.address.rpartition(":")
        if not self.address or _open(host, int(port)):
            self._silent = -math.inf
            return True
        now = time.monotonic()
        self._silent = now if self._silent == -math.inf else self._silent
        if now - self._silent < _SILENT_SECONDS:
            return False
        raise WorkersLostError(
            f"ray: the head of the cluster at {self.address} has not answered for {_SILENT_SECONDS:g} s; "
            f"start the cluster again and run the same command: it goes on from what is in the ledger"
        )
