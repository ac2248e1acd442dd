"""What a search of cells leaves behind: its cell, the operations that were left, and the supernet's weights.
JSON and safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from spaces.errors import InputError
from spaces.files import write_bytes

FORMAT = 1
FOLDER = "cells"
"""In the run's folder of heavy state: ``<candidate>.json`` and ``<candidate>.safetensors``."""


@dataclass(frozen=True)
class Found:
    """The end of one search.

    Attributes:
        genotype: as text.
        operations: ``kind/edge`` -> the operations that were left, the most important first.
        importances: of them, softmax(alpha).
        scales: ``kind/edge`` -> beta before softmax; 0 where edges were not weighed.
        share: of partial channels.
        design: fingerprint of the :class:`~spaces.cells.design.Design`.
        weights: sha256 of the weights file.
        score: the objective's metrics of the retrained cell on the search split.
    """

    genotype: str
    operations: dict[str, list[str]]
    importances: dict[str, list[float]]
    scales: dict[str, float]
    share: int
    design: str
    weights: str
    score: dict[str, float]
    format: int = FORMAT


def write(folder: Path, candidate: int, found: Found, weights: Mapping[str, Tensor]) -> Found:
    """Write both files, the JSON last: where it is there, the weights are whole. Returns what was written,
    with the hash.
    """
    content = save_tensors(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    )
    found = Found(**(asdict(found) | {"weights": hashlib.sha256(content).hexdigest()}))
    write_bytes(folder / f"{candidate}.safetensors", content)
    write_bytes(folder / f"{candidate}.json", json.dumps(asdict(found), indent=2).encode())
    return found


def read(run: str | Path, candidate: int | None = None) -> tuple[Found, dict[str, Tensor]]:
    """Return a search's end and the supernet's weights.

    Args:
        run: the folder of a run.
        candidate: of it; None: the one of the lowest loss.

    Raises:
        InputError: no such run or candidate, or files that are damaged or of another version.
    """
    folder = Path(run) / "state" / FOLDER
    files = {int(file.stem): file for file in folder.glob("*.json") if file.stem.isdigit()}
    if not files:
        raise InputError(
            f"space: run: {run} has no searched cells; expected the folder of a run of "
            f"evaluators.SupernetSearch"
        )
    if candidate is not None and candidate not in files:
        raise InputError(
            f"space: candidate {candidate} of {run} has no searched cells; there are "
            f"{', '.join(map(str, sorted(files)))}"
        )
    ends = {number: _read(file) for number, file in sorted(files.items()) if candidate in (None, number)}
    number = min(ends, key=lambda n: (ends[n].score.get("loss", float("inf")), n))
    file = folder / f"{number}.safetensors"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"space: {file}: cannot be read ({error.strerror}); search again, or name another candidate"
        ) from None
    if hashlib.sha256(content).hexdigest() != ends[number].weights:
        raise InputError(
            f"space: {file}: is not what {number}.json says; search again, or name another candidate"
        )
    return ends[number], load_tensors(content)


def state_of(supernet: nn.Module) -> dict[str, Tensor]:
    """Return the weights to keep: all but the architecture's."""
    return {
        name: tensor for name, tensor in supernet.state_dict().items() if not name.startswith("architecture.")
    }


def _read(file: Path) -> Found:
    try:
        parts = json.loads(file.read_text())
        if parts["format"] != FORMAT:
            raise InputError(
                f"space: {file}: format {parts['format']}; this version of Secateur reads format {FORMAT}"
            )
        return Found(**parts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"space: {file}: not the end of a search of cells; search again, or name another candidate"
        ) from None
