"""The files of a run that its dashboard offers: they stay where they lie."""

from __future__ import annotations

import json
import mimetypes
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

_OF_RUN = ("report.html", "front.csv")
_OF_MODEL = ("model.onnx", "model.int8.onnx", "weights.safetensors", "recipe.json")


class RunFiles:
    """A store of artifacts for optuna-dashboard, whose artifacts are the report, the front and the exported
    models of a run. It is read only.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of_run(self) -> list[Path]:
        """Return the files of the run as a whole that are there, relative to its folder."""
        return [Path(name) for name in _OF_RUN if self._is_there(Path(name))]

    def of_model(self, folder: str) -> list[Path]:
        """Return the files of an exported model that are there, relative to the run's folder."""
        return [Path(folder) / name for name in _OF_MODEL if folder and self._is_there(Path(folder) / name)]

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open a file by its id; called by the dashboard."""
        for file in self._all():
            if id_of(file) == artifact_id:
                return (self._directory / file).open("rb")
        raise ArtifactNotFound(f"{artifact_id}: the run has no such file any more")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refuse: a dashboard shows a run and changes nothing in it."""
        raise ArtifactNotFound("the files of a run are read only")

    def remove(self, artifact_id: str) -> None:
        """Refuse likewise."""
        raise ArtifactNotFound("the files of a run are read only")

    def _all(self) -> Iterator[Path]:
        yield from self.of_run()
        for folder in (self._directory / "models").glob("*/"):
            yield from self.of_model(f"models/{folder.name}")

    def _is_there(self, file: Path) -> bool:
        path, root = (self._directory / file), self._directory.resolve()
        return path.is_file() and root in path.resolve().parents  # a link may lead anywhere


def id_of(file: Path) -> str:
    """Return the artifact id of a file of a run, always the same one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, file.as_posix()))


def described(file: Path) -> str:
    """Return what optuna-dashboard reads of an artifact."""
    kind, encoding = mimetypes.guess_type(file.name)
    known = {
        "artifact_id": id_of(file),
        "filename": file.name,
        "mimetype": kind or "application/octet-stream",
    }
    return json.dumps(known | {"encoding": encoding})
