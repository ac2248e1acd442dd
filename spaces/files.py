"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Give a name beside `path`; what the block writes there takes the place of `path`, or is gone if the
    block fails.

    The folder is made. No two writers share a name, on whatever machine they are.

    Args:
        path: of the file.
        durable: have it on the disk before it takes the place of the old one, so that not even a power cut
            leaves half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        yield part
        if durable:
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        part.chmod(0o644)  # some writers keep it from everybody else
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, whole, even after a power cut."""
    with replacing(path, durable=True) as part:
        part.write_bytes(content)
