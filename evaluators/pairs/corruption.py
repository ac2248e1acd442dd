"""Training tasks of a pair: its own, or one made harder by noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from evaluators.data.base import Data, Inputs
from spaces.calling import call, forward
from spaces.errors import InputError, require
from spaces.pairs.pair import VariationalPair
from spaces.structures import mapped

Kind = Literal["zero", "gaussian", "flip"]
KINDS: tuple[Kind, ...] = ("zero", "gaussian", "flip")


class Corruption(ABC):
    """The training loss of a pair; what is measured stays the data's own loss on whole inputs."""

    @abstractmethod
    def losses(
        self, pair: nn.Module, data: Data, inputs: Inputs, targets: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the loss of every sample, ``(batch,)``, differentiable. Noise comes from `generator`."""

    def check(self, pair: nn.Module) -> None:  # noqa: B027
        """Raise :class:`InputError` for a pair that it cannot teach."""


class Denoising(Corruption):
    """The float inputs are corrupted, the targets are not.

    Source: Vincent et al. 2008, doi 10.1145/1390156.1390294 [P] (``zero``); the other kinds are as usual.

    Args:
        share: of the entries that are hit; for ``gaussian`` the standard deviation of what is added to all.
        kind: ``zero`` (an entry becomes 0), ``gaussian``, or ``flip`` (x becomes 1 - x, for values in 0 ..
            1).

    Raises:
        InputError: a share or kind that is not accepted.
    """

    def __init__(self, share: float = 0.25, kind: Kind = "zero") -> None:
        noise = kind == "gaussian"
        expected = "a deviation of at least 0" if noise else "a share of 0 to 1"
        require(
            "training",
            (kind in KINDS, f"corruption of kind {kind!r}; expected {', '.join(KINDS)}"),
            (
                0 <= share <= (float("inf") if noise else 1),
                f"corruption with share {share}; expected {expected}",
            ),
        )
        self.share, self.kind = share, kind

    def losses(
        self, pair: nn.Module, data: Data, inputs: Inputs, targets: Tensor, generator: torch.Generator
    ) -> Tensor:
        return data.loss(forward(pair, self.corrupt(inputs, generator)), targets)

    def corrupt(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """Return corrupted copies of what is float among the inputs."""
        return mapped(lambda part: self._one(part, generator), inputs)

    def _one(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if not x.is_floating_point():
            return x
        if self.kind == "gaussian":
            return x + self.share * torch.randn(x.shape, generator=generator).to(x)
        hit = (torch.rand(x.shape, generator=generator) < self.share).to(x.device)
        return torch.where(hit, 1 - x if self.kind == "flip" else 0.0, x)


class Variational(Corruption):
    """Adds `beta` times the divergence of the latent distribution from a standard normal, for a
    :class:`VariationalPair`.

    Source: Kingma and Welling 2013 (arXiv 1312.6114); beta: Higgins et al. 2017. [P] The divergence, summed
    over the latent, is divided by the number of the target's entries, over which our losses average: with
    ``bce`` and a beta of 1 the loss is the bound on the log-likelihood, per entry.

    Args:
        beta: at least 0.
        denoising: corrupts the inputs as well.

    Raises:
        InputError: a negative beta, or, in training, a pair that is not variational.
    """

    def __init__(self, beta: float = 1.0, denoising: Denoising | None = None) -> None:
        if beta < 0:
            raise InputError(f"training: beta {beta}; expected a number of at least 0")
        self.beta, self.denoising = beta, denoising

    def losses(
        self, pair: nn.Module, data: Data, inputs: Inputs, targets: Tensor, generator: torch.Generator
    ) -> Tensor:
        self.check(pair)
        assert isinstance(pair, VariationalPair)
        given = self.denoising.corrupt(inputs, generator) if self.denoising else inputs
        mean, log_variance = pair.moments(call(pair.encoder, given))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
        losses = data.loss(pair.decoder(pair.draw(mean, log_variance) if pair.training else mean), targets)
        return losses + self.beta * len(targets) / targets.numel() * divergence

    def check(self, pair: nn.Module) -> None:
        if not isinstance(pair, VariationalPair):
            raise InputError(
                f"training: Variational of a {type(pair).__name__}; expected a spaces.VariationalPair"
            )
