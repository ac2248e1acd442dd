"""Rules: what an ATen operation does to channels. One function a family; what has no rule freezes its
channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from spaces.channels.loci import Loci
from spaces.channels.plan import Role

Call = Any
"""An ``fx.Node``; what it is called with has no types of use."""

Label = np.ndarray
"""Atoms of one axis of a value: int64 ``(size,)``, or ``(1,)`` where the axis has no channels; that one is
frozen, with the reason.
"""

Labels = tuple[Label, ...]
"""A label for every axis. An element is kept where the label of every axis is, so several axes may have
channels at once.
"""


class Context(Protocol):
    """What a rule may ask and say about the graph it works on."""

    loci: Loci

    def labels(self, node: Any) -> Any:
        """Return the labels of a value, or a list of them for several; those of a parameter are the atoms of
        its axes.
        """

    def shape(self, node: Any) -> tuple[int, ...]: ...
    def value(self, argument: Any) -> Any:
        """Return an argument with nodes replaced by their (fake) values."""

    def tensor(self, argument: Any) -> str | None:
        """Return the qualified name where the argument is a parameter or buffer, else None."""

    def made_of(self, node: Any) -> str | None:
        """Return the qualified name of the parameter or buffer that a node is, or of one that it is computed
        of where no input of the model takes part; None for others.
        """

    def axis(self, node: Any, dim: int, role: Role) -> Label:
        """Return the label of an axis of a weight; a parameter's, or that of a computed weight, gets the
        role.
        """

    def plain(self, text: str, node: Call) -> Label:
        """Return the label of an axis without channels."""

    def freeze(self, label: Label, text: str, node: Call) -> Label:
        """Freeze an axis; return the label of one without channels."""

    def freeze_inputs(self, node: Call, text: str) -> Any:
        """Freeze every axis of every input of `node`; return the labels of its output, which has
        no channels.
        """

    def split(self, label: Label, sizes: Sequence[int], node: Call) -> list[Label]:
        """Divide an axis into several; see :meth:`spaces.channels.loci.Loci.split`."""

    def meet(self, first: Label, second: Label) -> Label:
        """Tie two axes position by position; return the label of what comes out."""

    def literal(self, node: Call, value: Any, label: Label, place: int | None = None) -> None:
        """Record that a number in the call must be the number of kept positions: attributes of the module
        that hold it may follow.

        `place` is that of the number among the sizes of the call, where its code may be rewritten to read it
        from an attribute.
        """

    def pinned(self, node: Call, label: Label, text: str) -> None:
        """Record that the call makes a factor of the size of this axis, which has to stay what it was: its
        code is rewritten.
        """

    def attribute(self, node: Call, kind: type | tuple[type, ...], name: str, label: Label) -> bool:
        """Have an attribute of the innermost module follow, where that is of this kind; return
        whether it is.
        """

    def step(self, step: int, label: Label) -> None:
        """Record that a multiple of `step` positions of this axis has to be kept."""

    def cost(self, node: Call, name: str, macs: int, *labels: Label) -> None:
        """Record an operation of `macs` for the example's batch, in proportion to the kept share of these
        axes.
        """

    def tap(self, node: Call, tensor: str, dim: int, label: Label, at_input: bool = False) -> None:
        """Record that the module which owns `tensor`, and is this call, puts out (or takes in) these channels
        along `dim`.
        """


Rule = Callable[[Context, Call], Any]
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


def argument(node: Call, index: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call by position or name."""
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def varies(label: Label) -> bool:
    """Whether an axis has channels."""
    return label.size > 1


def varying(labels: Labels) -> tuple[int, ...]:
    """Return the axes that have channels."""
    return tuple(d for d, label in enumerate(labels) if label.size > 1)


def replaced(labels: Labels, dim: int, label: Label) -> Labels:
    """Return labels with another one at `dim`."""
    return (*labels[:dim], label, *labels[dim + 1 :])


def wide(label: Label, size: int) -> Label:
    """Return a label with one atom a position."""
    return np.broadcast_to(label, (size,))
