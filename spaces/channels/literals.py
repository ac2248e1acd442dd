"""Numbers in the user's code that must follow what is kept of an axis, and the attributes that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from spaces.channels.loci import Reason
from spaces.channels.rewriting import is_made


@dataclass(frozen=True, eq=False)
class Literal:
    """A number in the user's code that must be the number of kept positions of an axis.

    Attributes:
        path: of the innermost module whose code it stands in.
        value: in the full model.
        label: atoms of the axis.
        where: the line of the model's source.
        node: the operation in the trace, empty where its code cannot be rewritten.
        place: among the sizes of that operation.
        training: whether the trace is that of training mode.
    """

    path: str
    value: int
    label: np.ndarray
    where: str = ""
    node: str = ""
    place: int = 0
    training: bool = False

    @property
    def told(self) -> tuple[Any, ...]:
        """What the code says, wherever the module stands."""
        return self.where, self.place, self.value, self.training


@dataclass(frozen=True, eq=False)
class Pin:
    """A factor that the code of the module at `path` makes of the size of an axis, and that has to stay what
    it was.
    """

    path: str
    label: np.ndarray
    reason: Reason

    @property
    def told(self) -> tuple[Any, ...]:
        """What the code says, wherever the module stands."""
        return self.reason.where, self.reason.text, self.label.size


@dataclass(frozen=True)
class Follower:
    """An attribute of a module that becomes a number of kept positions, those of the literal with
    this index.
    """

    module: str
    name: str
    literal: int


def holders(
    model: nn.Module,
    paths: Mapping[int, str],
    literal: Literal,
    index: int,
    known: Mapping[tuple[str, str], np.ndarray],
) -> Sequence[Follower]:
    """Return the attributes that hold a literal's number, or begin with it: those of the innermost modules
    first.

    Args:
        paths: id of a module -> its first name.
        known: attributes that follow anyway.
    """
    found: dict[Follower, None] = {}
    path = literal.path
    while True:
        module = model.get_submodule(path)
        for field, value in vars(module).items():
            first = value[0] if isinstance(value, tuple | list) and value else value
            place = (paths.get(id(module), path), field)
            if (
                type(first) is int
                and first == literal.value
                and not field.startswith("_")
                and place not in known
                and not is_made(field)
            ):
                found.setdefault(Follower(*place, index))
        if not path:
            return [*found]
        path = path.rpartition(".")[0]
