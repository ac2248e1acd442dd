"""What is known of an epoch of a search of cells, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: from 1.
        train_loss: mean over the training samples, each before the step that learned from it.
        held_out_loss: the same for the steps of the architecture; None during warm-up.
        importances: ``kind/edge`` -> operation -> softmax(alpha) over the active ones but ``none``, those of
            the epoch's end before anything was removed.
        divergences: ``kind/edge`` -> Jensen-Shannon divergence of the rule's two latest windows, bits; None
            while there are too few checks.
        removed: ``kind/edge`` -> operations that went at the end of this epoch.
        macs: multiply-accumulates of a forward pass of one sample, during the epoch.
        parameters: of the network and the architecture, during the epoch.
        memory: bytes of a training step: weights, gradients, what optimisers remember, and what the forward
            pass keeps.
        seconds: wall clock; cpu_seconds: of this process. Neither is the same twice.
    """

    epoch: int
    train_loss: float
    held_out_loss: float | None
    importances: dict[str, dict[str, float]]
    divergences: dict[str, float | None]
    removed: dict[str, list[str]]
    macs: float
    parameters: int
    memory: int
    seconds: float = field(default=0.0, compare=False)
    cpu_seconds: float = field(default=0.0, compare=False)

    @property
    def operations(self) -> int:
        """How many operations were active in the epoch, over all edges."""
        return sum(len(row) for row in self.importances.values())

    @property
    def metrics(self) -> dict[str, float]:
        """What a report says: the same at every repeat, so no times."""
        found = {
            "train_loss": self.train_loss,
            "operations": float(self.operations),
            "supernet_macs": self.macs,
        }
        known = [value for value in self.divergences.values() if value is not None]
        if known:
            found["divergence"] = max(known)
        return found if self.held_out_loss is None else found | {"held_out_loss": self.held_out_loss}


def tables(
    records: Sequence[EpochRecord], edges: Sequence[str], operations: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the course of a search as arrays.

    Returns:
        ``importances`` ``(epochs, edges, operations)`` and ``divergences`` ``(epochs, edges)``, float32, nan
        where there is none; ``supernet_macs``, ``memory``, ``supernet_parameters`` ``(epochs,)`` float64; the
        names ``edges`` and ``operations``.
    """
    importances = np.full((len(records), len(edges), len(operations)), np.nan, dtype=np.float32)
    divergences = np.full((len(records), len(edges)), np.nan, dtype=np.float32)
    for row, record in enumerate(records):
        for column, edge in enumerate(edges):
            for name, value in record.importances.get(edge, {}).items():
                importances[row, column, operations.index(name)] = value
            divergence = record.divergences.get(edge)
            divergences[row, column] = np.nan if divergence is None else divergence
    return {
        "importances": importances,
        "divergences": divergences,
        "supernet_macs": np.array([record.macs for record in records]),
        "supernet_parameters": np.array([float(record.parameters) for record in records]),
        "memory": np.array([float(record.memory) for record in records]),
        "edges": np.array(list(edges)),
        "operations": np.array(list(operations)),
    }
