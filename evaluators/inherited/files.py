"""What candidates leave to their children, in files."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from spaces.files import replacing
from spaces.seals import check_seal, seal


@dataclass(frozen=True, eq=False)
class ParentRecord:
    """What a candidate leaves to its children.

    Attributes:
        tensors: the full model's ``state_dict``: its own values where it keeps them, else its ancestors'.
        owner: whose they are.
        train_loss: of its own training.
        steps: gradient steps since the base model.
        generation: ancestors since the base model.
        samples: that passed in its own of these steps.
        rung: how many of its last ancestors had its own genome.
    """

    tensors: Mapping[str, Tensor]
    owner: dict[str, Any]
    train_loss: float
    steps: int
    generation: int
    samples: int = 0
    rung: int = 0

    @property
    def genome(self) -> np.ndarray:
        """The owner's genome ``(length,)``."""
        return np.frombuffer(bytes.fromhex(self.owner["genome"]), dtype=np.uint8).copy()

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> ParentRecord:
        """Return it with other tensors."""
        return replace(self, tensors=tensors)


class InheritedFiles:
    """What the candidates of a run leave to their children, one safetensors file each, written to a temporary
    name and renamed.

    Args:
        folder: of the run's heavy state; the files lie in ``lineage`` below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lineage"

    def path(self, id: int) -> Path:
        """Return where the file of a candidate lies; the base model has the id -1."""
        return self.folder / ("base.safetensors" if id < 0 else f"{id:08d}.safetensors")

    def retain(self, ids: Collection[int]) -> None:
        """Delete all files but those of these candidates and of the base model."""
        kept = {self.path(id) for id in (*ids, -1)}
        for file in self.folder.glob("*.safetensors"):
            if file not in kept:
                file.unlink(missing_ok=True)

    def write(self, id: int, left: ParentRecord) -> None:
        """Keep what a candidate leaves; a reader sees all of it or nothing."""
        plain = {
            name: getattr(left, name)
            for name in ("owner", "train_loss", "steps", "generation", "samples", "rung")
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in left.tensors.items()}
        content = seal(save(tensors, metadata={"lineage": json.dumps(plain)}))
        with replacing(self.path(id)) as file:
            file.write_bytes(content)

    def read(self, id: int) -> ParentRecord | None:
        """Return what a candidate left; None where there is no file, or a damaged one."""
        try:
            return _read(self.path(id))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def damaged(self) -> dict[int, Path]:
        """Return the files that do not hold what was written, by their candidates; the base model is -1."""
        found = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                _read(path)
            except (SafetensorError, KeyError, TypeError, ValueError):
                found[int(path.stem) if path.stem.isdigit() else -1] = path
        return found


def _read(path: Path) -> ParentRecord:
    content = path.read_bytes()
    check_seal(content)
    size = int.from_bytes(content[:8], "little")
    plain = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["lineage"])
    return ParentRecord(load(content), **plain)
