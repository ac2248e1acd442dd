"""More real data to report on: what comes with scikit-learn and with Python itself."""

from __future__ import annotations

import ast
import io
import keyword
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_iris, load_sample_images
from torch import Tensor, nn

from benchmarks.trial_pruning.task import Splits, Task, perceptron, split, standard

_SAMPLES = 6000


class Lean(Task):
    """A task that is reported from one pool a split."""

    lean = True


class Iris(Lean):
    """Three kinds of iris from four measures: 60 training samples."""

    def splits(self, seed: int) -> Splits:
        found = load_iris()
        return split(standard(found.data), torch.from_numpy(found.target).long(), (60, 30), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(4, 3, config["width"], config["depth"], config["dropout"])


class Photographs(Lean):
    """A grey pixel of two photographs from the 24 above and left of it: 200 training samples, squared error
    of the standardised target.
    """

    loss = "squared_error"

    def splits(self, seed: int) -> Splits:
        inputs, targets = _pixels()
        return split(inputs, targets, (200, 80), seed, 1000)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(24, 1, config["width"], config["depth"], config["dropout"])


class Tokens(Lean):
    """The kind of the next token of Python's own sources from the kinds of four: 240 training samples."""

    def splits(self, seed: int) -> Splits:
        inputs, targets = _tokens()
        return split(inputs, targets, (240, 100), seed, 1000)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(4 * len(_KINDS), len(_KINDS), config["width"], config["depth"], config["dropout"])


class Docstrings(Lean):
    """How long the docstring of a function of the standard library is, from nine counts of its code: 160
    training samples, squared error of the standardised logarithm.
    """

    loss = "squared_error"

    def splits(self, seed: int) -> Splits:
        inputs, targets = _docstrings()
        return split(inputs, targets, (160, 64), seed, 1000)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(9, 1, config["width"], config["depth"], config["dropout"])


@cache
def _pixels() -> tuple[Tensor, Tensor]:
    """Places that are the same for every split: rows of four above, and the four pixels left in its row."""
    rng = np.random.default_rng(0)
    rows = []
    for image in load_sample_images().images:
        grey = image.mean(2)
        for _ in range(_SAMPLES // 4):
            y, x = (int(rng.integers(4, side - 4)) for side in grey.shape)
            above = grey[y - 4 : y, x - 2 : x + 3].ravel()
            rows.append([*above, *grey[y, x - 4 : x], grey[y, x]])
    table = standard(np.array(rows))
    return table[:, :-1], table[:, -1:]


_KINDS = ("name", "keyword", "number", "string", "open", "close", "comma", "operator", "line")


def _kind(token: tokenize.TokenInfo) -> str | None:
    if token.type == tokenize.NAME:
        return "keyword" if keyword.iskeyword(token.string) else "name"
    if token.type == tokenize.OP:
        signs = {**dict.fromkeys("([{", "open"), **dict.fromkeys(")]}", "close"), ",": "comma"}
        return signs.get(token.string, "operator")
    others = {tokenize.NUMBER: "number", tokenize.STRING: "string", tokenize.NEWLINE: "line"}
    return others.get(token.type)


@cache
def _tokens() -> tuple[Tensor, Tensor]:
    """Five kinds in a row, begun at every fifth token."""
    kinds: list[int] = []
    for source in _sources():
        found = tokenize.generate_tokens(io.StringIO(source).readline)
        kinds += [_KINDS.index(kind) for token in found if (kind := _kind(token)) is not None]
        if len(kinds) > 5 * _SAMPLES:
            break
    rows = torch.tensor(kinds[: 5 * _SAMPLES]).view(-1, 5)
    return nn.functional.one_hot(rows[:, :4], len(_KINDS)).flatten(1).float(), rows[:, 4]


@cache
def _docstrings() -> tuple[Tensor, Tensor]:
    rows = [row for source in _sources() for row in _functions(ast.parse(source))]
    table = standard(np.log1p(np.array(rows, dtype=np.float64)))
    return table[:, :-1], table[:, -1:]


def _functions(tree: ast.Module) -> Iterator[list[int]]:
    """Yield counts of every function that has a docstring; that docstring's characters last."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            inside = list(ast.walk(node))
            sought = (ast.Call, ast.If, ast.For, ast.Return, ast.Raise, ast.Attribute)
            counts = [sum(isinstance(part, kind) for part in inside) for kind in sought]
            yield [len(node.name), len(node.args.args), len(inside), *counts, len(text)]


def _sources() -> Iterator[str]:
    """Yield modules of the standard library in an order that is drawn once."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in folder.glob("*.py") if path.stat().st_size > 8000)
    for i in np.random.default_rng(0).permutation(len(files)):
        yield files[i].read_text(encoding="utf-8", errors="replace")


REAL: dict[str, Task] = {
    "iris": Iris(),
    "photographs": Photographs(),
    "tokens": Tokens(),
    "docstrings": Docstrings(),
}
