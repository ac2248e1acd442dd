"""What verification found, kept in the user's cache by all that it depends on: the second start of the same
model verifies nothing. [O]

A file is plain JSON of names and numbers. One that is damaged, or does not lead to the plan that it was
written of, counts for nothing and is written anew.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spaces.calling import Example
from spaces.channels.analysis import Analysis
from spaces.channels.literals import Follower
from spaces.channels.matching import Number, Rewriting
from spaces.channels.plan import SlicePlan
from spaces.channels.trace import Trace, canonical_names, module_path, source_line, tensors_by_name
from spaces.files import write_bytes
from spaces.structures import leaves

VARIABLE, OFF = "SECATEUR_PLAN_CACHE", "off"
"""The environment variable that names the folder, and what switches the cache off."""
MOST_PLANS = 500
"""So many plans are kept, those that were used last: some megabytes."""
_NAMES = f"{'[0-9a-f]' * 32}.json"
_SCALARS = (bool, int, float, str)


class Remembered(Protocol):
    """What is needed of a space, and changes in it."""

    model: nn.Module
    example: Example
    plan: SlicePlan
    _trace: Trace
    _analysis: Analysis
    _refused: dict[str, str]
    _whole_blocks: dict[str, str]
    _untrained: str
    _followers: list[Follower]
    _rewritings: dict[str, Rewriting]
    _ties: list[tuple[int, int]]

    @property
    def program(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def _restored(self) -> SlicePlan: ...
    def _accept(self, plan: SlicePlan) -> None: ...
    def _analyse(self) -> SlicePlan: ...


class Memory:
    """The file of one space.

    Args:
        space: analysed, not verified.
        settings: of the space, on which its plan depends.
    """

    def __init__(self, space: Remembered, settings: Any) -> None:
        self._space = space
        folder = _folder()
        try:
            self._path = None if folder is None else folder / f"{_key(space, settings)}.json"
        except Exception:  # a tensor without content that could be read (sparse, quantised)
            self._path = None

    def recall(self) -> bool:
        """Have the space be as it was when it was verified; whether that is known."""
        if self._path is None or not self._path.is_file():
            return False
        space = self._space
        before = space._refused, space._whole_blocks, space._untrained
        follow = space._followers, space._rewritings, space._ties
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            _take(space, found)
            if space.fingerprint == found["fingerprint"]:
                with suppress(OSError):  # it was used, so others are forgotten before it
                    os.utime(self._path)
                return True
        except Exception:  # whatever stands in it: it is no verdict on this model
            pass
        space._refused, space._whole_blocks, space._untrained = before
        space._followers, space._rewritings, space._ties = follow
        space._accept(space._analyse())
        return False

    def keep(self) -> None:
        """Write what was found; a folder that cannot be written to is left as it is."""
        if self._path is None:
            return
        space = self._space
        found = {
            "fingerprint": space.fingerprint,
            "refused": space._refused,
            "whole_blocks": space._whole_blocks,
            "untrained": space._untrained,
            "ties": space._ties,
            "followers": [asdict(follower) for follower in space._followers],
            "rewritings": [
                {
                    "path": path,
                    "pins": dict(rewriting.pins),
                    "sizes": {
                        name: [number.node, number.place, number.value, number.literal]
                        for name, number in rewriting.sizes.items()
                    },
                }
                for path, rewriting in space._rewritings.items()
            ],
        }
        with suppress(OSError):
            write_bytes(self._path, json.dumps(found, indent=1).encode())
            _forget(self._path.parent)


def _forget(folder: Path) -> None:
    """Remove the plans that were not used for longest, from `MOST_PLANS` on."""
    used = {file: file.stat().st_mtime for file in folder.glob(_NAMES)}
    for file in sorted(used, key=used.__getitem__, reverse=True)[MOST_PLANS:]:
        file.unlink(missing_ok=True)


def _take(space: Remembered, found: Any) -> None:
    space._refused, space._whole_blocks = _texts(found["refused"]), _texts(found["whole_blocks"])
    space._untrained = str(found["untrained"])
    space._followers = [
        Follower(str(f["module"]), str(f["name"]), int(f["literal"])) for f in found["followers"]
    ]
    space._rewritings = {
        str(r["path"]): Rewriting(
            str(r["path"]),
            {
                str(name): Number(str(node), int(place), int(value), int(literal), b"")
                for name, (node, place, value, literal) in r["sizes"].items()
            },
            {str(name): int(value) for name, value in r["pins"].items()},
        )
        for r in found["rewritings"]
    }
    space._ties = [(int(one), int(other)) for one, other in found["ties"]]
    space._accept(space._restored())


def _texts(found: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in found.items()}


def _folder() -> Path | None:
    """Return the folder for plans in the user's cache, None where there shall be none."""
    named = os.environ.get(VARIABLE, "").strip()
    if named.lower() == OFF:
        return None
    if named:
        return Path(named)
    try:
        own = os.environ.get("XDG_CACHE_HOME", "").strip()
        return (Path(own) if own else Path.home() / ".cache") / "secateur" / "plans"
    except RuntimeError:  # nobody's home
        return None


def _key(space: Remembered, settings: Any) -> str:
    """Return a hash of all that verification depends on: the graph with its names and lines, the model's
    modules, code, numbers and weights, the example, the settings and the versions of what computes.
    """
    digest = hashlib.sha256()
    for line in _lines(space, settings):
        digest.update(f"{line}\n".encode())
    for tensor in (*tensors_by_name(space.model).values(), *leaves(space.example)):
        digest.update(_content(tensor))
    return digest.hexdigest()[:32]


def _lines(space: Remembered, settings: Any) -> Iterator[str]:
    yield f"{platform.python_version()} {torch.__version__} {np.__version__} {_own_code()}"
    yield f"{space.program} {json.dumps(settings, sort_keys=True, default=str)}"
    for node in space._trace.graph.graph.nodes:
        yield f"{node.name} {module_path(node)} {source_line(node)}"
    yield json.dumps(canonical_names(space.model))
    yield str([*space.example] if isinstance(space.example, Mapping) else len(space.example))
    files = set()
    for path, module in space.model.named_modules(remove_duplicate=False):
        kind = type(module)
        files.add(kind.__module__)
        numbers = {name: value for name, value in vars(module).items() if _is_plain(value)}
        yield f"{path} {kind.__module__}.{kind.__qualname__} {numbers!r}"
    for name in sorted(files):
        yield f"{name} {_code(name)}"


def _is_plain(value: Any) -> bool:
    return isinstance(value, _SCALARS) or (
        isinstance(value, tuple | list) and all(isinstance(item, _SCALARS) for item in value)
    )


def _code(name: str) -> str:
    try:
        return hashlib.sha256(inspect.getsource(sys.modules[name]).encode()).hexdigest()
    except (OSError, TypeError, KeyError):  # typed in, or compiled
        return ""


@cache
def _own_code() -> str:
    """Return a hash of the files that make and verify plans."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _content(value: Any) -> bytes:
    """Return a hash of a tensor's form and values."""
    if not isinstance(value, Tensor):
        return repr(value).encode()
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)} {value.requires_grad}".encode())
    if not value.is_meta:
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()
