"""One search of cells: a supernet is trained, and loses operations as a rule says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.cost.counting import count
from evaluators.data.base import Data
from evaluators.supernet.record import EpochRecord
from evaluators.supernet.retraining import retrain
from evaluators.supernet.settings import SupernetSettings
from evaluators.supernet.steps import Steps
from evaluators.training.evaluator import Training
from operators.stability import Histories, Rule, window_divergences
from spaces.calling import device_of, placed
from spaces.cells import genotype as text
from spaces.cells.design import Design
from spaces.cells.mixed import Supernet
from spaces.cells.space import CellSpace
from spaces.errors import InputError


class SupernetTraining:
    """Trains a supernet epoch by epoch; what comes after an epoch follows from :meth:`state` alone, bit by
    bit.

    Args:
        design: network, graph, operations, places.
        data: the weights learn from ``train``, the architecture from ``settings.held_out``.
        settings: of the training.
        seed: of first weights, first architecture, and the order of samples. torch's generator is seeded with
            it.

    Attributes:
        supernet: as it is now.
        records: of all epochs so far.
    """

    def __init__(
        self, design: Design, data: Data, settings: SupernetSettings | None = None, seed: int = 0
    ) -> None:
        self.design, self.data, self.seed = design, data, seed
        self.settings = settings or SupernetSettings()
        self._begin()

    def _begin(self) -> None:
        torch.manual_seed(self.seed % 2**63)
        held = self.settings
        self.supernet: Supernet = self.design.supernet(held.share, held.normalise)
        self.records: list[EpochRecord] = []
        self.histories = Histories()
        self._steps = Steps(self.supernet, self.data, held, self.seed)
        self._macs: tuple[tuple[int, int | None], float] = ((0, None), 0.0)

    def to(self, device: torch.device | str) -> SupernetTraining:
        """Train there; call it before the first epoch."""
        self.supernet.to(device)
        return self

    # -- searching -------------------------------------------------------------------------------------------

    def run(self, epochs: int, rule: Rule, state: Mapping[str, Any] | None = None) -> Iterator[EpochRecord]:
        """Train until `epochs` are done or the rule says that nothing is left to decide; yield a record an
        epoch.

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
        macs, parameters = self._cost(None if learning else self.settings.warmup_operations)
        losses = self._steps.epoch(self._rate(number, epochs), learning)
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
            self._steps.memory(),
            time.perf_counter() - began,
            time.process_time() - cpu_began,
        )
        self.records.append(record)
        return record

    def _done(self, epochs: int, rule: Rule) -> bool:
        return len(self.records) > self.settings.warmup and rule.done(
            len(self.records), epochs, self.histories.edges
        )

    def _rate(self, number: int, epochs: int) -> float:
        share = 0.5 * (1 + math.cos(math.pi * (number - 1) / max(1, epochs)))
        return self.settings.learning_rate * (0.01 + 0.99 * share)

    def _remove(self, number: int, epochs: int, rule: Rule) -> dict[str, list[str]]:
        rng = np.random.default_rng([self.seed, number])
        removed = {}
        for edge, kept in rule.keep(number, epochs, self.histories.edges, rng).items():
            removed[edge] = [name for name in self.supernet.architecture.named(edge) if name not in kept]
            self._steps.remove(edge, kept)
            self.histories.reset(edge, self.supernet.architecture.named(edge))
        return removed

    # -- what is known ---------------------------------------------------------------------------------------

    @property
    def genotype(self) -> str:
        """The cell as it would be now: of every node the strongest edges, of every edge its best
        operation.
        """
        architecture = self.supernet.architecture
        best = {
            edge: architecture.named(edge)[int(architecture.importances(edge).argmax())]
            for edge in architecture.active
        }
        return text.write(self.design.discretise(architecture.strengths(), best))

    def ranked(self) -> dict[str, dict[str, float]]:
        """Return what is left on every ``kind/edge`` with its importance, the most important first."""
        return {
            edge: dict(sorted(row.items(), key=lambda item: -item[1]))
            for edge, row in self._importances().items()
        }

    def _importances(self) -> dict[str, dict[str, float]]:
        architecture = self.supernet.architecture
        return {
            edge: dict(zip(architecture.named(edge), architecture.importances(edge).tolist(), strict=True))
            for edge in architecture.active
        }

    def _divergences(self, rule: Rule) -> dict[str, float | None]:
        found: dict[str, float | None] = dict.fromkeys(self.supernet.architecture.active)
        for edge, history in self.histories.edges.items():
            values = (
                window_divergences(history.importances, rule.window)
                if len(history.operations) > 1
                else np.empty(0)
            )
            found[edge] = float(values[-1]) if len(values) else None
        return found

    def _raw(self, edge: str) -> Tensor:
        return self.supernet.architecture.alphas[edge].detach().clone()

    def _cost(self, drawn: int | None) -> tuple[float, int]:
        """Return MACs of a forward pass, the mean over what may be drawn, and parameters."""
        architecture = self.supernet.architecture
        if self._macs[0] != (architecture.size, drawn):
            device = device_of(self.supernet)
            example = placed(self.data.example(), device)
            # drawn operations differ in cost: the mean over every choice of the first one
            macs = []
            for first in range(
                1 if drawn is None else max(len(architecture.named(edge)) for edge in architecture.active)
            ):
                architecture.draw(drawn, first)
                macs.append(count(self.supernet, example)["macs"])
            architecture.draw(None)
            self._macs = ((architecture.size, drawn), float(np.mean(macs)))
        return self._macs[1], sum(parameter.numel() for parameter in self.supernet.parameters())

    # -- putting away ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that another process needs, in tensors and plain values."""
        return {
            "seed": self.seed,
            "active": {edge: list(names) for edge, names in self.supernet.architecture.active.items()},
            "settled": dict(self.supernet.architecture.settled),
            "supernet": {
                name: tensor.detach().clone() for name, tensor in self.supernet.state_dict().items()
            },
            "histories": self.histories.state(),
            "records": [asdict(record) for record in self.records],
            **self._steps.state(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave of a training of the same design, data and settings; torch's
        random numbers, too.
        """
        device = device_of(self.supernet)
        self.seed = state["seed"]
        self._begin()
        self.supernet.to(device)
        # operations go before weights come: the state holds none of what was removed
        for edge, names in state["active"].items():
            kept = tuple(name for name in names if name in self.supernet.architecture.named(edge))
            if len(kept) < len(self.supernet.architecture.named(edge)):
                self._steps.remove(edge, kept)
        self.supernet.architecture.settled = dict(state.get("settled", {}))
        self.supernet.load_state_dict(state["supernet"])
        self._steps.restore(state)
        self.histories = Histories.of(state["histories"])
        self.records = [EpochRecord(**record) for record in state["records"]]
        torch.set_rng_state(state["random"])

    # -- afterwards ------------------------------------------------------------------------------------------

    def retrain(
        self, genotype: str, seed: int, epochs: int, training: Training | None = None
    ) -> dict[str, float]:
        """Train a cell anew where this search is trained: see
        :func:`~evaluators.supernet.retraining.retrain`.
        """
        return retrain(self.design, self.data, genotype, seed, epochs, training, device_of(self.supernet))

    def random_genotype(self, seed: int) -> str:
        """Return a cell drawn at random, the control of every search."""
        space = CellSpace.of(self.design)
        return space.write(space.sample(1, np.random.default_rng(seed))[0])


def check_length(epochs: int, settings: SupernetSettings, rule: Rule) -> None:
    """See that the architecture gets to move, and the rule to decide.

    Raises:
        InputError: the warm-up, or what the rule has to see, is longer than the search.
    """
    if settings.warmup >= epochs:
        raise InputError(
            f"supernet: warmup {settings.warmup} of {epochs} epochs: the architecture would never move; "
            f"expected fewer"
        )
    if settings.warmup + rule.needs > epochs:
        raise InputError(
            f"supernet: {type(rule).__name__} decides after {rule.needs} checks, but {epochs} epochs less a "
            f"warmup of {settings.warmup} "
            f"give {epochs - settings.warmup}; expected at least {settings.warmup + rule.needs} epochs"
        )
