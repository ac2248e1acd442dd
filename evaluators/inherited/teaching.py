"""A teacher's outputs on the training samples, computed once where the samples are always the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evaluators.data.arrays import Arrays
from evaluators.data.base import Data
from evaluators.data.preloaded import batch_bytes, to_device
from spaces.calling import Inputs, device_of, forward, mode
from spaces.structures import joined, mapped, rows, samples

_BATCH = 256


class Lesson(NamedTuple):
    """A batch, what the teacher says of it, ``(n, ...)``, and which of its samples are labelled, ``(n,)``;
    None: all.
    """

    batch: Any
    outputs: Tensor
    labelled: Tensor | None = None


class Teacher:
    """Gives shuffled batches of the training split with the outputs of a model.

    Of :class:`~evaluators.data.Arrays` the outputs of the whole split are kept, so that a teacher that is a
    hundred times as large as its pupils costs one pass over the split; of data that make every batch anew it
    is asked every time.

    With `mixtures` the pupils see more than the samples: convex mixtures of two inputs (mixup, Zhang et al.
    2018, arXiv 1710.09412, with what the teacher says in the place of mixed labels, as in Beyer et al. 2021,
    arXiv 2106.05237 [P]); of integers, such as tokens, the beginning of the one and the end of the other [O].
    They have no labels; targets, for nothing, are the first sample's.

    Args:
        model: the teacher, on the device where its pupils are.
        mixtures: how many, drawn once beside the samples themselves; they are kept.
        seed: of what is mixed.
        limit_mib: largest amount of outputs that is kept.

    Attributes:
        kept: whether the outputs are kept.
    """

    def __init__(
        self, model: nn.Module, data: Data, limit_mib: float = 512, mixtures: int = 0, seed: int = 0
    ) -> None:
        self.model, self.data = model, data
        self._outputs: Tensor | None = None
        self._targets: Any = None
        self._inputs: Inputs = ()
        self._labelled = 0
        if mixtures:
            self._mix(mixtures, torch.Generator().manual_seed(seed))
        elif isinstance(data, Arrays) and type(data).batches is Arrays.batches:
            said = [(self._ask(inputs), targets) for inputs, targets in data.batches("train", _BATCH)]
            if sum(batch_bytes(pair) for pair in said) <= limit_mib * 2**20:
                self._outputs, self._targets = (torch.cat(parts) for parts in zip(*said, strict=True))
        self.kept = self._outputs is not None

    def batches(self, size: int, order: torch.Generator) -> Iterator[Lesson]:
        """Yield lessons, once over the training split, the batches that the data give in this order; with
        mixtures once over these and the samples, in an order of its own."""
        if self._labelled and self._outputs is not None and self._targets is not None:
            for part in torch.randperm(len(self._outputs), generator=order).split(size):
                batch = rows((self._inputs, self._targets), part)
                yield Lesson(batch, self._outputs[part.to(self._outputs.device)], part < self._labelled)
            return
        drawn = None
        if self._outputs is not None:
            same = torch.Generator()
            same.set_state(order.get_state())
            drawn = torch.randperm(len(self._outputs), generator=same)
        for number, batch in enumerate(self.data.batches("train", size, order)):
            if drawn is None or self._outputs is None or self._targets is None:
                yield Lesson(batch, self._ask(to_device(batch, device_of(self.model))[0]))
                continue
            part = drawn[number * size : (number + 1) * size]
            if not torch.equal(self._targets[part], batch[1]):
                raise AssertionError("the batches do not come in the order of their generator")
            yield Lesson(batch, self._outputs[part.to(self._outputs.device)])

    def _mix(self, mixtures: int, generator: torch.Generator) -> None:
        """Draw mixtures of the training samples, and ask the teacher of them all."""
        inputs, targets = joined(list(self.data.batches("train", _BATCH)))
        self._labelled = samples(targets, inputs)
        one, other = (torch.randint(self._labelled, (mixtures,), generator=generator) for _ in range(2))
        share = torch.rand(mixtures, generator=generator)
        self._inputs = mapped(lambda x: torch.cat([x, _mixed(x[one], x[other], share)]), inputs)
        self._targets = joined([targets, rows(targets, one)])
        parts = torch.arange(self._labelled + mixtures).split(_BATCH)
        self._outputs = torch.cat([self._ask(rows(self._inputs, part)) for part in parts])

    def _ask(self, inputs: Any) -> Tensor:
        with mode(self.model, False), torch.no_grad():
            return forward(self.model, inputs)


def _mixed(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Return mixtures ``(n, ...)``: `share` of the first and the rest of the second, of integers by position
    along axis 1.
    """
    if one.is_floating_point():
        weight = share.to(one).reshape(-1, *[1] * (one.ndim - 1))
        return weight * one + (1 - weight) * other
    if one.ndim == 1:
        return torch.where(share < 0.5, other, one)
    first = torch.arange(one.shape[1]) < (share * one.shape[1]).round()[:, None]
    return torch.where(first.reshape(*first.shape, *[1] * (one.ndim - 2)), one, other)
