"""The global random generators, lent to one candidate at a time."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator

_spare: list[np.random.BitGenerator] = []  # making one takes longer than everything else here together


class Randomness:
    """torch's, NumPy's and Python's global generators: seeded for a candidate inside ``with``, as they were
    outside.

    It can be entered again and goes on where it left, so a generator function may run in it step by step.
    (Outside, NumPy's legacy generator may lose the second of a pair of normal draws.)
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inner: tuple[Any, ...] | None = None
        self._outer: tuple[Any, ...] | None = None

    def __enter__(self) -> None:
        self._outer = _states()
        if self._inner is not None:
            _restore(self._inner)
            return
        # not torch.manual_seed: without CUDA it still walks the stack to queue a call for later
        torch.default_generator.manual_seed(self._seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(self._seed)
        set_bit_generator(_spare.pop() if _spare else np.random.MT19937())
        np.random.seed(self._seed % 2**32)  # noqa: NPY002 - user code may draw from it
        random.seed(self._seed)

    def __exit__(self, *_: object) -> None:
        self._inner = _states()
        self.put_back()

    def put_back(self) -> None:
        """Have what was outside again, unless that is done."""
        if self._outer is not None:
            _restore(self._outer)
            self._outer = None

    def close(self) -> None:
        """Give back what was borrowed; it is not entered any more."""
        if self._inner is not None:
            _spare.append(self._inner[1])
            self._inner = None


def _states() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), get_bit_generator(), random.getstate(), cuda


def _restore(states: tuple[Any, ...]) -> None:
    cpu, numpy, python, cuda = states
    torch.set_rng_state(cpu)
    set_bit_generator(numpy)  # the generator itself changes hands: far quicker than copying its state
    random.setstate(python)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
