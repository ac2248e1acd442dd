"""Several Ray nodes on one machine, each in a network namespace with an address of its own: a link can be cut
as a cable is.

Only the superuser may make namespaces (``ip``, from iproute2).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
PORT = 6379


class NotAllowed(Exception):
    """Namespaces cannot be made here."""


class Network:
    """Namespaces on one bridge, numbered from 0, with nothing else on it.

    Args:
        hosts: how many.
        variables: of the environment of every node, beside that of this process.

    Raises:
        NotAllowed: this process may not make namespaces.
    """

    def __init__(self, hosts: int, variables: Mapping[str, str]) -> None:
        self._name = f"s{secrets.token_hex(3)}"
        self._nodes: list[subprocess.Popen[str]] = []
        self._folder = tempfile.mkdtemp(prefix="ray")  # a short path: there are sockets below it
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        quiet = {"RAY_TMPDIR": self._folder, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        self.environment = os.environ | token | quiet | variables
        self.hosts = hosts
        try:
            self._ip("link", "add", self._name, "type", "bridge")
            self._ip("link", "set", self._name, "up")
            for host in range(hosts):
                self._add(host)
        except NotAllowed:
            self.close()
            raise

    def address(self, host: int) -> str:
        """Return the address of a host, in a range that is kept for documentation."""
        return f"198.51.100.{host + 1}"

    def within(self, host: int, command: Sequence[str]) -> list[str]:
        """Return the command that runs a command at a host."""
        return ["ip", "netns", "exec", self._space(host), *command]

    def node(self, host: int, *arguments: str) -> str:
        """Start a Ray node of one CPU, at host 0 the head; return the cluster's address once it is there."""
        head = f"{self.address(0)}:{PORT}"
        where = (
            ["--head", f"--port={PORT}", "--include-dashboard=false"] if not host else [f"--address={head}"]
        )
        size = ["--num-cpus=1", "--object-store-memory=100000000", f"--node-ip-address={self.address(host)}"]
        node = subprocess.Popen(
            self.within(
                host, [str(RAY), "start", "--block", "--disable-usage-stats", *where, *size, *arguments]
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=self.environment,
        )
        self._nodes.append(node)
        said = []
        assert node.stdout is not None
        for line in node.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                return head
        raise AssertionError(f"no node: {''.join(said)}")

    def cut(self, host: int) -> None:
        """Let everything that goes to and from a host be lost, without a word to either side."""
        self._ip("link", "set", self._link(host), "down")

    def mend(self, host: int) -> None:
        """Undo a cut."""
        self._ip("link", "set", self._link(host), "up")

    def close(self) -> None:
        """End everything that runs in the namespaces, and remove them."""
        for host in range(self.hosts):
            found = subprocess.run(
                ["ip", "netns", "pids", self._space(host)], capture_output=True, text=True, check=False
            )
            for pid in found.stdout.split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue
            subprocess.run(["ip", "link", "del", self._link(host)], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", self._space(host)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._name], capture_output=True, check=False)
        for node in self._nodes:
            node.wait()
            assert node.stdout is not None
            node.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _add(self, host: int) -> None:
        space, link = self._space(host), self._link(host)
        self._ip("netns", "add", space)
        self._ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        self._ip("link", "set", link, "master", self._name, "up")
        self._ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
        self._ip("-n", space, "link", "set", "eth0", "up")
        self._ip("-n", space, "link", "set", "lo", "up")

    def _space(self, host: int) -> str:
        return f"{self._name}-{host}"

    def _link(self, host: int) -> str:
        return f"{self._name}-v{host}"

    @staticmethod
    def _ip(*words: str) -> None:
        try:
            subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
        except FileNotFoundError:
            raise NotAllowed("there is no command `ip` (iproute2)") from None
        except subprocess.CalledProcessError as error:
            raise NotAllowed(f"`ip {' '.join(words)}`: {error.stderr.strip()}") from None


@contextmanager
def network(hosts: int, variables: Mapping[str, str]) -> Iterator[Network]:
    """Make a network; nothing is left of it at the end.

    Raises:
        NotAllowed: this process may not make namespaces.
    """
    made = Network(hosts, variables)
    try:
        yield made
    finally:
        made.close()
