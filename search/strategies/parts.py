"""What the exchangeable parts of a strategy remember."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from typing import Any

from search.ask_and_tell import declares_state


class Parts:
    """Operators that a strategy works with, as a part of its state.

    Most operators remember nothing. One that does declares ``state()`` and ``restore()``, as strategies do.
    One that has changed since the start without saying how cannot be put back: then the strategy has no state
    to give, and is told everything again.

    Args:
        parts: before they have worked.
    """

    def __init__(self, parts: Sequence[object]) -> None:
        self._parts = [(part, declares_state(part)) for part in parts]
        self._before = ["" if tells else _digest(part) for part, tells in self._parts]

    def state(self) -> list[Any] | None:
        """Return what each has to say, in their order; None where one has changed and does not say how."""
        found: list[Any] = []
        for (part, tells), before in zip(self._parts, self._before, strict=True):
            if not tells and (not before or _digest(part) != before):
                return None
            said = part.state() if tells else {}  # type: ignore[attr-defined]
            if said is None:
                return None
            found.append(said)
        return found

    def restore(self, state: Sequence[Any]) -> None:
        """Put each back."""
        for (part, tells), said in zip(self._parts, state, strict=True):
            if tells:
                part.restore(said)  # type: ignore[attr-defined]


def _digest(part: object) -> str:
    """Return a hash of what an object holds, to see whether it changes; empty where it cannot be told."""
    try:
        return hashlib.sha256(pickle.dumps(part)).hexdigest()
    # the user's own classes raise whatever they like
    except Exception:
        return ""
