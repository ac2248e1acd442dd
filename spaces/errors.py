"""The one kind of error that is the user's to mend, and the one way to raise it for several conditions."""

from __future__ import annotations

from collections.abc import Callable

from spaces.redaction import redacted_text


class InputError(ValueError):
    """Something the user gave does not fit: the message is one line that names the place and what is
    accepted.

    The command prints it as it is and exits with code 2. Everything else that escapes is a bug of Secateur.
    Secrets in the message are left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted_text(message))


def require(place: str, *checks: tuple[object, str | Callable[[], str]]) -> None:
    """Refuse what does not fit, by the first condition that does not hold.

    All conditions are computed before the first is looked at: one that only makes sense where another holds
    goes into a call of its own. A text that only makes sense where its condition fails, or that takes long to
    write, is given as a function without arguments.

    >>> require("pruner", (2 > 1, "reduction 1; expected more than 1"))

    Args:
        place: what is checked, as the user knows it: ``space``, ``mutation``, ``search.budget``.
        checks: a condition, and ``what it is; expected what is accepted`` for where it does not hold.

    Raises:
        InputError: ``place: what it is; expected what is accepted``.
    """
    for holds, text in checks:
        if not holds:
            raise InputError(f"{place}: {text if isinstance(text, str) else text()}")
