"""The CPU time that the end of a run of tests tells."""

import subprocess
import sys

import pytest

from tests.cpu import Usage
from tests.waiting import until

BURN = "import time\nwhile time.process_time() < {}: pass\n"


def test_what_is_waited_for_and_what_is_not_count_once() -> None:
    usage = Usage()
    before = sum(usage.total())
    subprocess.run([sys.executable, "-c", BURN.format(0.3)], check=True)  # too short to be seen
    # its child has a session of its own, is waited for by nobody, and outlives it
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN.format(0.4)!r}, 'left'], "
    leave += "start_new_session=True); sys.stdin.read()"
    parent = subprocess.Popen([sys.executable, "-c", leave], stdin=subprocess.PIPE)
    until(lambda: sum(usage.total()) - before > 0.5, "the sight of both")
    parent.communicate()
    until(lambda: sum(usage.total()) - before > 0.65, "the end of what was left")
    assert sum(usage.total()) - before == pytest.approx(0.7, abs=0.25)
