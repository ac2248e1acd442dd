"""What became of the chosen members of a front: plain data, kept as notes in the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from search.record.ledger import Ledger

BASE = -1
"""The id of the base model among the finals: no candidate has it."""
CHOSEN = "finals"
UNTUNED = "not tuned"
"""The settings of the fine-tuning where there was none."""
PICTURES = "reconstructions/"
"""Begins the names of arrays in the ledger, followed by the candidate whose outputs they are."""


@dataclass(frozen=True)
class Limit:
    """A constraint held against what was exported."""

    text: str
    bound: float
    value: float
    met: bool


@dataclass(frozen=True)
class Final:
    """A member of the front (or the base model) after fine-tuning, measured and exported.

    Attributes:
        id: of the candidate; :data:`BASE` for the base model.
        searched: metrics that the search had of it.
        test: on the test split, which the search never saw: ``test_error_before`` fine-tuning, ``test_error``
            after it, and so on.
        requested: params, MACs and bytes as the search computed them.
        realised: the same as counted on the exported model, and ``latency_ms`` (torch) and
            ``onnx_latency_ms`` as measured.
        limits: the constraints, held against what was realised.
        differences: ``before`` and ``after`` fine-tuning: largest relative difference of the compact model to
            the masked full one.
        onnx: what is known of the ONNX file (see :class:`search.finish.recipe.Recipe`).
        folder: of the exported files, relative to the run's; empty where nothing was exported.
        reason: why there is no model; empty where there is one.
        settings: of the fine-tuning: other settings make another final.
    """

    id: int
    searched: dict[str, float]
    test: dict[str, float] = field(default_factory=dict)
    requested: dict[str, float] = field(default_factory=dict)
    realised: dict[str, float] = field(default_factory=dict)
    limits: list[Limit] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)
    onnx: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    reason: str = ""
    settings: str = ""

    @property
    def tuned(self) -> bool:
        """Whether there was a fine-tuning, or another training."""
        return self.settings != UNTUNED

    @property
    def name(self) -> str:
        return "base model" if self.id == BASE else f"candidate {self.id}"

    def save(self, ledger: Ledger) -> None:
        """Keep it in the ledger; the caller commits."""
        ledger.save_note(_key(self.id), asdict(self))

    @classmethod
    def load(cls, ledger: Ledger, id: int) -> Final | None:
        """Return what is known of a candidate, None where nothing is."""
        note = ledger.note(_key(id))
        if note is None:
            return None
        return cls(**(note | {"limits": [Limit(**limit) for limit in note["limits"]]}))


def load_finals(ledger: Ledger) -> list[Final]:
    """Return the base model and the members chosen last, in the order in which they were chosen, as far as
    they are done.
    """
    chosen = ledger.note(CHOSEN) or []
    return [final for id in chosen if (final := Final.load(ledger, id)) is not None]


def _key(id: int) -> str:
    return f"final/{id}"
