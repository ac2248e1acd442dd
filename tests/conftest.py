"""One thread for torch, set before it is imported: the machines that run the tests are small and shared. What
runs in one process, how long a test may take, and what CPU time all of them took.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("SECATEUR_PLAN_CACHE", "off")  # each test verifies what it makes
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a hundred processes would compile all modules again

import numpy as np
import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import waiting
from tests.cpu import Usage

sys.dont_write_bytecode = False
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)
USAGE = Usage()
SLOW = 900.0  # seconds that a long test may take at least


class ByFile(LoadScopeScheduling):
    """A file stays in one process, for its fixtures; what starts Ray says so in its name, and there is one
    Ray at a time.

    (xdist 3.8's own ``loadgroup`` sees no marks with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/zoo/"):
            return "zoo"  # its files share spaces, each made once in a process
        return "ray" if re.search("(?<![a-z])ray", nodeid) else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Take ours in place of xdist's."""
    return ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Count from here on, where the run is led: its workers are counted with it. Where tests run, note how
    long this process took to start.
    """
    works = hasattr(config, "workerinput")
    if not works:
        USAGE.start()
    if works or not config.getoption("numprocesses"):
        import torch

        torch.set_num_threads(1)
        waiting.measured(time.time() - psutil.Process().create_time())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what CPU time the run took."""
    user, system = (seconds / 60 for seconds in USAGE.total())
    terminalreporter.write_line(
        f"CPU: {user + system:.1f} minutes (user {user:.1f}, system {system:.1f}) of all processes"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests that share a Ray in a row; give each test as many times its seconds as this machine is
    slower than a quiet one. What is slow has minutes: others run beside it.
    """
    items.sort(key=lambda item: not shares_ray(item))  # in a row, for their Ray; first, as they take long
    if config.getoption("timeout") is not None:
        return  # the command line knows better
    for item in items:
        mark = item.get_closest_marker("timeout")
        seconds = float(mark.args[0] if mark else config.getini("timeout"))
        if item.get_closest_marker("slow"):
            seconds = max(seconds, SLOW)
        item.add_marker(pytest.mark.timeout(seconds * waiting.slowness()), append=False)


def shares_ray(item: pytest.Item | None) -> bool:
    """Return whether a test works on the Ray that others work on too."""
    return "shared_ray" in getattr(item, "fixturenames", ())


@pytest.fixture
def shared_ray() -> None:
    """Start a Ray that serves all tests in a row that ask for it; it is left as it was found."""
    waiting.start_ray()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Put back who hears Ctrl-C: Ray Tune keeps it after its run, and tests after it would not hear it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return (yield)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the shared Ray after the last test that it serves."""
    if shares_ray(item) and not shares_ray(nextitem):
        import ray

        ray.shutdown()


@pytest.fixture(scope="session", autouse=True)
def traces() -> Iterator[None]:
    """Trace equal networks once."""
    from tests.traces import Traces

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spaces.channels.space.trace", Traces())
        yield


@pytest.fixture(scope="session")
def cifar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 280 random images in the six files of the CIFAR-10 binary version; the test file has
    30.
    """
    folder, rng = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)
    names = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
    for name, n in zip(names, (50, 40, 50, 60, 50, 30), strict=True):
        records = np.column_stack([np.arange(n) % 10, rng.integers(0, 256, (n, 3072))])
        (folder / name).write_bytes(records.astype(np.uint8).tobytes())
    return folder
