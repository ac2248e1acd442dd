"""One search of cells: a supernet is trained, and loses operations as a rule says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.assessment import assess
from evaluators.counting import count
from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Batch, Preloaded, to_device
from evaluators.optimisation import train_mode
from evaluators.supernet.record import EpochRecord
from evaluators.supernet.settings import SupernetSettings
from evaluators.supernet.surgery import remove
from evaluators.supernet.unrolled import unrolled_gradients
from evaluators.training import Training, fit
from operators.forward import device_of, forward
from operators.stability import Histories, Rule, window_divergences
from spaces.cells import genotype as text
from spaces.cells.design import Design
from spaces.cells.mixed import Supernet
from spaces.errors import InputError

_WINDOW = 5
"""Checks in a window of the divergences that are shown, where a rule has none of its own."""


class SupernetTraining:
    """Trains a supernet epoch by epoch; what comes after an epoch follows from :meth:`state` alone, bit by bit.

    Args:
        design: network, graph, operations, places.
        data: the weights learn from ``train``, the architecture from ``settings.held_out``.
        settings: of the training.
        seed: of first weights, first architecture, and the order of samples. torch's generator is seeded with it.

    Attributes:
        supernet: as it is now.
        records: of all epochs so far.
    """

    def __init__(self, design: Design, data: Data, settings: SupernetSettings | None = None, seed: int = 0) -> None:
        self.design, self.data, self.seed = design, data, seed
        self.settings = settings or SupernetSettings()
        self._begin()

    def _begin(self) -> None:
        torch.manual_seed(self.seed % 2**63)
        held = self.settings
        self.supernet: Supernet = self.design.supernet(held.share, held.normalise)
        self.records: list[EpochRecord] = []
        self.histories = Histories()
        self._weights = torch.optim.SGD(
            self.supernet.weights(), lr=held.learning_rate, momentum=held.momentum, weight_decay=held.weight_decay
        )
        self._alphas = torch.optim.Adam(
            self.supernet.architecture.parameters(),
            lr=held.architecture_learning_rate,
            betas=(0.5, 0.999),
            weight_decay=held.architecture_weight_decay,
        )
        self._orders = {split: torch.Generator().manual_seed((self.seed + number) % 2**63) for number, split in enumerate(self._splits, 1)}
        self._memory: tuple[int, int] = (0, 0)  # of how many operations, and bytes that their forward pass keeps
        self._macs: tuple[int, float] = (0, 0.0)

    @property
    def _splits(self) -> tuple[Split, Split]:
        return "train", self.settings.held_out

    def to(self, device: torch.device | str) -> SupernetTraining:
        """Train there; call it before the first epoch."""
        self.supernet.to(device)
        return self

    # -- searching --------------------------------------------------------------------------------------------------------------

    def run(self, epochs: int, rule: Rule, state: Mapping[str, Any] | None = None) -> Iterator[EpochRecord]:
        """Train until `epochs` are done or the rule says that nothing is left to decide; yield a record an epoch.

        Args:
            epochs: in all, those of `state` included; the learning rate's schedule spans them.
            rule: what is removed, and when.
            state: go on from there; None: from where this training is.

        Raises:
            InputError: the architecture would never move, or did not.
        """
        check_length(epochs, self.settings, rule)
        if state is not None:
            self.restore(state)
        while len(self.records) < epochs and not self._done(epochs, rule):
            yield self.epoch(epochs, rule)

    def epoch(self, epochs: int, rule: Rule) -> EpochRecord:
        """Train one epoch of `epochs`, then remove what the rule says."""
        began, cpu_began = time.perf_counter(), time.process_time()
        number = len(self.records) + 1
        learning = number > self.settings.warmup
        before = {edge: self._raw(edge) for edge in self.supernet.architecture.alphas} if learning else {}
        rate = self._rate(number, epochs)
        for group in self._weights.param_groups:
            group["lr"] = rate
        macs, parameters = self._cost()
        losses = self._train(rate, learning)
        importances = self._importances()
        removed: dict[str, list[str]] = {}
        if learning:
            if before and all(torch.equal(before[edge], self._raw(edge)) for edge in before):
                raise InputError(
                    f"supernet: epoch {number} left every architecture parameter as it was; expected an "
                    "architecture_learning_rate that moves them, and operations whose outputs differ"
                )
            for edge, row in importances.items():
                self.histories.record(edge, tuple(row), list(row.values()))
        divergences = self._divergences(rule)
        if learning:
            removed = self._remove(number, epochs, rule)
        record = EpochRecord(
            number,
            *losses,
            importances,
            divergences,
            removed,
            macs,
            parameters,
            self._bytes(),
            time.perf_counter() - began,
            time.process_time() - cpu_began,
        )
        self.records.append(record)
        return record

    def _done(self, epochs: int, rule: Rule) -> bool:
        return len(self.records) > self.settings.warmup and rule.done(len(self.records), epochs, self.histories.edges)

    def _rate(self, number: int, epochs: int) -> float:
        share = 0.5 * (1 + math.cos(math.pi * (number - 1) / max(1, epochs)))
        return self.settings.learning_rate * (0.01 + 0.99 * share)

    def _train(self, rate: float, learning: bool) -> tuple[float, float | None]:
        """Return the mean losses of the weights' and of the architecture's steps."""
        device = device_of(self.supernet)
        totals, samples = [torch.zeros((), dtype=torch.float64, device=device) for _ in range(2)], [0, 0]
        self.supernet.train()
        train_mode(self.supernet)
        others = self._cycle()
        for batch in self._batches("train"):
            if learning and self._alphas.param_groups[0]["params"]:
                held = next(others)
                totals[1] += self._learn_architecture(batch, held, rate) * len(held[1])
                samples[1] += len(held[1])
            totals[0] += self._learn_weights(batch) * len(batch[1])
            samples[0] += len(batch[1])
        return totals[0].item() / samples[0], totals[1].item() / samples[1] if samples[1] else None

    def _learn_weights(self, batch: Batch) -> Tensor:
        active = self._active()
        if self._memory[0] == active:
            loss = self._loss(batch)
        else:
            kept: dict[int, int] = {}

            def keep(tensor: Tensor) -> Tensor:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = self._loss(batch)
            own = {p.untyped_storage().data_ptr() for p in self.supernet.parameters()}
            self._memory = (active, sum(size for place, size in kept.items() if place not in own))
        weights = self._weights.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, self.settings.clip)
        self._weights.step()
        self._weights.zero_grad()
        return loss.detach().double()

    def _learn_architecture(self, batch: Batch, held: Batch, rate: float) -> Tensor:
        alphas = self._alphas.param_groups[0]["params"]
        if self.settings.order == 1:
            loss = self._loss(held)
            gradients = torch.autograd.grad(loss, alphas, allow_unused=True)
            value = loss.detach().double()
        else:
            values: list[Tensor] = []

            def held_loss() -> Tensor:
                values.append(self._loss(held))
                return values[-1]

            weights = self._weights.param_groups[0]["params"]
            momenta = [self._weights.state.get(weight, {}).get("momentum_buffer") for weight in weights]
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
        self._alphas.step()
        self._alphas.zero_grad()
        return value

    def _loss(self, batch: Batch) -> Tensor:
        inputs, targets = batch
        return self.data.loss(forward(self.supernet, inputs), targets).mean()

    def _batches(self, split: Split) -> Iterator[Batch]:
        """One pass over a split; a last batch of a single sample, which has no statistics, is left out."""
        device = device_of(self.supernet)
        for number, batch in enumerate(self.data.batches(split, self.settings.batch_size, self._orders[split])):
            if number == 0 or len(batch[1]) > 1:
                yield to_device(batch, device)

    def _cycle(self) -> Iterator[Batch]:
        while True:
            yield from self._batches(self.settings.held_out)

    def _remove(self, number: int, epochs: int, rule: Rule) -> dict[str, list[str]]:
        rng = np.random.default_rng([self.seed, number])
        removed = {}
        for edge, kept in rule.keep(number, epochs, self.histories.edges, rng).items():
            removed[edge] = [name for name in self.supernet.architecture.named(edge) if name not in kept]
            remove(self.supernet, edge, kept, self._weights, self._alphas)
            self.histories.reset(edge, self.supernet.architecture.named(edge))
        return removed

    # -- what is known ----------------------------------------------------------------------------------------------------------

    @property
    def genotype(self) -> str:
        """The cell as it would be now: of every node the strongest edges, of every edge its best operation."""
        architecture = self.supernet.architecture
        best = {edge: architecture.named(edge)[int(architecture.importances(edge).argmax())] for edge in architecture.active}
        return text.write(self.design.discretise(architecture.strengths(), best))

    def ranked(self) -> dict[str, dict[str, float]]:
        """Return what is left on every ``kind/edge`` with its importance, the most important first."""
        return {edge: dict(sorted(row.items(), key=lambda item: -item[1])) for edge, row in self._importances().items()}

    def _importances(self) -> dict[str, dict[str, float]]:
        architecture = self.supernet.architecture
        return {
            edge: dict(zip(architecture.named(edge), architecture.importances(edge).tolist(), strict=True)) for edge in architecture.active
        }

    def _divergences(self, rule: Rule) -> dict[str, float | None]:
        window = int(getattr(rule, "window", _WINDOW))
        found: dict[str, float | None] = dict.fromkeys(self.supernet.architecture.active)
        for edge, history in self.histories.edges.items():
            values = window_divergences(history.importances, window) if len(history.operations) > 1 else np.empty(0)
            found[edge] = float(values[-1]) if len(values) else None
        return found

    def _raw(self, edge: str) -> Tensor:
        return self.supernet.architecture.alphas[edge].detach().clone()

    def _active(self) -> int:
        return sum(len(names) for names in self.supernet.architecture.active.values())

    def _cost(self) -> tuple[float, int]:
        if self._macs[0] != self._active():
            device = device_of(self.supernet)
            example = tuple(x.to(device) for x in self.data.example())
            self._macs = (self._active(), count(self.supernet, example)["macs"])
        return self._macs[1], sum(parameter.numel() for parameter in self.supernet.parameters())

    def _bytes(self) -> int:
        """Bytes of the latest training step: parameters, buffers, gradients, moments, and what the forward pass kept for the backward."""
        held = sum(t.nbytes for t in chain(self.supernet.parameters(), self.supernet.buffers()))
        moving = [*self._weights.param_groups[0]["params"], *self._alphas.param_groups[0]["params"]]
        moments = chain.from_iterable(found.values() for o in (self._weights, self._alphas) for found in o.state.values())
        return held + sum(p.nbytes for p in moving) + sum(m.nbytes for m in moments if isinstance(m, Tensor)) + self._memory[1]

    # -- putting away -----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that another process needs, in tensors and plain values."""
        return {
            "seed": self.seed,
            "active": {edge: list(names) for edge, names in self.supernet.architecture.active.items()},
            "supernet": {name: tensor.detach().clone() for name, tensor in self.supernet.state_dict().items()},
            "weights": _copied(self._weights.state_dict()),
            "alphas": _copied(self._alphas.state_dict()),
            "histories": self.histories.state(),
            "records": [asdict(record) for record in self.records],
            "orders": {split: order.get_state() for split, order in self._orders.items()},
            "memory": list(self._memory),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave of a training of the same design, data and settings; torch's random numbers, too."""
        device = device_of(self.supernet)
        self.seed = state["seed"]
        self._begin()
        self.supernet.to(device)
        for edge, names in state["active"].items():
            kept = tuple(name for name in names if name in self.supernet.architecture.named(edge))
            if len(kept) < len(self.supernet.architecture.named(edge)):
                remove(self.supernet, edge, kept, self._weights, self._alphas)
        self.supernet.load_state_dict(state["supernet"])
        self._weights.load_state_dict(_copied(state["weights"]))
        self._alphas.load_state_dict(_copied(state["alphas"]))
        self.histories = Histories.of(state["histories"])
        self.records = [EpochRecord(**record) for record in state["records"]]
        for split, order in state["orders"].items():
            self._orders[split].set_state(order)
        self._memory = (state["memory"][0], state["memory"][1])
        torch.set_rng_state(state["random"])

    # -- afterwards -------------------------------------------------------------------------------------------------------------

    def retrain(self, genotype: str, seed: int, epochs: int, training: Training | None = None) -> dict[str, float]:
        """Train a cell anew, with all channels; return ``loss`` and metrics of the search split, those of the test split, params and macs.

        Args:
            training: settings, of which `epochs` replaces the epochs; None: the default ones.
        """
        settings = training or Training()
        arguments = {name: value for name, value in vars(settings).items() if name in _TRAINING}
        torch.manual_seed(seed % 2**63)
        network = self.design.build(text.read(genotype)).to(device_of(self.supernet))
        metrics: dict[str, float] = {}
        for report in fit(network, self.data, Training(**(arguments | {"epochs": epochs}))):
            metrics = report.metrics
        test = assess(network, self.data, Preloaded(self.data).batches("test", 256, device_of(network)))
        cost = count(network, tuple(x.to(device_of(network)) for x in self.data.example()))
        return metrics | {f"test_{name}": value for name, value in test.items()} | {name: cost[name] for name in ("params", "macs")}

    def random_genotype(self, seed: int) -> str:
        """Return a cell drawn at random, the control of every search."""
        from spaces.cells.space import CellSpace

        space = CellSpace.of(self.design)
        return space.write(space.sample(1, np.random.default_rng(seed))[0])


def check_length(epochs: int, settings: SupernetSettings, rule: Rule) -> None:
    """See that the architecture gets to move, and the rule to decide.

    Raises:
        InputError: the warm-up, or what the rule has to see, is longer than the search.
    """
    if settings.warmup >= epochs:
        raise InputError(f"supernet: warmup {settings.warmup} of {epochs} epochs: the architecture would never move; expected fewer")
    if settings.warmup + rule.needs > epochs:
        raise InputError(
            f"supernet: {type(rule).__name__} decides after {rule.needs} checks, but {epochs} epochs less a warmup of {settings.warmup} "
            f"give {epochs - settings.warmup}; expected at least {settings.warmup + rule.needs} epochs"
        )


_TRAINING = ("optimiser", "learning_rate", "weight_decay", "batch_size", "schedule", "clip", "monitor", "keep_best", "patience")


def _copied(value: Any) -> Any:
    """Return a copy of nested plain data and tensors: what an optimiser goes on with is not what was put away."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
