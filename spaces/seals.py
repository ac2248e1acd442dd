"""Seals: safetensors files that say in their header what they hold, so that a damaged one is found out."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_METADATA, _SEAL = "__metadata__", "sha256"


class BrokenSealError(ValueError):
    """A file is not what was written."""


def seal(content: bytes) -> bytes:
    """Return a safetensors file with the SHA-256 of all that it holds in its header; it is read as before."""
    header, body = _split(content)
    header[_METADATA] = {**header.get(_METADATA, {}), _SEAL: ""}
    header[_METADATA][_SEAL] = _digest(header, body)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of eight
    return len(text).to_bytes(8, "little") + text + body


def check_seal(content: bytes) -> bool:
    """See that a safetensors file holds what was written; whether it says so: older versions sealed nothing.

    Raises:
        BrokenSealError: it does not, or is no safetensors file.
    """
    header, body = _split(content)
    told = header.get(_METADATA, {}).get(_SEAL)
    if told is None:
        return False
    if told != _digest(header, body):
        raise BrokenSealError("it does not hold what was written")
    return True


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a file."""
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
    except (ValueError, RecursionError):
        header = None
    tensors = [one for name, one in header.items() if name != _METADATA] if isinstance(header, dict) else [0]
    if not all(isinstance(one, dict) and "data_offsets" in one for one in tensors):
        raise BrokenSealError("it has no header of safetensors")
    assert header is not None
    if not isinstance(header.get(_METADATA, {}), dict):
        raise BrokenSealError("it has no header of safetensors")
    return header, content[8 + size :]


def _digest(header: dict[str, Any], body: bytes) -> str:
    """SHA-256 of header and tensors, the seal itself left out."""
    told = {**header, _METADATA: {**header[_METADATA], _SEAL: ""}}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(body)
    return digest.hexdigest()
