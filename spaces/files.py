"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, durable: bool = False, private: bool = False) -> Iterator[Path]:
    """Give a name beside `path`; what the block writes there takes the place of `path`, or is gone if the
    block fails.

    The folder is made. No two writers share a name, on whatever machine they are.

    Args:
        path: of the file.
        durable: have it on the disk before it takes the place of the old one, so that not even a power cut
            leaves half of it.
        private: nobody but its owner may read it, from the first moment on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        if private:
            create_private(part)
        yield part
        if durable:
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        if not private:
            part.chmod(0o644)  # some writers keep it from everybody else
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def create_private(path: Path) -> None:
    """Make an empty file that nobody but its owner may read, unless there is a file."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file so that a reader sees the old one or the new one, whole, even after a power cut.

    Args:
        path: of the file.
        content: of the file.
        private: nobody but its owner may read it.
    """
    with replacing(path, durable=True, private=private) as part:
        part.write_bytes(content)
