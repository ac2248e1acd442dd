"""The steps of a supernet: of its weights on one split, of its architecture on another, in turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Batch, to_device
from evaluators.supernet.settings import SupernetSettings
from evaluators.supernet.surgery import remove
from evaluators.supernet.unrolled import unrolled_gradients
from evaluators.training.optimisation import train_mode
from spaces.calling import device_of, forward, gradients
from spaces.cells.mixed import Supernet


class Steps:
    """Trains a supernet one epoch at a time; what comes after follows from :meth:`state` alone.

    Args:
        supernet: whose weights learn from ``train`` and whose architecture learns from ``settings.held_out``.
        data: of both.
        settings: of the optimisers.
        seed: of the order of samples.

    Attributes:
        weights: optimiser of the weights; alphas: of the architecture.
    """

    def __init__(self, supernet: Supernet, data: Data, settings: SupernetSettings, seed: int) -> None:
        self.supernet, self.data, self.settings = supernet, data, settings
        self.weights = torch.optim.SGD(
            supernet.weights(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.alphas = torch.optim.Adam(
            supernet.architecture.parameters(),
            lr=settings.architecture_learning_rate,
            betas=(0.5, 0.999),
            weight_decay=settings.architecture_weight_decay,
        )
        splits: tuple[Split, Split] = ("train", settings.held_out)
        self._orders = {
            split: torch.Generator().manual_seed((seed + number) % 2**63)
            for number, split in enumerate(splits, 1)
        }
        # of how many operations, drawn how many (0: all), bytes that a forward pass keeps
        self._memory: tuple[int, ...] = (
            0,
            0,
            0,
        )

    @gradients()
    def epoch(self, rate: float, learning: bool) -> tuple[float, float | None]:
        """Train for one pass over ``train``.

        Args:
            rate: learning rate of the weights.
            learning: whether the architecture takes steps, too.

        Returns:
            The mean losses of the weights' and of the architecture's steps.
        """
        drawn = None if learning else self.settings.warmup_operations
        if drawn is not None:
            self._memory = (0, 0, 0)  # of others than before
        for group in self.weights.param_groups:
            group["lr"] = rate
        device = device_of(self.supernet)
        totals, samples = [torch.zeros((), dtype=torch.float64, device=device) for _ in range(2)], [0, 0]
        self.supernet.train()
        train_mode(self.supernet)
        others = self._cycle()
        for batch in self._batches("train"):
            if learning and self.alphas.param_groups[0]["params"]:
                held = next(others)
                totals[1] += self._learn_architecture(batch, held, rate) * len(held[1])
                samples[1] += len(held[1])
            self.supernet.architecture.draw(drawn)
            totals[0] += self._learn_weights(batch) * len(batch[1])
            samples[0] += len(batch[1])
        self.supernet.architecture.draw(None)
        return totals[0].item() / samples[0], totals[1].item() / samples[1] if samples[1] else None

    def _learn_weights(self, batch: Batch) -> Tensor:
        active = (
            self.supernet.architecture.size,
            max(map(len, self.supernet.architecture.drawn.values()), default=0),
        )
        if self._memory[:-1] == active:
            loss = self._loss(batch)
        else:
            kept: dict[int, int] = {}

            def keep(tensor: Tensor) -> Tensor:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = self._loss(batch)
            own = {p.untyped_storage().data_ptr() for p in self.supernet.parameters()}
            self._memory = (*active, sum(size for place, size in kept.items() if place not in own))
        weights = self.weights.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, self.settings.clip)
        self.weights.step()
        self.weights.zero_grad()
        return loss.detach().double()

    def _learn_architecture(self, batch: Batch, held: Batch, rate: float) -> Tensor:
        alphas = self.alphas.param_groups[0]["params"]
        if self.settings.order == 1:
            loss = self._loss(held)
            gradients = torch.autograd.grad(loss, alphas, allow_unused=True)
            value = loss.detach().double()
        else:
            values: list[Tensor] = []

            def held_loss() -> Tensor:
                values.append(self._loss(held))
                return values[-1]

            weights = self.weights.param_groups[0]["params"]
            momenta = [self.weights.state.get(weight, {}).get("momentum_buffer") for weight in weights]
            gradients = tuple(
                unrolled_gradients(
                    weights,
                    alphas,
                    lambda: self._loss(batch),
                    held_loss,
                    rate,
                    self.settings.weight_decay,
                    momenta,
                    self.settings.momentum,
                )
            )
            value = values[0].detach().double()
        for alpha, gradient in zip(alphas, gradients, strict=True):
            alpha.grad = gradient
        self.alphas.step()
        self.alphas.zero_grad()
        return value

    def _loss(self, batch: Batch) -> Tensor:
        inputs, targets = batch
        return self.data.loss(forward(self.supernet, inputs), targets).mean()

    def _batches(self, split: Split) -> Iterator[Batch]:
        """One pass over a split; a last batch of a single sample, which has no statistics, is left out."""
        device = device_of(self.supernet)
        for number, batch in enumerate(
            self.data.batches(split, self.settings.batch_size, self._orders[split])
        ):
            if number == 0 or len(batch[1]) > 1:
                yield to_device(batch, device)

    def _cycle(self) -> Iterator[Batch]:
        while True:
            yield from self._batches(self.settings.held_out)

    def remove(self, edge: str, kept: tuple[str, ...]) -> None:
        """Leave `kept` on ``kind/edge``, and nothing of the others in either optimiser."""
        remove(self.supernet, edge, kept, self.weights, self.alphas)

    def memory(self) -> int:
        """Return the bytes of the latest training step: parameters, buffers, gradients, moments, and what the
        forward pass kept.
        """
        held = sum(t.nbytes for t in chain(self.supernet.parameters(), self.supernet.buffers()))
        moving = [*self.weights.param_groups[0]["params"], *self.alphas.param_groups[0]["params"]]
        moments = chain.from_iterable(
            found.values() for o in (self.weights, self.alphas) for found in o.state.values()
        )
        return (
            held
            + sum(p.nbytes for p in moving)
            + sum(m.nbytes for m in moments if isinstance(m, Tensor))
            + self._memory[-1]
        )

    def state(self) -> dict[str, Any]:
        """Return optimisers and orders, in tensors and plain values."""
        return {
            "weights": copied(self.weights.state_dict()),
            "alphas": copied(self.alphas.state_dict()),
            "orders": {split: order.get_state() for split, order in self._orders.items()},
            "memory": list(self._memory),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave of a supernet that has the same operations left."""
        self.weights.load_state_dict(copied(state["weights"]))
        self.alphas.load_state_dict(copied(state["alphas"]))
        for split, order in state["orders"].items():
            self._orders[split].set_state(order)
        self._memory = tuple(state["memory"])


def copied(value: Any) -> Any:
    """Return a copy of nested plain data and tensors: what an optimiser goes on with is not what was put
    away.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value
