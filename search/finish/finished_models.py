"""The models that a run has finished in its life: which are whole, where the next one goes, which one is
which.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from evaluators.assessment import assess
from search.finish.export import base_of
from search.finish.exported_sums import is_whole, keep_sums
from search.finish.recipe import RECIPE, WEIGHTS, Recipe, load, read_weights
from search.problem import Problem
from search.record.finals import CHOSEN, Final, dominators, finished, load_finals, objectives_of
from search.record.ledger import Ledger
from spaces.base import Trained
from spaces.errors import InputError
from spaces.files import write_bytes

INDEX = "index.json"
FORMAT = 1
_BATCH = 256


class FinishedModels:
    """Keeps what was tuned and exported: nothing that was paid for is written over.

    A candidate that is finished again with other settings goes to a folder of its own, ``models/12-2`` beside
    ``models/12``. After every model ``models/index.json`` says which folder is which.

    Args:
        problem: of the search.
        ledger: of the run.
        directory: of the run.
    """

    def __init__(self, problem: Problem, ledger: Ledger, directory: Path) -> None:
        self.problem, self.ledger, self.directory = problem, ledger, directory

    def look_through(self, chosen: Collection[int], settings: str) -> None:
        """Let go of models whose files somebody has deleted or changed, unless they are to be made again; and
        measure on the search split what older versions tuned and did not tell. Commits.
        """
        for final in finished(self.ledger):
            latest = Final.load(self.ledger, final.id) == final
            again = latest and final.id in chosen and final.settings == settings
            if not self.whole(final):
                if not again:
                    (final.forget if latest else final.drop)(self.ledger)
            elif not final.tuned and not isinstance(self.problem.space, Trained):
                self._replace(replace(final, tuned=self._measured(final)))
        self.ledger.commit()

    def is_done(self, id: int, settings: str) -> bool:
        """Return whether a candidate needs nothing more; a model of it that other settings made gives way to
        the one that these made before.

        A fine-tuning that has failed is tried again; a model that failed its verification is not.
        """
        latest = Final.load(self.ledger, id)
        if latest is not None and latest.settings == settings:
            if latest.reason:
                return bool(latest.differences)
            if not latest.folder or self.whole(latest):
                return True
        for final in Final.aside(self.ledger):
            if final.id == id and final.settings == settings and self.whole(final):
                final.drop(self.ledger)
                self.keep(final)
                return True
        return False

    def folder_for(self, id: int, settings: str) -> str:
        """Return where a model goes, relative to the run's folder: where the same one was, else where no
        other one is.
        """
        latest = Final.load(self.ledger, id)
        if latest is not None and latest.folder and latest.settings == settings:
            return latest.folder
        taken = {final.folder for final in finished(self.ledger)}
        folder, number = f"models/{id}", 1
        while folder in taken:
            number += 1
            folder = f"models/{id}-{number}"
        return folder

    def keep(self, final: Final) -> None:
        """Keep what a candidate has become, beside the model that it was before. Commits."""
        before = Final.load(self.ledger, final.id)
        if before is not None and before.folder not in ("", final.folder):
            before.put_aside(self.ledger)
        final.save(self.ledger)
        if final.folder:
            keep_sums(self.ledger, self.directory, final.folder)
        self.ledger.commit()

    def damaged(self, id: int, settings: str) -> str:
        """Return the folder of a model that these settings made and that is not whole; empty where there is
        none.
        """
        final = Final.load(self.ledger, id)
        if final is None or not final.folder or final.settings != settings or self.whole(final):
            return ""
        return final.folder

    def whole(self, final: Final) -> bool:
        """Return whether the files of a model are there, as they were written."""
        folder = self.directory / final.folder
        try:
            read_weights(folder / WEIGHTS, Recipe.read(folder / RECIPE).weights)
        except InputError:
            return False
        if "file" in final.onnx and not (folder / final.onnx["file"]).is_file():
            return False
        return is_whole(self.ledger, self.directory, final.folder)

    def load(self, final: Final) -> nn.Module:
        """Return an exported model, loaded from its files."""
        folder = self.directory / final.folder
        alleles = [a for part in Recipe.read(folder / RECIPE).genome.values() for a in part]
        genome = np.array([int(allele) for allele in alleles], dtype=np.uint8)
        return load(folder, base_of(self.problem.space, genome))

    def keep_int8(self, final: Final, known: Mapping[str, Any]) -> None:
        """Keep what is known of the int8 file of a model. Commits."""
        replace(final, int8=dict(known)).save(self.ledger)
        self.ledger.commit()
        self.write_index()

    def has_int8(self, final: Final) -> bool:
        """Return whether the int8 file of a model is there, as it was written, or could not be made."""
        return has_int8(final, self.directory)

    def write_index(self) -> None:
        """Write ``models/index.json``, whole or not at all; where nothing was ever finished there is none."""
        models, file = finished(self.ledger), self.directory / "models" / INDEX
        if not models and not file.exists():
            return
        chosen = self.ledger.note(CHOSEN) or []
        current = {final.folder for id in chosen if (final := Final.load(self.ledger, id)) is not None}
        rows = [
            self._row(final, better, final.folder in current)
            for final, better in zip(models, dominators(models, self.problem), strict=True)
        ]
        goals = [{"metric": o.metric, "maximise": o.maximise} for o in self.problem.objectives]
        text = json.dumps({"format": FORMAT, "objectives": goals, "models": rows}, indent=2, allow_nan=False)
        write_bytes(file, f"{text}\n".encode())

    def _row(self, final: Final, better: Final | None, current: bool) -> dict[str, Any]:
        weights = ""
        with contextlib.suppress(InputError):
            weights = Recipe.read(self.directory / final.folder / RECIPE).weights
        row = {
            "id": final.id,
            "folder": final.folder,
            "kept": better is None,
            "dominated_by": None if better is None else better.folder,
            "current": current,
            "before": _finite(objectives_of(final.searched, self.problem)),
            "after": _finite(objectives_of(final.searched | final.tuned, self.problem)),
            "test": _finite(final.test),
            "weights": weights,
            "settings": final.settings,
        }
        return row | ({"int8": final.int8} if final.int8 else {})

    def _measured(self, final: Final) -> dict[str, float]:
        """Return loss and metrics of an exported model on the search split; empty where it does not load."""
        data = self.problem.evaluator.data
        if data is None:
            return {}
        try:
            return assess(self.load(final), data, data.batches("search", _BATCH))
        # the user's model and data raise whatever they like: the figure of the search has to do then
        except Exception:
            return {}

    def _replace(self, final: Final) -> None:
        latest = Final.load(self.ledger, final.id)
        if latest is not None and latest.folder == final.folder:
            final.save(self.ledger)
        else:
            final.put_aside(self.ledger)


def is_finished(ledger: Ledger, directory: Path) -> bool:
    """Return whether the files of a run's finals lie in its folder, as they were written, and no tuning is to
    be tried again.
    """
    finals = load_finals(ledger)
    files = [
        directory / final.folder / name
        for final in finals
        if final.folder
        for name in (RECIPE, WEIGHTS, *([final.onnx["file"]] if "file" in final.onnx else []))
    ]
    failed = any(final.reason and not final.differences for final in finals)
    if failed or not all(map(Path.is_file, files)):
        return False
    exported = [final for final in finals if final.folder]
    return all(is_whole(ledger, directory, final.folder) and has_int8(final, directory) for final in exported)


def has_int8(final: Final, directory: Path) -> bool:
    """Return whether the int8 file of a model, where there is to be one, is there as it was written."""
    if "file" not in final.int8:
        return True
    try:
        content = (directory / final.folder / final.int8["file"]).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == final.int8["sha256"]


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
