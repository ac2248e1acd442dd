"""A search of cells as the evaluation of a candidate: train a supernet, choose the cell, train the cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from evaluators.assessment import assess, assessed
from evaluators.base import Candidate, Evaluator, Report
from evaluators.cost.counting import count
from evaluators.data.base import Data
from evaluators.data.preloaded import Preloaded
from evaluators.supernet.record import EpochRecord, tables
from evaluators.supernet.settings import SupernetSettings
from evaluators.supernet.training import SupernetTraining, check_length
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.evaluator import Training, fit
from operators.stability import Rule, Stability
from spaces.base import Space, Trained
from spaces.calling import device_of, placed
from spaces.cells import found as files
from spaces.cells import genotype as text
from spaces.cells.design import Design
from spaces.cells.network import CellNetwork
from spaces.errors import InputError
from spaces.names import public_name, with_former

_BATCH = 256


@runtime_checkable
class Designed(Trained, Protocol):
    """A space of searches of cells, as :class:`~spaces.cells.SupernetSpace` is.

    Attributes:
        design: what is searched.
    """

    design: Design


class SupernetSearch(Evaluator):
    """Searches a cell for the network of a :class:`~spaces.cells.SupernetSpace`, and leaves it there,
    trained.

    Reports, one an epoch of the search: ``train_loss``, ``held_out_loss`` (after the warm-up), ``operations``
    (active on all edges together), ``supernet_macs`` (of a forward pass of one sample), ``divergence`` (the
    largest of an edge). Then those of the training of the cell. The last one: ``loss`` and the data's metrics
    on the split that the training monitors, the same with ``_before`` of the network without cells where that
    was trained; ``params`` and ``macs`` of the network with its cell; ``search_epochs``; and ``search_cost``,
    multiply-accumulates of all forward passes of the search over those of a search of full length that
    removes nothing. Its arrays are the course of the search (:func:`evaluators.supernet.record.tables`),
    ``removed`` (``epoch, edge, operation``, a row a removal), and ``genotype``, as text.

    With a ``state`` folder the training is written there every `checkpoint_every` epochs and goes on from
    there, bit by bit; the end of the search (cell, operations that were left, weights of the supernet) goes
    to ``state/cells``, where a :class:`~spaces.cells.CellSpace` with ``run`` takes it up.

    Args:
        epochs: of the search, at most.
        rule: which operations go, and when; None: :class:`~operators.stability.Stability`.
        supernet: how it is trained; None: its defaults.
        training: of the cell that was found; None: 60 epochs at a learning rate of 5e-3.
        checkpoint_every: epochs of the search from one checkpoint to the next.

    Raises:
        InputError: a warm-up, or a rule's first decision, later than the last epoch; when it is bound:
            another space, or no data.
    """

    measures = trains = True
    _trained = False  # whether the network without cells was trained, so that there is something to compare
    private = "what a search of cells leaves behind lies in files of its run"

    def __init__(
        self,
        epochs: int = 50,
        rule: Rule | None = None,
        supernet: SupernetSettings | None = None,
        training: Training | None = None,
        checkpoint_every: int = 5,
    ) -> None:
        if epochs < 1 or checkpoint_every < 1:
            raise InputError(
                f"evaluator SupernetSearch: epochs {epochs} and checkpoint_every {checkpoint_every}; "
                f"expected at least 1"
            )
        self.epochs: int = epochs
        self.checkpoint_every = checkpoint_every
        self.rule = rule or Stability()
        self.supernet = supernet or SupernetSettings()
        self.training = training or Training(epochs=60, learning_rate=5e-3)
        check_length(epochs, self.supernet, self.rule)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        names = assessed(self.data)
        return (
            "train_loss",
            *names,
            *(f"{name}_before" for name in names if self._trained),
            "params",
            "macs",
            "search_epochs",
            "search_cost",
        )

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        if not isinstance(space, Designed):
            raise InputError(
                f"evaluator SupernetSearch: space {type(space).__name__}; expected spaces.cells.SupernetSpace"
            )
        if data is None:
            raise InputError(
                "evaluator SupernetSearch: no data; expected data with train and calibration splits"
            )
        width = space.design.width
        if width is not None and width % self.supernet.share:
            raise InputError(
                f"space: width {width}; expected a multiple of {self.supernet.share}, the share of partial "
                f"channels"
            )
        self._trained = space.trained
        self.training.bind(space, data)
        self._batches = Preloaded(data)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None and isinstance(self.space, Designed) and isinstance(model, CellNetwork)
        before = self._assessed(model, "_before") if self._trained else {}
        searching = SupernetTraining(
            self.space.design, self.data, self.supernet, torch.initial_seed() % 2**63
        ).to(device_of(model))
        for record in self._searched(searching, candidate):
            yield Report(record.metrics, record.epoch)
        step = len(searching.records)
        genotype = searching.genotype
        model.implant(text.read(genotype), self.space.design.operations)
        model.to(device_of(model.model))
        last = Report({})
        for last in fit(
            model, self.data, self.training, checkpoint=self._checkpoint(candidate, "trained", [genotype])
        ):
            yield Report(last.metrics, step + last.step)
        cost = count(model, placed(self.data.example(), device_of(model)))
        metrics = (
            last.metrics
            | before
            | {name: cost[name] for name in ("params", "macs")}
            | self._course(searching.records)
        )
        self._keep(searching, candidate, genotype, last.metrics)
        edges, names = list(searching.supernet.architecture.active), list(self.space.design.operations.names)
        arrays = tables(searching.records, edges, names) | {
            "genotype": np.array(genotype),
            "removed": _removed(searching.records),
        }
        yield Report(metrics, step + last.step + 1, arrays)

    def _searched(self, searching: SupernetTraining, candidate: Candidate) -> Iterator[EpochRecord]:
        """Yield all records, those of a checkpoint first."""
        checkpoint = self._checkpoint(candidate, "supernet", [])
        if checkpoint is not None and (state := checkpoint.load()) is not None:
            searching.restore(state)
            yield from list(searching.records)
        written = len(searching.records)
        for record in searching.run(self.epochs, self.rule):
            if checkpoint is not None and record.epoch % checkpoint.every == 0:
                checkpoint.save(searching.state())
                written = record.epoch
            yield record
        if checkpoint is not None and written < len(searching.records):
            checkpoint.save(searching.state())

    def _assessed(self, model: nn.Module, suffix: str) -> dict[str, float]:
        assert self.data is not None
        found = assess(
            model, self.data, self._batches.batches(self.training.monitor, _BATCH, device_of(model))
        )
        return {f"{name}{suffix}": value for name, value in found.items()}

    def _course(self, records: list[EpochRecord]) -> dict[str, float]:
        full = records[0].macs * self.epochs
        return {
            "search_epochs": float(len(records)),
            "search_cost": sum(record.macs for record in records) / full,
        }

    def _keep(
        self, searching: SupernetTraining, candidate: Candidate, genotype: str, score: dict[str, float]
    ) -> None:
        """Write the end of the search for the evolution that may follow."""
        if self.state is None or candidate.id < 0:
            return
        ranked = searching.ranked()
        end = files.Found(
            genotype,
            {edge: list(row) for edge, row in ranked.items()},
            {edge: list(row.values()) for edge, row in ranked.items()},
            searching.supernet.architecture.scales(),
            self.supernet.share,
            searching.design.fingerprint,
            "",
            score,
        )
        files.write(Path(self.state) / files.FOLDER, candidate.id, end, files.state_of(searching.supernet))

    def _checkpoint(self, candidate: Candidate, stage: str, more: list[str]) -> Checkpoint | None:
        if self.state is None:
            return None
        assert self.data is not None and isinstance(self.space, Designed)
        trained = sorted((name, str(value)) for name, value in self.training.settings.told().items())
        genome, data, seed = candidate.genome.tobytes().hex(), self.data.fingerprint, torch.initial_seed()

        def key() -> str:
            rule = [public_name(type(self.rule)).rpartition(".")[2], sorted(vars(self.rule).items())]
            own = [self.epochs, rule, asdict(self.supernet), trained if stage == "trained" else [], more]
            return json.dumps([self.space.fingerprint, genome, data, seed, own], default=str)

        folder = Path(self.state) / files.FOLDER
        return Checkpoint(
            folder / f"{candidate.id}.{stage}.pt",
            with_former(key),
            every=self.checkpoint_every if stage == "supernet" else 5,
        )


def _removed(records: list[EpochRecord]) -> np.ndarray:
    """Return a row ``(epoch, edge, operation)`` a removal, as text, ``(removals, 3)``."""
    rows = [
        (str(r.epoch), edge, name) for r in records for edge, names in r.removed.items() for name in names
    ]
    return np.array(rows, dtype=np.str_).reshape(-1, 3)
