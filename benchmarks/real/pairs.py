"""Pairs of texts: the first line of a docstring, and the rest of it.

The standard library and packages of constraints.txt are read, never imported. Every split has packages of its
own. A text that stands in several places is taken once, from the first of test, search, calibration and train
that has it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path

from evaluators.data.base import Split
from spaces.errors import InputError
from spaces.files import replacing

Packages = Mapping[Split, Sequence[str]]
Sizes = Mapping[Split, int]

_HELD_OUT: dict[Split, tuple[str, ...]] = {
    "test": (
        *("pandas", "networkx", "sqlalchemy", "rich", "aiohttp"),
        *(
            "asyncio",
            "email",
            "http",
            "logging",
            "unittest",
            "tkinter",
            "statistics",
            "zipfile",
            "subprocess",
        ),
    ),
    "search": ("optuna", "huggingface_hub", "jsonargparse", "argparse", "pathlib", "urllib", "random", "ssl"),
    "calibration": ("joblib", "fsspec", "accelerate", "alembic", "datetime", "decimal", "shutil", "socket"),
}
_LEFT_OUT = ("test", "idlelib", "lib2to3", "this", "antigravity", "__hello__", "__phello__")
_REST = sys.stdlib_module_names.difference(_LEFT_OUT, *_HELD_OUT.values())
PACKAGES: Packages = _HELD_OUT | {
    "train": (
        *("torch", "transformers", "scipy", "sklearn", "numpy", "sympy", "ray", "mpmath", "click"),
        *sorted(_REST),
    )
}
SIZES: Sizes = {"train": 16_000, "calibration": 500, "search": 500, "test": 2_000}
QUICK_PACKAGES: Packages = {
    "train": ("click", "argparse", "inspect", "typing", "json", "tarfile", "ipaddress"),
    "calibration": ("joblib", "decimal"),
    "search": ("fsspec", "pathlib"),
    "test": ("rich", "statistics", "asyncio"),
}
QUICK_SIZES: Sizes = {"train": 192, "calibration": 32, "search": 32, "test": 96}
MOST = 0.25
"""Largest share of a split that one package gives."""
_WORDS, _LONGEST = (4, 12), 1000
"""Fewest words of a first line and of a rest; most characters of a rest."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Pair:
    """A docstring: its package, its first line and the rest, in one line."""

    package: str
    first: str
    rest: str

    @property
    def digest(self) -> str:
        """By which pairs are ordered: no folder and no file matters."""
        return hashlib.sha256(f"{self.first}\n{self.rest}".encode()).hexdigest()


Pairs = dict[Split, list[Pair]]


def collected(file: Path, packages: Packages = PACKAGES, sizes: Sizes = SIZES) -> Pairs:
    """Return the pairs that were written to a file, or collect and write them.

    Raises:
        InputError: a package is not installed.
    """
    if not file.exists():
        pairs = collect(packages, sizes)
        rows = {split: [astuple(pair) for pair in part] for split, part in pairs.items()}
        with replacing(file) as part:
            part.write_text(json.dumps(rows))
    return {split: [Pair(*row) for row in rows] for split, rows in json.loads(file.read_text()).items()}


def collect(packages: Packages, sizes: Sizes) -> Pairs:
    """Return so many pairs of each split at most, in the order of their digests."""
    seen: set[str] = set()
    found: Pairs = {}
    for split in ("test", "search", "calibration", "train"):
        part: list[Pair] = []
        for package in packages[split]:
            most = round(max(MOST, 1 / len(packages[split])) * sizes[split])
            own = sorted(_pairs(package), key=lambda pair: pair.digest)
            part += [pair for pair in own if _is_new(pair, seen)][:most]
        found[split] = sorted(part, key=lambda pair: pair.digest)[: sizes[split]]
    return found


def digest(pairs: Pairs) -> str:
    """Return a hash of all pairs and their splits."""
    text = json.dumps({split: [astuple(pair) for pair in pairs[split]] for split in sorted(pairs)})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_new(pair: Pair, seen: set[str]) -> bool:
    """Note both texts, without what is not a letter; whether neither was there."""
    keys = {re.sub(r"[^a-z]+", " ", text.lower())[:200] for text in (pair.first, pair.rest)}
    known = bool(keys & seen)
    seen |= keys
    return not known


def _pairs(package: str) -> Iterator[Pair]:
    spec = find_spec(package)
    if spec is None or not (spec.submodule_search_locations or str(spec.origin).endswith(".py")):
        if package in sys.stdlib_module_names:
            return
        raise InputError(f"pairs: {package} is not installed; expected the environment of make real")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not folders:
        yield from _of_file(package, Path(str(spec.origin)))
    for folder in folders:
        for file in folder.rglob("*.py"):
            if not {"test", "tests"} & {*file.relative_to(folder).parts}:
                yield from _of_file(package, file)


def _of_file(package: str, file: Path) -> Iterator[Pair]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):  # some are there to be wrong
        return
    for node in ast.walk(tree):
        text = (ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None) or ""
        first, _, rest = text.strip().partition("\n")
        first, rest = first.strip(), " ".join(rest.split())[:_LONGEST]
        if len(first.split()) >= _WORDS[0] and len(rest.split()) >= _WORDS[1]:
            yield Pair(package, first, rest)
