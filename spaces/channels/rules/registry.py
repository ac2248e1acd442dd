"""Rules: what an ATen operation does to channels. One function a family; what has no rule freezes its channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import fx

from spaces.channels.loci import Loci, Reason
from spaces.channels.plan import Role

Labels = np.ndarray
"""Atoms of a value: int64, as many axes as the value, each of the value's size or 1 where the label does not vary along it.

A label that varies along no axis is a frozen atom: the value has no channels that could go.
"""


class Context(Protocol):
    """What a rule may ask and say about the graph it works on."""

    loci: Loci

    def labels(self, node: Any) -> Any: ...
    def shape(self, node: Any) -> tuple[int, ...]: ...
    def value(self, argument: Any) -> Any:
        """Return an argument with nodes replaced by their (fake) values."""

    def tensor(self, argument: Any) -> str | None:
        """Return the qualified name where the argument is a parameter or buffer, else None."""

    def axis(self, tensor: str, dim: int, role: Role) -> np.ndarray:
        """Return the atoms of an axis of a parameter or buffer, ``(size,)``; always the same ones."""

    def channels(self, labels: Labels, dim: int, node: fx.Node) -> np.ndarray:
        """Return the labels along `dim`, ``(size,)``, freezing them all where they vary along another axis too."""

    def reason(self, text: str, node: fx.Node) -> Reason: ...
    def freeze(self, labels: Labels, text: str, node: fx.Node) -> Labels:
        """Freeze `labels` and return the label of a value without channels, of as many axes."""

    def plain(self, ndim: int, text: str, node: fx.Node) -> Labels:
        """Return the label of a value without channels."""

    def freeze_inputs(self, node: fx.Node, text: str) -> Labels:
        """Freeze the channels of every input of `node`; return the label of its output, which has none."""

    def cost(self, node: fx.Node, name: str, macs: int, *axes: tuple[str, int]) -> None:
        """Record an operation of `macs` at batch 1 in proportion to these axes of parameters."""

    def tap(self, node: fx.Node, tensor: str, dim: int, atoms: np.ndarray) -> None:
        """Record that the module which owns `tensor` puts out these channels along `dim`."""


Rule = Callable[[Context, fx.Node], Any]
RULES: dict[str, Rule] = {}


def rule(*operations: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations named as ``conv2d`` (all overloads) or ``mul.Scalar``."""

    def register(function: Rule) -> Rule:
        for operation in operations:
            RULES[operation] = function
        return function

    return register


def find(target: Any) -> Rule | None:
    """Return the rule of a call's target, or None where the operation is unknown."""
    name = operation_name(target)
    return RULES.get(name) or RULES.get(name.split(".")[0])


def operation_name(target: Any) -> str:
    """Return ``conv2d.default`` for ``torch.ops.aten.conv2d.default``, ``getitem`` for Python's."""
    text = str(target)
    return text.removeprefix("aten.") if text.startswith("aten.") else getattr(target, "__name__", text)
