"""Whether a complete run is called again as it was: then nothing needs to be traced to say so."""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path

from evaluators.base import Evaluator
from search.problem import Constraint, Objective, Problem
from spaces.base import Space
from spaces.names import OWN


def seal_of(config: str, lines: Mapping[str, str]) -> dict[str, object]:
    """Return what a run follows from, byte for byte, to be kept once it is complete.

    Of the user's sources those are named that were imported by the end of the run, so also what is first
    imported on the way, which a later call need not import to see that it has changed.

    Args:
        config: the resolved configuration.
        lines: what model, weights and data are, as far as that is known without tracing.
    """
    return {"stamp": _stamp(config, lines), "sources": {str(path): _digest(path) for path in _sources()}}


def is_untouched(seal: object, config: str, lines: Mapping[str, str]) -> bool:
    """Whether a run follows from what it followed from when :func:`seal_of` said so: configuration, weights,
    data and versions are the same, no source was edited or removed, and none is imported that was not there.
    """
    if not isinstance(seal, Mapping) or not isinstance(known := seal.get("sources"), Mapping):
        return False
    return (
        seal.get("stamp") == _stamp(config, lines)
        and all(str(path) in known for path in _sources())
        and all(_digest(Path(path)) == digest for path, digest in known.items())
    )


def _stamp(config: str, lines: Mapping[str, str]) -> str:
    texts = [config, *(f"{key}: {lines[key]}" for key in sorted(lines))]
    texts += [f"{name} {metadata.version(name)}" for name in ("secateur", "torch")]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "cannot be read"


def _sources() -> list[Path]:
    """Return the files of imported modules that are the user's: neither installed, nor Python's, nor ours."""
    here = Path(__file__).resolve().parents[2]
    others = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    others += [here / name for name in (*OWN, "run_search.py")]
    known = tuple(f"{path}{os.sep * path.is_dir()}" for path in (*others, *(o.resolve() for o in others)))
    # thousands of modules: links are followed of the few whose place is not plain
    files = {file for module in [*sys.modules.values()] if (file := _file(module))}
    return sorted({Path(file).resolve() for file in files if not file.startswith(known)})


def _file(module: object) -> str:
    file = vars(module).get("__file__") if hasattr(module, "__dict__") else None
    return file if isinstance(file, str) and file.endswith(".py") else ""


class PostponedProblem(Problem):
    """A problem whose space is made, and whose evaluator is bound, when one of them is first asked for.

    Args:
        make: makes the whole problem.
        objectives: of it.
        constraints: of it.
        base: metrics of the base model.
    """

    def __init__(
        self,
        make: Callable[[], Problem],
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint],
        base: dict[str, float],
    ) -> None:
        self._make = make
        self.objectives, self.constraints, self.base = tuple(objectives), tuple(constraints), base
        self.guide, self.of_parent = {}, frozenset()

    @cached_property
    def _made(self) -> Problem:
        return self._make()

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self._made.space

    @property
    def evaluator(self) -> Evaluator:  # type: ignore[override]
        return self._made.evaluator
