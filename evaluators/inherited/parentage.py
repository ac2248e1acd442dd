"""What a candidate goes on from, and what it leaves to those that go on from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evaluators.base import Candidate
from evaluators.inherited.files import InheritedFiles, ParentRecord
from evaluators.inherited.transfer import WeightTransfer
from evaluators.training.genome_settings import settings_of
from spaces.base import Space

ORIGIN = "origin"
"""The setting of a genome that says where its weights come from."""
ORIGINS = ("inherited", "original", "fresh")
"""Of the first parent; of the base model, as it was evaluated; drawn anew."""

BASE = -1
"""The base model's id."""


@dataclass(frozen=True, eq=False)
class Parentage:
    """Finds what a candidate inherits among the files of a run, and puts away what it leaves.

    Attributes:
        space: of the candidates.
        transfer: how tensors come from a parent to a child.
        runs: what the files of this run say, and what they said in format 1; others count as none.
        from_base: whether candidates without parents go on from the base model.
        files: of the run; None: nothing is kept, and all begin with the base model.
    """

    space: Space
    transfer: WeightTransfer
    runs: tuple[str, str]
    from_base: bool
    files: InheritedFiles | None

    def left_by(self, candidate: Candidate) -> ParentRecord | None:
        """Return what this very candidate left when it was evaluated before; None where it was not."""
        own = None if self.files is None else self.files.read(candidate.id)
        mine = [self.owner(candidate) | {"run": run} for run in self.runs]
        return own if own is not None and own.owner in mine else None

    def left_by_base(self) -> ParentRecord | None:
        """Return what the base model left; None where it left nothing."""
        return self._left(BASE)

    def parent(self, candidate: Candidate, model: nn.Module) -> ParentRecord | None:
        """Return what a candidate goes on from: its first parent, or as its genome says; None where it begins
        as it was built, or as `model` is drawn here.
        """
        first = candidate.parents[0] if candidate.parents else BASE if self.from_base else None
        parent = self._left(first) if first != candidate.id else None
        origin = self.origin(candidate)
        # what is trained on goes on from itself
        if origin == "inherited" or self.rung(candidate, parent):
            return parent
        if origin == "original":
            return self._left(BASE)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(candidate.seed)
            self.transfer.redraw(model)
        return None

    def origin(self, candidate: Candidate) -> str:
        """Return where a candidate's weights come from, one of :data:`ORIGINS`."""
        return str(settings_of(self.space, candidate.genome).get(ORIGIN, "inherited"))

    def rung(self, candidate: Candidate, parent: ParentRecord | None) -> int:
        """Return how many of its last ancestors had a candidate's genome."""
        if parent is None or not candidate.parents:
            return 0
        return parent.rung + 1 if parent.owner["genome"] == self.owner(candidate)["genome"] else 0

    def put_away(self, candidate: Candidate, model: nn.Module, found: ParentRecord) -> None:
        """Keep a trained model's tensors at their places in those that it went on from, for its children."""
        if self.files is None:
            return
        compact = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        tensors = self.transfer.leave(candidate.genome, compact, found.tensors)
        self.files.write(candidate.id, found.with_tensors(tensors))

    def owner(self, candidate: Candidate) -> dict[str, Any]:
        """Return what a file must say for a candidate to take it as its own."""
        return {
            "run": self.runs[0],
            "genome": candidate.genome.tobytes().hex(),
            "seed": candidate.seed,
            "parents": list(map(int, candidate.parents)),
        }

    def _left(self, id: int | None) -> ParentRecord | None:
        """Return what a candidate of this run left; None where it left nothing."""
        found = self.files.read(id) if self.files is not None and id is not None else None
        return found if found is not None and found.owner["run"] in self.runs else None
