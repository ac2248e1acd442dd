"""int8 files of finished models: which layers stay float, how good, large and fast the file is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from evaluators.assessment import assess, assessed
from evaluators.cost.onnx_extra import onnx_feed, onnx_session
from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Preloaded
from search.finish.export import INT8, ONNX, first_line
from search.finish.finished_models import FinishedModels
from search.finish.onnx_model import OnnxModel, structure
from search.finish.quantiser import Quantiser, processor
from search.problem import Problem
from search.record.finals import Final
from spaces.calling import example_of
from spaces.files import write_bytes

_BATCH, _BATCHES = 32, 8
"""Samples of a batch, and batches, whose activations give the ranges."""
_MEASURED = 256
_RATES = ("error", "expected_error", "dice_error")
"""Metrics that are shares of wrong answers: a hundredth more is a hundredth, however few there were."""
Time = Callable[[Path], float]
"""Returns the milliseconds of a call of an ONNX file."""


class Goal(NamedTuple):
    """What may be lost to int8.

    Attributes:
        metric: that is measured on data.
        maximise: whether more of it is better.
        tolerance: how much worse it may be: of shares of what is wrong (``error``, ``expected_error``,
            ``dice_error``) in their own units (.01 is one point), of other metrics relative to the float
            model's.
    """

    metric: str
    maximise: bool
    tolerance: float

    @classmethod
    def of(cls, problem: Problem, tolerance: float) -> Goal:
        """Return that of the first objective that is measured on data, else of the loss."""
        known = assessed(problem.evaluator.data)
        found = [(o.metric, o.maximise) for o in problem.objectives if o.metric in known]
        return cls(*(found or [("loss", False)])[0], tolerance)

    def is_met(self, found: Mapping[str, float], whole: Mapping[str, float]) -> bool:
        """Return whether the metrics of an int8 model are near enough to those of the float one."""
        before = whole[self.metric]
        worse = (before - found[self.metric]) if self.maximise else (found[self.metric] - before)
        # of what is no number nothing is met
        return worse <= self.tolerance * (1.0 if self.metric in _RATES else abs(before)) + 1e-9


class Int8Files:
    """Writes ``model.int8.onnx`` beside ``model.onnx`` of finished models, once for every tolerance.

    Ranges come from the calibration split, which layers stay float is seen on the search split, and the file
    is measured on the test split when it is done.

    Args:
        problem: of the search, with its data bound.
        models: of the run.
        tolerance: see :class:`Goal`.
        time: measures a file.
    """

    def __init__(self, problem: Problem, models: FinishedModels, tolerance: float, time: Time) -> None:
        self.models, self._time = models, time
        self._goal = Goal.of(problem, tolerance)
        self._settings = f"int8; tolerance={tolerance}; metric={self._goal.metric}"
        data = problem.evaluator.data
        assert data is not None  # or there were no finished models
        self._data, self._batches = data, Preloaded(data)

    def todo(self, ids: Collection[int]) -> list[Final]:
        """Return the exported models of these candidates that have no whole int8 file of these settings."""
        finals = (Final.load(self.models.ledger, id) for id in ids)
        return [final for final in finals if final is not None and final.folder and not self._is_done(final)]

    def add(self, final: Final) -> None:
        """Quantise a model, and keep what was found or why there is nothing. Commits."""
        file = self.models.directory / final.folder / INT8
        file.unlink(missing_ok=True)
        try:
            found = self._quantised(final, file)
        except OSError:  # a full disk is none of the model's
            raise
        # onnx and onnxruntime raise whatever they like: the float file stays as it is
        except Exception as error:
            found = {"missing": f"{type(error).__name__}: {first_line(error)}"}
        self.models.keep_int8(final, {"settings": self._settings, **found})

    def _is_done(self, final: Final) -> bool:
        return final.int8.get("settings") == self._settings and self.models.has_int8(final)

    def _quantised(self, final: Final, file: Path) -> dict[str, Any]:
        if "file" not in final.onnx:
            return {"missing": f"no ONNX file: {final.onnx.get('missing', 'not asked for')}"}
        if not final.onnx["dynamic_batch"]:
            return {"missing": "the ONNX file has a fixed batch size"}
        whole = file.with_name(ONNX)
        content, machine = whole.read_bytes(), processor()
        made = self.models.load(final)
        with Quantiser(content, _feeds(self._data, content), reduce_range=not machine["vnni"]) as quantiser:
            if not quantiser.layers:
                return {"missing": "no layer that onnxruntime computes in int8"}
            outputs = structure(made, self._data.example())
            found, kept = _within(
                quantiser, lambda model: self._measured(model, outputs, "search"), self._goal, content
            )
            if found is None:
                return {
                    "missing": f"every choice of layers loses more than the tolerance of {self._goal.metric}"
                }
            difference = quantiser.difference(found)
            if not np.isfinite(difference):
                return {"missing": "its outputs are no numbers"}
            tested = self._measured(found, outputs, "test")
            names = quantiser.names(made)
            write_bytes(file, found)
            return {
                "file": file.name,
                "bytes": len(found),
                "float_bytes": len(content),
                "sha256": hashlib.sha256(found).hexdigest(),
                "kept_float": [names[layer] for layer in quantiser.layers if layer in kept],
                "layers": len(quantiser.layers),
                "difference": difference,
                "test": {f"test_{name}": value for name, value in tested.items() if np.isfinite(value)},
                "float_latency_ms": self._time(whole),
                "latency_ms": self._time(file),
                "reduce_range": not machine["vnni"],
                **machine,
            }

    def _measured(self, content: bytes, outputs: Any, split: Split) -> dict[str, float]:
        return assess(OnnxModel(content, outputs), self._data, self._batches.batches(split, _MEASURED))


def _within(
    quantiser: Quantiser, measure: Callable[[bytes], dict[str, float]], goal: Goal, content: bytes
) -> tuple[bytes | None, set[str]]:
    """Return the int8 model with the fewest layers kept float that loses no more than it may, and those
    layers; None where none does.

    Layers are kept float in the order of the harm that each does alone; how many is halved to, as if more of
    them never made it worse. [O]
    """
    whole, layers = measure(content), quantiser.layers
    if goal.is_met(measure(found := quantiser.quantised(layers)), whole):
        return found, set()
    order, best = quantiser.by_harm(layers), None
    low, high = 0, len(layers)  # so many kept are too few, are enough
    while high - low > 1:
        middle = (low + high) // 2
        tried = quantiser.quantised(order[middle:])
        if goal.is_met(measure(tried), whole):
            high, best = middle, tried
        else:
            low = middle
    return best, set(order[:high])


def _feeds(data: Data, content: bytes) -> list[dict[str, np.ndarray]]:
    """Return samples of the calibration split as a session of the model is fed them, drawn at random."""
    session = onnx_session(content)
    drawn = data.batches("calibration", _BATCH, torch.Generator().manual_seed(0))
    return [onnx_feed(session, example_of(inputs)) for inputs, _ in islice(drawn, _BATCHES)]
