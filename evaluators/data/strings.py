"""Generated strings: a task from sequence to sequence that needs no files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from evaluators.data.arrays import Arrays
from evaluators.data.task import Classification
from spaces.errors import InputError

StringTask = Literal["reverse", "copy", "sort"]
TASKS: dict[StringTask, Callable[[np.ndarray], np.ndarray]] = {
    "reverse": lambda strings: strings[:, ::-1],
    "copy": lambda strings: strings,
    "sort": lambda strings: np.sort(strings, axis=1),
}


class Strings(Arrays):
    """Random strings over a small alphabet, to be given back reversed (or copied, or sorted). [O]

    Inputs and targets are int64 ``(batch, length)``; a model gives logits ``(batch, symbols, length)``, of
    which the loss is the cross-entropy, averaged over positions. No string occurs twice.

    Args:
        symbols: of the alphabet, numbered from 0.
        length: of a string.
        samples: in all splits together.
        task: ``reverse``, ``copy`` or ``sort``.
        seed: of the strings and the splits.

    Raises:
        InputError: a number out of its range, an unknown task, or more samples than there are strings.
    """

    def __init__(
        self,
        symbols: int = 8,
        length: int = 6,
        samples: int = 2000,
        task: StringTask = "reverse",
        seed: int = 0,
    ) -> None:
        for name, number, least in (("symbols", symbols, 2), ("length", length, 1), ("samples", samples, 10)):
            if number < least:
                raise InputError(f"data: {name} {number}; expected at least {least}")
        if task not in TASKS:
            raise InputError(f"data: task {task!r}; expected {', '.join(TASKS)}")
        if length * np.log2(symbols) > 62 or samples > symbols**length:
            raise InputError(
                f"data: {samples} strings of {length} out of {symbols} symbols; expected from {samples} to "
                f"2^62 such strings"
            )
        numbers = np.random.default_rng(seed).choice(symbols**length, samples, replace=False)
        strings = numbers[:, None] // symbols ** np.arange(length) % symbols
        super().__init__(strings, TASKS[task](strings).copy(), task=Classification(symbols), seed=seed)
