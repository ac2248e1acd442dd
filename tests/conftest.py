"""One thread for torch, set before it is imported: the machines that run the tests are small and shared. What
runs in one process.
"""

import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

torch.set_num_threads(1)


class ByFile(LoadScopeScheduling):
    """A file stays in one process, for its fixtures; what starts Ray says so in its name, and there is one
    Ray at a time.

    (xdist 3.8's own ``loadgroup`` sees no marks with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if re.search("(?<![a-z])ray", nodeid) else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Take ours in place of xdist's."""
    return ByFile(config, log)


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
