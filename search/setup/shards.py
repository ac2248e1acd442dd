"""A folder of safetensors shards: the index says which file holds which weight, and a file is read when its
turn comes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
"""Names in the folders of Hugging Face: of the index, and of the file where there is one alone."""


class Shards:
    """The weights in a folder; nothing in it is executed.

    Args:
        folder: with an index and its files, or with one file of safetensors.

    Raises:
        ValueError: the index is none, or names files outside the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = self._listed() if (folder / INDEX).exists() else {WHOLE}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight; only the heads of the files are read."""
        found: dict[str, tuple[int, ...]] = {}
        for file in sorted(self._files):
            with safe_open(self.folder / file, framework="pt") as shard:
                found |= {name: tuple(shard.get_slice(name).get_shape()) for name in shard.keys()}  # noqa: SIM118
        return found

    def parts(self) -> Iterator[dict[str, Tensor]]:
        """Yield the weights file by file."""
        for file in sorted(self._files):
            yield load_file(self.folder / file)

    def _listed(self) -> set[str]:
        index: Any = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        files = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(files, dict) or not files:
            raise ValueError(f"{INDEX} has no weight_map")
        for file in files.values():
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise ValueError(f"{INDEX} names {file!r}, which is no safetensors file in the folder")
        return {*files.values()}
