"""The estimators of the bias Tr((F + lambda I)^-1 C), from per-sample gradients in blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache, cached_property

import torch
from torch import Tensor

from evaluators.tic.blocks import Rows
from evaluators.tic.gradients import Gradients
from spaces.errors import InputError

EXACT_LIMIT = 5000
"""Most parameters for which the matrices themselves are made."""


LEAST = 1e-6
"""Least Tr F, as a share of Tr C: a saturated model draws its own labels only, so that F underflows where one
wrong label is left. [O]
"""


class Halves:
    """Random halves of the samples, for standard errors: without replacement, since a bootstrap's duplicates
    fake a match of g and f. [O]

    The value on a random half scatters around that on all samples by the standard error of the latter.

    Attributes:
        indices: ``(splits * 2, samples // 2)``, halves and their complements.
        shares, drawn_shares: what samples, and rows of all passes, count in the mean of each half,
            ``(splits * 2, m)`` and ``(..., r)``.
        all_shares, all_drawn: the same with the mean over all of them first.
    """

    def __init__(self, samples: int, passes: int, splits: int) -> None:
        generator = torch.Generator().manual_seed(0)  # the same halves for whatever is compared
        half = samples // 2
        orders = [torch.randperm(samples, generator=generator) for _ in range(splits)]
        parts = [part for order in orders for part in (order[:half], order[half : 2 * half])]
        self.indices = torch.stack(parts) if parts else torch.empty(0, half, dtype=torch.long)
        # the rows of a drawn pass stand behind those of the pass before: a half has the same samples in each
        self.rows = torch.cat([self.indices + samples * i for i in range(passes)], 1)
        self._width = samples * passes
        self.shares = self._shares(self.indices, samples, half)
        self.drawn_shares = self._shares(self.rows, samples * passes, half)
        everything = torch.full((1, samples), 1.0 / samples, dtype=torch.float64)
        self.all_shares = torch.cat([everything, self.shares])
        self.all_drawn = torch.cat([everything.repeat(1, passes), self.drawn_shares])

    @cached_property
    def cross(self) -> Tensor:
        """Where products of a half's samples with its drawn rows lie among those of all, flattened."""
        return self.indices[:, :, None] * self._width + self.rows[:, None, :]

    @cached_property
    def kernel(self) -> Tensor:
        """The same of its drawn rows with each other."""
        return self.rows[:, :, None] * self._width + self.rows[:, None, :]

    @staticmethod
    def _shares(indices: Tensor, width: int, half: int) -> Tensor:
        return torch.zeros(len(indices), width, dtype=torch.float64).scatter_(1, indices, 1.0 / half)


class Estimator(ABC):
    """Bias of all samples, and of every half of them.

    Args:
        splits: how often the samples are halved; 0 where no standard error is wanted.
    """

    def __init__(self, splits: int = 8) -> None:
        self.splits = splits

    def __call__(self, found: Gradients, damping: float) -> Tensor:
        """Return ``(1 + halves,)`` values in double precision: that of all samples first.

        Args:
            damping: lambda / Tr F.
        """
        halves = _halves(found.samples, found.passes, self.splits)
        g, f = self._norms(found)
        floor = damping * max(float(f.sum()), LEAST * float(g.sum())) / found.samples
        if floor == 0:  # no parameter moves any loss, so nothing was fitted
            return torch.zeros(1 + len(halves.indices), dtype=torch.float64)
        return self._estimate(found, floor, halves)

    def _norms(self, found: Gradients) -> Rows:
        return found.norms

    @abstractmethod
    def _estimate(self, found: Gradients, floor: float, halves: Halves) -> Tensor:
        """Return the values; `floor` is lambda."""


class Trace(Estimator):
    """Tr C / Tr F, a lower bound of the diagonal at lambda = 0. [P]"""

    def _estimate(self, found: Gradients, floor: float, halves: Halves) -> Tensor:
        g, f = found.norms
        fisher, tops = halves.all_drawn @ f, halves.all_shares @ g
        return tops / fisher.maximum(LEAST * tops).clamp_min(torch.finfo(fisher.dtype).tiny)


class Diagonal(Estimator):
    """The sum of c_i / (f_i + lambda). [P]"""

    def _estimate(self, found: Gradients, floor: float, halves: Halves) -> Tensor:
        total = torch.zeros(len(halves.all_shares), dtype=torch.float64)
        for block in found.blocks:
            for c, fisher in block.squares(halves.all_shares, halves.all_drawn):
                total += (c / (fisher + floor)).sum(1, dtype=torch.float64).cpu()
        return total


class Gram(Estimator):
    """The whole matrices, in sample space: m x m products instead of d x d ones. Equal to
    :class:`Exact`. [O]
    """

    def _norms(self, found: Gradients) -> Rows:
        _ = found.products  # they hold the norms as well
        return found.norms

    def _estimate(self, found: Gradients, floor: float, halves: Halves) -> Tensor:
        return _in_sample_space(found, floor, halves)


class BlockWise(Estimator):
    """The whole matrices layer by layer, as if gradients of two layers had nothing in common. [P]"""

    def _estimate(self, found: Gradients, floor: float, halves: Halves) -> Tensor:
        alone = [Gradients([block], found.samples, found.passes) for block in found.blocks]
        return torch.stack([_in_sample_space(layer, floor, halves) for layer in alone]).sum(0)


class Exact(Estimator):
    """The formula as it stands, with d x d matrices: the reference. [P]

    Raises:
        InputError: more than :data:`EXACT_LIMIT` parameters.
    """

    def _estimate(self, found: Gradients, floor: float, halves: Halves) -> Tensor:
        pieces = [piece for block in found.blocks for piece in block.pieces()]
        matrix, drawn = (torch.cat([piece[i] for piece in pieces], 1).double().cpu() for i in (0, 1))
        if matrix.shape[1] > EXACT_LIMIT:
            raise InputError(
                f"TIC: estimator 'exact' with {matrix.shape[1]} parameters; expected at most {EXACT_LIMIT}, "
                f"or 'gram', its equal"
            )

        def value(rows: Tensor, drawn_rows: Tensor) -> Tensor:
            fisher = drawn_rows.T @ drawn_rows / len(rows)
            fisher.diagonal().add_(floor)
            return torch.linalg.solve(fisher, rows.T @ rows / len(rows)).trace()

        parts = [
            (matrix, drawn),
            *((matrix[i], drawn[r]) for i, r in zip(halves.indices, halves.rows, strict=True)),
        ]
        return torch.stack([value(*part) for part in parts])


ESTIMATORS: dict[str, type[Estimator]] = {
    "exact": Exact,
    "block": BlockWise,
    "diagonal": Diagonal,
    "trace": Trace,
    "gram": Gram,
}


@cache
def _halves(samples: int, passes: int, splits: int) -> Halves:
    return Halves(samples, passes, splits)


def _in_sample_space(found: Gradients, floor: float, halves: Halves) -> Tensor:
    """(Tr C - Tr(B (K + lambda I)^-1 B^T)) / lambda with B = G Phi^T / m and K = Phi Phi^T / m; Tr(B ... B^T)
    / m as C is a mean.
    """
    # Woodbury: the inverse of a d x d matrix of rank r becomes one of an r x r matrix
    cross, kernel, g = found.products
    whole = _bias(g.mean(), cross[None], kernel[None], floor, found.samples)
    if not len(halves.indices):
        return whole
    of_halves = cross.take(halves.cross), kernel.take(halves.kernel)
    return torch.cat([whole, _bias(halves.shares @ g, *of_halves, floor, halves.indices.shape[1])])


def _bias(trace: Tensor, cross: Tensor, kernel: Tensor, floor: float, samples: int) -> Tensor:
    """Return the bias of each of ``(b, m, r)`` and ``(b, r, r)`` products, given Tr C of each."""
    damped = kernel / samples
    damped.diagonal(dim1=-2, dim2=-1).add_(floor)
    root = torch.linalg.cholesky(damped)
    # |L^-1 B^T|^2 = Tr(B (K + lambda I)^-1 B^T)
    solved = torch.linalg.solve_triangular(root, cross.transpose(-1, -2), upper=False)
    return (trace - solved.square().sum((-1, -2)) / samples**2) / floor
