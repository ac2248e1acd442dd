"""A space of your own from the ground up: linear layers of a trained model, factorised to any rank, by five
methods.

python examples/custom_spaces/low_rank.py            # some seconds on one core
"""

from __future__ import annotations

import copy
import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from secateur import (
    Cost,
    Digits,
    Evolution,
    Perceptron,
    Quality,
    Result,
    Search,
    Segment,
    Space,
    Training,
    fit,
)
from spaces.testing import SpaceContract


class LowRank(Space):
    """One locus a linear layer: the rank of its weight, in `levels` even steps; the highest leaves the layer
    as it is.

    Args:
        model: trained; it is never changed.
        levels: ranks to choose from, 2 to 256.
    """

    def __init__(self, model: nn.Module, levels: int = 8) -> None:
        self.model = model
        self.ranks: dict[str, list[int]] = {}
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and min(module.weight.shape) > 1:
                full = min(module.weight.shape)
                self.ranks[name] = sorted(
                    {max(1, round(full * level / levels)) for level in range(1, levels + 1)}
                )
        self.segments = tuple(Segment(name, 1, len(ranks)) for name, ranks in self.ranks.items())

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.ranks).encode()).hexdigest()

    @property
    def base(self) -> np.ndarray:
        return (self.choices - 1).astype(np.uint8)

    @property
    def alleles(self) -> dict[str, tuple[float | int | str, ...]]:
        return {name: tuple(ranks) for name, ranks in self.ranks.items()}

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.choices, size=(n, self.length)).astype(np.uint8)

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        return np.minimum(genomes, self.base)

    def build(self, genome: np.ndarray) -> nn.Module:
        self.check(genome[None])
        model = copy.deepcopy(self.model)
        for (name, ranks), allele in zip(self.ranks.items(), genome.tolist(), strict=True):
            if allele < len(ranks) - 1:
                parent, _, leaf = name.rpartition(".")
                layer = model.get_submodule(name)
                setattr(model.get_submodule(parent), leaf, factorised(layer, ranks[allele]))
        return model

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        return {
            name: ranks[allele]
            for (name, ranks), allele in zip(self.ranks.items(), genome.tolist(), strict=True)
        }


@torch.no_grad()
def factorised(layer: nn.Module, rank: int) -> nn.Sequential:
    """Return the two thin layers that are nearest to a linear layer (Eckart and Young 1936)."""
    assert isinstance(layer, nn.Linear)
    u, s, v = torch.linalg.svd(layer.weight, full_matrices=False)
    first, second = (
        nn.Linear(layer.in_features, rank, bias=False),
        nn.Linear(rank, layer.out_features, bias=layer.bias is not None),
    )
    first.weight.copy_(s[:rank, None] * v[:rank])
    second.weight.copy_(u[:, :rank])
    if layer.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second).train(layer.training)


class TestLowRank(SpaceContract):
    """Thirty checks of what strategies, workers and the ledger rely on:
    ``pytest examples/custom_spaces/low_rank.py``.
    """

    def space(self) -> Space:
        return LowRank(Perceptron((64, 24, 24, 10)))

    def inputs(self) -> tuple[Tensor, ...]:
        return (torch.zeros(2, 1, 8, 8),)


def run(evaluations: int = 100, epochs: int = 20) -> Result:
    data = Digits()
    torch.manual_seed(0)
    model = Perceptron((64, 48, 48, 10))
    for _ in fit(model, data, Training(epochs=epochs)):
        pass
    search = Search(
        model,
        data,
        space=lambda model, example: LowRank(model),
        evaluators=[Cost(), Quality()],
        constraints=["macs <= 70%"],
        strategy=Evolution(population=16),
        lag=8,
        chunk=4,
    )
    return search.run(evaluations=evaluations)


def main() -> None:
    torch.set_num_threads(1)
    result = run()
    for member in result.front:
        ranks = result.problem.space.describe(member.candidate.genome)
        print(f"error {member.metrics['error']:.3f}   {member.metrics['macs']:>6,.0f} MACs   {ranks}")


if __name__ == "__main__":
    main()
