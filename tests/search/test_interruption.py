"""Signals while a search runs."""

import os
import signal

import pytest

from search.interruption import interruptible


def sent(number):
    """Send a signal within; return what was called and said, and whether what follows goes on."""
    seen = []
    with interruptible(lambda: seen.append("interrupted"), seen.append):
        os.kill(os.getpid(), number)
        seen.append("good order")
    return [seen[0], seen[-1]]


def test_ctrl_c_ends_the_search_and_not_the_script():
    assert sent(signal.SIGINT) == ["interrupted", "good order"]


def test_a_signal_to_end_ends_the_script_too_when_all_is_in_good_order():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(SystemExit) as end:
        sent(signal.SIGTERM)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_handles_it_decides():
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert sent(signal.SIGTERM) == ["interrupted", "good order"]
    finally:
        signal.signal(signal.SIGTERM, before)
