"""How a cell prunes its pair: which mutation, how much, and what it may know."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.cost.planned import PlannedCosts
from evaluators.data.base import Data
from evaluators.pairs.evaluator import PairTraining
from operators.controller import Controller
from operators.criteria import removal_losses
from operators.repair import fold
from search.coevolution.rules import CellRules
from search.coevolution.tensors import zero
from spaces.pairs.mixed import Pairs


@dataclass(frozen=True, eq=False)
class Child:
    """A pair in the making: its genome, and what was done to it so far."""

    genome: np.ndarray
    done: tuple[str, ...] = ()


class CellPruning:
    """Mutates the masks of pairs by the rules of a coevolution.

    Args:
        rules: of the coevolution.
        space: of the pairs.
        training: bound to the data on which units are watched.
    """

    def __init__(self, rules: CellRules, space: Pairs, training: PairTraining) -> None:
        self.rules, self.space, self.training = rules, space, training

    def mask(self, pair: nn.Module, genome: np.ndarray) -> dict[str, Tensor]:
        """Return the masks that persist, after they were put on."""
        if not self.rules.persistent:
            return {}
        masks = self.space.masks(genome)
        zero(pair, masks)
        return masks

    def prune(
        self, step: int, child: Child, pair: Any, controller: Controller | None, rng: np.random.Generator
    ) -> tuple[Child, int]:
        """Mutate the masks once; where they do not persist, only the weights. Returns the controller's arm as
        well.
        """
        arm = int(rng.integers(len(self.rules.pruning))) if controller is None else controller.choose(rng)
        mutation = self.rules.pruning[arm] if controller is None else controller.mutation(arm)
        # the schedule of sizes, where there is one, says how much goes; else the mutation's own amount does
        amount = self.rules.amount(step, self._kept(child.genome, mutation.counts))
        if amount is not None:
            mutation = copy.copy(mutation)
            mutation.amount = amount
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        cases = [next(iter(self._data.batches(self.rules.cases_split, self.rules.cases, generator)))]
        self.mask(pair, child.genome)  # halves of two pairs: what one of them has lost is lost
        guide = {name: self._guide(name, pair, child.genome, cases) for name in mutation.needs}
        before = (
            child.genome
            if self.rules.persistent
            else self.space.whole(*self.space.architectures(child.genome))
        )
        genome = mutation(self.space, before[None], guide, rng)[0]
        names = (_name(mutation), "bounded") if mutation.kept_by_floor else (_name(mutation),)
        if not self.rules.persistent:  # weights become zero, and may grow again: no mask is kept
            zero(pair, self.space.masks(genome))
            return Child(child.genome, names), arm
        (space, old), (_, new) = self.space.inside(child.genome), self.space.inside(genome)
        units = space.plan.length
        fold(pair, space.plan, old[:units] > new[:units], cases)
        return Child(genome, names), arm

    def _kept(self, genome: np.ndarray, counts: str) -> float:
        """The share of its loci, or of its parameters, that a pair keeps; architectures that are idle do not
        count.
        """
        if counts == "loci":
            return float(self.space.inside(genome)[1].mean())
        kept, whole = self.space.parameters(
            np.stack([genome, self.space.whole(*self.space.architectures(genome))])
        )
        return float(kept / whole)

    def _guide(self, name: str, pair: nn.Module, genome: np.ndarray, cases: Sequence[Any]) -> np.ndarray:
        """What a mutation may know (:data:`search.coevolution.strategy.GUIDE`)."""
        if name == "outputs":
            return self.space.record(pair, cases)
        if name == "outgoing":
            return self.space.outgoing(pair)
        space, bits = self.space.inside(genome)
        units = bits[: space.plan.length]
        if name == "removal":
            return self.space.outside(
                genome, removal_losses(pair, cases, space.plan, self._data.loss, units == 1)
            )
        less = PlannedCosts(space.plan)(np.vstack([units, units & ~np.eye(len(units), dtype=np.uint8)]))[
            "params"
        ]
        return self.space.outside(genome, 1 - less[1:] / less[0])

    @property
    def _data(self) -> Data:
        assert self.training.data is not None  # or it would not have been bound
        return self.training.data


def _name(mutation: object) -> str:
    """``VariancePruning`` -> ``variance``."""
    return type(mutation).__name__.removesuffix("Pruning").lower()
