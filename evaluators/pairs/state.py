"""The pair of a cell as plain tensors: what travels between cells, and what lies on disk. Nothing in it can
execute code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from spaces.errors import InputError
from spaces.files import replacing
from spaces.seals import BrokenSealError, check_seal, seal

Tensors = Mapping[str, Tensor]
HALVES = ("encoder", "decoder")


@dataclass(frozen=True, eq=False)
class Half:
    """An encoder or a decoder.

    Attributes:
        weights: its whole ``state_dict``, zeros where it is masked.
        keep: uint8 ``(length,)``, a genome of the space with ones where the loci are not its own.
        origin: id of the candidate that it was trained in last.
        architecture: its number, where the space has several.
    """

    weights: Tensors
    keep: np.ndarray
    origin: int
    architecture: int = 0


@dataclass(frozen=True, eq=False)
class PairState:
    """An encoder and a decoder, and what a cell knows beside them.

    Attributes:
        learning_rate: of the cell.
        metrics: of the pair, as it was reported.
        memory: what adapts by its own success (see :class:`operators.controller.Controller`): plain lists by
            name.
        mixture: weights of the neighbourhood's pairs, empty where there is no mixture.
    """

    encoder: Half
    decoder: Half
    learning_rate: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, list[float]] = field(default_factory=dict)
    mixture: tuple[float, ...] = ()

    @property
    def halves(self) -> tuple[Half, Half]:
        return self.encoder, self.decoder

    def tensors(self) -> dict[str, Tensor]:
        """Return the ``state_dict`` of the pair."""
        return {
            f"{name}.{key}": tensor
            for name, half in zip(HALVES, self.halves, strict=True)
            for key, tensor in half.weights.items()
        }

    def to_bytes(self, moments: Tensors | None = None) -> bytes:
        """Return it as a safetensors file, with the optimiser's moments where they are given."""
        tensors = {f"weights.{name}": _alone(tensor) for name, tensor in self.tensors().items()}
        tensors |= {
            f"keep.{name}": torch.from_numpy(half.keep.copy())
            for name, half in zip(HALVES, self.halves, strict=True)
        }
        tensors |= pack_moments(moments or {})
        plain = {
            "origins": [half.origin for half in self.halves],
            "architectures": [half.architecture for half in self.halves],
            "learning_rate": self.learning_rate,
            "metrics": dict(self.metrics),
            "memory": dict(self.memory),
            "mixture": list(self.mixture),
        }
        return save(tensors, metadata={"state": json.dumps(plain)})

    @classmethod
    def from_bytes(cls, content: bytes) -> PairState:
        """Read what :meth:`to_bytes` gave; the moments are left aside (see :func:`unpack_moments`)."""
        size = int.from_bytes(content[:8], "little")
        plain = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["state"])
        tensors = load(bytes(content))
        halves = [
            Half(
                {
                    key: tensor
                    for name, tensor in tensors.items()
                    if (key := _within(name, f"weights.{side}."))
                },
                tensors[f"keep.{side}"].numpy(),
                plain["origins"][place],
                plain["architectures"][place],
            )
            for place, side in enumerate(HALVES)
        ]
        return cls(
            halves[0],
            halves[1],
            plain["learning_rate"],
            plain["metrics"],
            plain["memory"],
            tuple(plain["mixture"]),
        )


def pack_moments(moments: Tensors) -> dict[str, Tensor]:
    """Return an optimiser's moments under names of their own."""
    return {f"moments.{name}": _alone(tensor) for name, tensor in moments.items()}


def unpack_moments(content: bytes) -> dict[str, Tensor]:
    """Return the moments in a safetensors file."""
    return {
        key: tensor for name, tensor in load(bytes(content)).items() if (key := _within(name, "moments."))
    }


def _alone(tensor: Tensor) -> Tensor:
    """A copy of its own: the format knows no shared storage."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _within(name: str, prefix: str) -> str:
    return name[len(prefix) :] if name.startswith(prefix) else ""


class CellFiles:
    """The pairs of a run on disk, one file a cell step, written to a temporary name and renamed.

    Args:
        folder: of the run's heavy state; the files lie in ``cells`` below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cells"

    def path(self, id: int) -> Path:
        """Return where the pair of a candidate lies."""
        return self.folder / f"{id:08d}.safetensors"

    def write(self, id: int, content: bytes) -> None:
        """Keep a pair; a reader sees all of it or nothing."""
        with replacing(self.path(id)) as file:
            file.write_bytes(seal(content))

    def read(self, id: int) -> bytes:
        """Return the content of a file.

        Raises:
            InputError: it is not there, or damaged.
        """
        path = self.path(id)
        try:
            with safe_open(path, "pt") as file:
                file.keys()
            content = path.read_bytes()
            check_seal(content)
            return content
        except (OSError, SafetensorError, BrokenSealError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); expected the pair of candidate {id}: restore it, or "
                f"name a new run"
            ) from None

    def has(self, id: int) -> bool:
        """Whether the pair of a candidate is there."""
        return self.path(id).is_file()

    def ids(self) -> set[int]:
        """Return the candidates whose pairs are there."""
        return {int(path.stem) for path in self.folder.glob("[0-9]*.safetensors")}

    def remove(self, id: int) -> None:
        """Delete a file, if it is there."""
        self.path(id).unlink(missing_ok=True)
