"""Whether a complete run is called again as it was: then nothing needs to be traced to say so."""

from __future__ import annotations

import hashlib
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


def stamp(config: str, lines: Mapping[str, str]) -> str:
    """Return a hash of everything that a run follows from, byte for byte: equal stamps, the same run.

    Args:
        config: the resolved configuration.
        lines: what model, weights and data are, as far as that is known without tracing.
    """
    texts = [config, *(f"{key}: {lines[key]}" for key in sorted(lines))]
    texts += [f"{name} {metadata.version(name)}" for name in ("secateur", "torch")]
    texts += [f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in _sources()]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _sources() -> list[Path]:
    """Return the files of imported modules that are the user's: neither installed, nor Python's, nor ours."""
    here = Path(__file__).resolve().parents[2]
    others = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    others += [here / name for name in (*OWN, "run_search.py")]
    files = {Path(file).resolve() for module in [*sys.modules.values()] if (file := _file(module))}
    return sorted(
        path for path in files if path.is_file() and not any(path.is_relative_to(o) for o in others)
    )


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
