"""Per-sample gradients of one layer as a block of the big matrices G (true labels) and Phi (drawn labels),
which are never built whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vecdot

from evaluators.tic.uses import LinearUse, Use

Rows = tuple[Tensor, Tensor]
"""Parts of G ``(m, p)`` and Phi ``(r, p)``: the same p parameters."""


class Block(ABC):
    """Gradients of some parameters: G of `m` samples with their labels, Phi of `r` rows with drawn labels,
    scaled: F = Phi^T Phi / m.
    """

    @abstractmethod
    def pieces(self) -> Iterator[Rows]:
        """Yield G and Phi in pieces over the parameters, each within the memory bound."""

    def norms(self) -> Rows:
        """Return squared norms of the rows, ``(m,)`` and ``(r,)``."""
        return _total((g.square().sum(1), phi.square().sum(1)) for g, phi in self.pieces())

    def products(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``G Phi^T`` of shape ``(m, r)``, ``Phi Phi^T`` of shape ``(r, r)``, and squared norms of G's
        rows ``(m,)``.
        """
        return _total((g @ phi.T, phi @ phi.T, g.square().sum(1)) for g, phi in self.pieces())

    def squares(self, shares: Tensor, drawn_shares: Tensor) -> Iterator[Rows]:
        """Yield weighted sums of squared entries per parameter, ``(w, p)``, of G under `shares` ``(w, m)``
        and Phi under ``(w, r)``.
        """
        for g, phi in self.pieces():
            yield shares.to(g) @ g.square(), drawn_shares.to(phi) @ phi.square()


class LinearBlock(Block):
    """A linear layer on ``(m, features)``: gradients are outer products, so products of rows are those of
    inputs times those of errors. [O]

    Args:
        errors: gradients by the outputs, ``(1 + passes, m, outputs)``, with true labels first.
    """

    def __init__(self, use: LinearUse, errors: Tensor, memory: int) -> None:
        self._errors, self._memory = errors, memory
        self._passes = len(errors) - 1
        self._inputs = use.inputs if "weight" in use.parameters else use.inputs[:, :0]
        self._one = float("bias" in use.parameters)  # a bias is the weight of an input that is always one

    def pieces(self) -> Iterator[Rows]:
        inputs = (
            torch.cat([self._inputs, torch.ones_like(self._gradient[:, :1])], 1)
            if self._one
            else self._inputs
        )
        repeated = inputs.repeat(self._passes, 1)
        step = _step(inputs.shape[1] * (len(inputs) + len(repeated)), self._memory)
        for low in range(0, self._gradient.shape[1], step):
            yield (
                (self._gradient[:, low : low + step, None] * inputs[:, None]).flatten(1),
                (self._drawn[:, low : low + step, None] * repeated[:, None]).flatten(1),
            )

    @property
    def _gradient(self) -> Tensor:
        return self._errors[0]

    @property
    def _drawn(self) -> Tensor:
        return self._errors[1:].flatten(0, 1)

    def norms(self) -> Rows:
        norms = vecdot(self._errors, self._errors) * (vecdot(self._inputs, self._inputs) + self._one)
        return norms[0], norms[1:].flatten()

    def products(self) -> tuple[Tensor, Tensor, Tensor]:
        # <a x^T, b y^T> = <a, b> <x, y>: products of gradients without gradients; a bias adds one to <x, y>
        inputs = torch.addmm(self._inputs.new_full((1, 1), self._one), self._inputs, self._inputs.T)
        norms = inputs.diagonal() * self._gradient.square().sum(1)
        inputs = self._tiled(inputs)
        return (
            inputs[: len(self._gradient)] * (self._gradient @ self._drawn.T),
            inputs * (self._drawn @ self._drawn.T),
            norms,
        )

    def squares(self, shares: Tensor, drawn_shares: Tensor) -> Iterator[Rows]:
        # (a x^T)^2 = a^2 (x^2)^T entry by entry, so a weighted sum of squares is one product of matrices
        inputs, g, phi = self._inputs.square(), self._gradient.square(), self._drawn.square()
        repeated = inputs.repeat(self._passes, 1)
        of_g = [(g * share.to(g)[:, None]).T for share in shares]
        of_phi = [(phi * share.to(phi)[:, None]).T for share in drawn_shares]
        yield (
            torch.stack([(w @ inputs).flatten() for w in of_g]),
            torch.stack([(w @ repeated).flatten() for w in of_phi]),
        )
        if self._one:
            yield torch.stack([w.sum(1) for w in of_g]), torch.stack([w.sum(1) for w in of_phi])

    def _tiled(self, values: Tensor) -> Tensor:
        """Values of samples, or of pairs of them, as those of the rows of all passes."""
        return values if self._passes == 1 else values.repeat(*[self._passes] * values.ndim)


class LayerBlock(Block):
    """Parameters whose gradients are added up over all their uses: more than one where weights are tied or a
    layer is called twice.

    Args:
        parameters: those of this block, each with its uses: the call, the parameter's name in the layer, and
            the gradients of the call's outputs ``(1 + passes, m, ...)``, with true labels first.
    """

    def __init__(
        self, parameters: Sequence[tuple[nn.Parameter, Sequence[tuple[Use, str, Tensor]]]], memory: int
    ) -> None:
        self._parameters, self._memory = parameters, memory

    def pieces(self) -> Iterator[Rows]:
        for parameter, uses in self._parameters:
            passes, samples = uses[0][2].shape[:2]
            step = _step(parameter[0].numel() * samples * passes, self._memory)
            for low in range(0, len(parameter), step):
                rows = sum_of(
                    [use.rows(name, found, low, min(low + step, len(parameter))) for use, name, found in uses]
                ).flatten(2)
                yield rows[0], rows[1:].flatten(0, 1)


class DenseBlock(Block):
    """Gradients that are there as they are, ``(m, p)`` and ``(r, p)``."""

    def __init__(self, gradient: Tensor, drawn: Tensor) -> None:
        self._rows = (gradient, drawn)

    def pieces(self) -> Iterator[Rows]:
        yield self._rows


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Add tensors of one shape."""
    whole = tensors[0]
    for more in tensors[1:]:
        whole = whole + more
    return whole


def _total(parts: Iterator[tuple[Tensor, ...]]) -> Any:
    """Add tuples of tensors entry by entry, one at a time."""
    total = next(parts)
    for more in parts:
        total = tuple(a + b for a, b in zip(total, more, strict=True))
    return total


def _step(floats: int, memory: int) -> int:
    """How many rows of a parameter fit the bound, given the numbers that one row takes."""
    return max(1, memory // max(1, 4 * floats))
