"""Plain models of transformers out of a space of channels, and groups that leave it to them."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
from torch import nn

from spaces.base import Sliced, Space
from spaces.calling import Example
from spaces.pretrained.numbers import configured
from spaces.pretrained.plain import NotPlain, Plain

if TYPE_CHECKING:
    from spaces.channels.analysis import Analysis
    from spaces.channels.plan import SlicePlan


class PlainModels(Space):
    """What a space of channels has beside where its model is one of transformers."""

    model: nn.Module
    example: Example
    plan: SlicePlan
    _analysis: Analysis
    _refused: dict[str, str]

    @abstractmethod
    def _accept(self, plan: SlicePlan) -> None: ...

    @property
    def pretrained(self) -> bool:
        return configured(self.model) is not None

    @cached_property
    def _plain(self) -> Plain | None:
        """What makes plain models of transformers; None for others."""
        return Plain(self.model) if self.pretrained else None

    @property
    def _alike(self) -> list[list[tuple[str, int]]]:
        return self._plain.ties() if self._plain is not None else []

    def plain(self, genome: np.ndarray, compact: nn.Module | None = None) -> nn.Module:
        """Return a plain model of transformers, made of a config alone, that computes what a compact one
        computes.

        Args:
            compact: a tuned model of this genome; built by default.

        Raises:
            NotPlain: there is none, and why.
        """
        if self._plain is None:
            raise NotPlain(f"{type(self.model).__name__} has no config of transformers")
        return self._plain.checked(
            cast(Sliced, self), genome, self.build(genome) if compact is None else compact, self.example
        )

    def _refuse_not_plain(self) -> None:
        """Reduce every group on its own and compare with a plain model; what disagrees is frozen."""
        if self._plain is None:
            return
        for name, part in self.slices.items():
            genome = np.ones(self.length, dtype=np.uint8)
            genome[part][: max(1, (part.stop - part.start) // 2)] = 0
            try:
                self.plain(genome)
            except NotPlain as error:
                self._refused[name] = f"uniform: {error}"
        self._accept(self._analysis.plan(self._refused))
