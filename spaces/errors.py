"""The one kind of error that is the user's to mend."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave does not fit: the message is one line that names the place and what is
    accepted.

    The door prints it as it is and exits with code 2. Everything else that escapes is a bug of Secateur.
    """
