"""Latency that is predicted: screened for whole populations, from a calibration of some minutes at most."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from evaluators.cost.latency import Runtime as RuntimeName
from evaluators.cost.latency import is_here, measure, moved, require_runtime
from evaluators.cost.predicted.calibration import CannotPredict, calibrate
from evaluators.cost.predicted.eager import TorchRuntime
from evaluators.cost.predicted.onnx_runtime import OnnxRuntime
from evaluators.cost.predicted.openvino_runtime import OpenVinoRuntime
from evaluators.cost.predicted.prediction import FORMAT, Prediction
from evaluators.cost.predicted.runtime import Runtime
from evaluators.cost.predicted.steps import steps
from evaluators.data.base import Data
from spaces.base import Sliced, Space
from spaces.channels.wishes import as_patterns
from spaces.errors import InputError
from spaces.files import replacing
from spaces.structures import repeated

TRUSTED = 0.15
"""Median error up to which predictions count."""
RUNTIMES: dict[str, Callable[[int], Runtime]] = {
    "onnx": OnnxRuntime,
    "torch": TorchRuntime,
    "cuda": partial(TorchRuntime, device="cuda"),
    "openvino": OpenVinoRuntime,
}
_log = logging.getLogger("secateur")


class LatencyModel(Evaluator):
    """Screens ``latency_ms``: milliseconds of one forward call, predicted from what a genome keeps. [O]

    Once for a model, a runtime and a machine, some networks of the space are built and measured whole, and
    every operation of the runtime's own graph is measured by itself at a grid of widths (a minute for a small
    network); a look-up in these tables, summed with a factor a kind of operation that is fitted to the whole
    networks, is the prediction. It costs microseconds a candidate, so a limit on it costs nothing. The
    calibration is kept in a cache, or read from a file that ``secateur calibrate`` wrote on the target.

    Where the fit is off by more than 15 % in the median on networks that it has not seen, this is said, and
    candidates are measured where they are evaluated, as :class:`Latency` does.

    Args:
        runtime: ``onnx`` for onnxruntime on the exported model, ``torch`` for PyTorch on the CPU, ``cuda``
            for PyTorch on a CUDA GPU, or ``openvino`` for OpenVINO on the exported model.
        batch_size: of the call.
        threads: of the runtime.
        networks: of the space that are measured whole.
        calibration: a file that ``secateur calibrate`` wrote, perhaps on another machine; None: the cache of
            this one.

    Raises:
        InputError: a setting out of its range, or, without a calibration, runtime ``onnx`` or ``openvino``
            without the packages it needs or ``cuda`` without a GPU.
    """

    screened = ("latency_ms",)
    structural = screened

    def __init__(
        self,
        runtime: RuntimeName = "onnx",
        batch_size: int = 1,
        threads: int = 1,
        networks: int = 16,
        calibration: str | None = None,
    ) -> None:
        if min(batch_size, threads) < 1 or networks < 8:
            raise InputError(
                f"evaluator LatencyModel: batch_size {batch_size}, threads {threads}, networks {networks}; "
                f"expected at least 1, 1 and 8"
            )
        if runtime not in RUNTIMES or calibration is None:
            require_runtime("evaluator LatencyModel", runtime)
        self.runtime, self.batch_size, self.threads = runtime, batch_size, threads
        self.networks, self.calibration = networks, calibration
        self.private = "" if calibration else "latency is predicted for the machine where it was measured"
        self._prediction: Prediction | None = None
        self._predict: Callable[[np.ndarray], np.ndarray] | None = None

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` where the space has no slice plan, or there are no data."""
        super().bind(space, data)
        self._prediction = self._predict = None
        if not isinstance(space, Sliced):
            raise InputError(
                f"evaluator LatencyModel: {type(space).__name__} has no slice plan; expected a space over "
                f"the channels of a model, or Latency, which measures"
            )
        if data is None:
            raise InputError("evaluator LatencyModel: no data; expected data with an example of the inputs")
        if self.calibration is not None:
            self._prediction = self._read(Path(self.calibration))
            if (off := self._prediction.error.median) > TRUSTED:
                place = f"evaluator LatencyModel: calibration {self.calibration} is off by {off:.0%}"
                require_runtime(f"{place}, so candidates have to be measured here", self.runtime)

    @property
    def prediction(self) -> Prediction:
        """The calibration; it is made where there is none yet."""
        if self._prediction is None:
            self._prediction = self._calibrated()
        return self._prediction

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``latency_ms`` of genomes ``(n, length)``, float64 of shape ``(n,)``."""
        if self._predict is None:
            assert isinstance(self.space, Sliced)
            self._predict = self.prediction.bound(self.space.plan)
        return {"latency_ms": self._predict(genomes)}

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield one report: empty, or the measured latency where predictions are not to be trusted."""
        if self.prediction.error.median <= TRUSTED:
            yield Report({})
            return
        yield Report(self._measured(model))

    def measured(self, model: nn.Module) -> dict[str, float]:
        """Return ``latency_ms`` as it is measured; nothing where the runtime of a calibration from elsewhere
        is not here.
        """
        return self._measured(model) if is_here(self.runtime) else {}

    def _measured(self, model: nn.Module) -> dict[str, float]:
        assert self.data is not None
        inputs = repeated(self.data.example(), self.batch_size)
        with moved(model, "cpu"):  # wherever candidates are trained
            return {"latency_ms": measure(model, inputs, runtime=self.runtime, threads=self.threads)}

    def width_steps(self) -> Mapping[str, int]:
        """Return what widths should be multiples of, by the names of groups; nothing where predictions are
        not to be trusted.
        """
        if self.prediction.error.median > TRUSTED:
            return {}
        assert isinstance(self.space, Sliced)
        return steps(self.space.plan, self.prediction.bound(self.space.plan))

    def write_calibration(self, file: Path) -> bool:
        """Write the calibration, for the setting `calibration` of a search elsewhere."""
        self._write(file, self.prediction)
        _log.info(
            "latency: widths that pay here: --space.round_to '%s'",
            json.dumps(as_patterns(self.width_steps(), [segment.name for segment in self.space.segments], 1)),
        )
        return True

    def _calibrated(self) -> Prediction:
        runtime = RUNTIMES[self.runtime](self.threads)
        file = cache_folder() / "latency" / f"{self._key(runtime)}.json"
        if file.exists():
            return self._read(file)
        assert self.data is not None and isinstance(self.space, Sliced)
        inputs = repeated(self.data.example(), self.batch_size)
        try:
            prediction = calibrate(self.space, inputs, runtime, self.networks, say=_log.info)
        except CannotPredict as error:
            raise InputError(
                f"evaluator LatencyModel: {error}; expected a model whose operations stay the same at all "
                f"widths, or Latency, which measures"
            ) from None
        _log.info(
            "latency: predicted within %.1f %% (median; nine of ten within %.1f %%) of %s%s",
            100 * prediction.error.median,
            100 * prediction.error.p90,
            runtime.name,
            ""
            if prediction.error.median <= TRUSTED
            else "; that is too much, so every candidate is measured",
        )
        try:
            self._write(file, prediction)
        except OSError as reason:
            _log.info("latency: the calibration is not kept: %s", reason)
        return prediction

    def _key(self, runtime: Runtime) -> str:
        told = [FORMAT, processor(), runtime.name, self.threads, self.networks, self._described()]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]

    def _described(self) -> dict[str, Any]:
        """Return what a calibration is of."""
        groups = [(segment.name, segment.size) for segment in self.space.segments]
        told = json.dumps([self.space.program, groups])
        return {"model": hashlib.sha256(told.encode()).hexdigest()[:24], "batch_size": self.batch_size}

    def _write(self, file: Path, prediction: Prediction) -> None:
        runtime = {"runtime": self.runtime, "threads": self.threads, "processor": processor()}
        told = self._described() | runtime | prediction.to_json()
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as new:
            new.write_text(json.dumps(told))

    def _read(self, file: Path) -> Prediction:
        try:
            told = json.loads(file.read_text())
            expected = self._described() | {"runtime": self.runtime}
            other = {name for name, value in expected.items() if told[name] != value}
            prediction = Prediction.from_json(told)
        except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"evaluator LatencyModel: calibration {file}: {' '.join(str(error).split())}; expected a "
                f"file that `secateur calibrate` wrote"
            ) from None
        if other:
            raise InputError(
                f"evaluator LatencyModel: calibration {file}: it is of another {' and '.join(sorted(other))}"
                f"; expected one of this configuration: secateur calibrate CONFIG.yaml writes it"
            )
        return prediction

    def __getstate__(self) -> dict[str, Any]:
        # a worker screens, too: it gets the calibration, and not a second one
        return self.__dict__ | {"_predict": None}


def cache_folder() -> Path:
    """Return the folder where calibrations of this machine are kept: ``$XDG_CACHE_HOME/secateur``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secateur"


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))]
    return names[0] + " " + hashlib.sha256(" ".join(names[:2]).encode()).hexdigest()[:8]
