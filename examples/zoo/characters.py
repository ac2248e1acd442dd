"""A GPT that writes Python, and what it reads: the standard library, which lies on every machine."""

from __future__ import annotations

import argparse
import inspect

import numpy as np
from torch import Tensor, nn

from secateur import Arrays, Classification
from tests.zoo.sequences import GPT

SYMBOLS = " \n()[]_.,:=\"'#abcdefghijklmnopqrstuvwxyz"


class CharacterGPT(GPT):
    """The zoo's GPT (nanoGPT's attention) over characters; logits are ``(batch, symbols, length)``, as a
    classification wants them.
    """

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 2) -> None:
        super().__init__(width, heads, depth, vocabulary=len(SYMBOLS) + 1, block=16)
        nn.init.normal_(self.wte.weight, std=0.1)  # it is the head as well

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).transpose(1, 2)


class Characters(Arrays):
    """Stretches of 16 characters out of ``argparse.py``, and the same one further: every next character is to
    be told.

    Inputs and targets are int64 ``(batch, 16)``; what is none of ``SYMBOLS`` is one more symbol.
    """

    def __init__(self, samples: int = 1000, seed: int = 0) -> None:
        text = inspect.getsource(argparse).lower()
        codes = np.array([SYMBOLS.find(character) % (len(SYMBOLS) + 1) for character in text])
        starts = np.random.default_rng(seed).choice(len(codes) // 17, samples, replace=False) * 17
        windows = codes[starts[:, None] + np.arange(17)]
        super().__init__(
            windows[:, :-1].copy(), windows[:, 1:].copy(), task=Classification(len(SYMBOLS) + 1), seed=seed
        )
