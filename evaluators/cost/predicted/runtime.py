"""What a runtime does in one forward call, operation by operation, and how long one takes by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import nn

from evaluators.cost.latency import fastest_ms
from evaluators.cost.pace import least, own_pace
from spaces.calling import Example

_AT_ONCE, _HELD_BYTES = 64, 1 << 29
"""Operations that are measured in the same rounds, at most."""
_SECONDS, _WHOLE_SECONDS = 0.001, 0.03


@dataclass(frozen=True)
class Operation:
    """One operation of a runtime's own graph.

    Attributes:
        kind: what people call it, as ``Conv``.
        template: all of it but the numbers, as a text that the runtime can read again.
        numbers: sizes of its inputs, and whole numbers among its attributes (as groups), in an order that the
            template says.
    """

    kind: str
    template: str
    numbers: tuple[int, ...]


class Took(NamedTuple):
    """Milliseconds of an operation.

    Attributes:
        work: of itself.
        layout: of bringing its input into the kernel's layout and its output back, which neighbours of the
            same layout spare.
    """

    work: float
    layout: float = 0.0


class Piece(NamedTuple):
    """A call that can be timed.

    Attributes:
        call: of one or more copies.
        copies: of the operation in a call.
        layout: whether it does nothing but change the layout.
        held: bytes that it holds, about.
        share: of the call's time that is this piece's.
    """

    call: Callable[[], object]
    copies: int = 1
    layout: bool = False
    held: int = 0
    share: float = 1.0

    def milliseconds(self) -> float:
        """Return the fastest of some calls, of one copy."""
        return self.share * fastest_ms(self.call, 3, 1, _SECONDS) / self.copies


class Runtime(ABC):
    """Something that runs models, and tells what it does.

    Attributes:
        name: of the runtime with its version: times of another one are of no use.
        threads: that it may use.
    """

    name: str
    threads: int = 1

    @abstractmethod
    def prepared(self, model: nn.Module, inputs: Example) -> tuple[list[Operation], Callable[[], object]]:
        """Return what one forward call does, in its order and after all fusions that do not depend on widths,
        and such a call.
        """

    def whole(self, calls: Sequence[Callable[[], object]]) -> np.ndarray:
        """Return the milliseconds of calls of whole networks: each the fastest in several rounds over all."""
        return least([partial(fastest_ms, call, 5, 2, _WHOLE_SECONDS) for call in calls], own_pace())

    @abstractmethod
    def pieces(self, operation: Operation) -> list[Piece]:
        """Return what an operation is when it stands by itself; none where it cannot."""

    def alone(self, operations: Sequence[Operation]) -> list[Took]:
        """Return how long operations take by themselves, each the fastest of calls in several rounds over
        many, so that what slows the machine down for a while is not taken for a property of one.
        """
        took: list[Took] = []
        waiting: list[list[Piece]] = []
        for operation in operations:
            waiting.append(self.pieces(operation))
            held = sum(piece.held for pieces in waiting for piece in pieces)
            if len(waiting) == _AT_ONCE or held > _HELD_BYTES:
                took += _together(waiting)
                waiting = []
        return took + _together(waiting)


def _together(operations: Sequence[Sequence[Piece]]) -> list[Took]:
    every = [piece for pieces in operations for piece in pieces]
    fastest = iter(least([piece.milliseconds for piece in every], own_pace()).tolist())
    took = []
    for pieces in operations:
        best = [(piece.layout, next(fastest)) for piece in pieces]
        layout = sum(ms for is_layout, ms in best if is_layout)
        took.append(Took(sum(ms for _, ms in best) - layout, layout))
    return took
