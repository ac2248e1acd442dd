"""Latency: how long one forward call takes, measured on the built model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from evaluators.cost.onnx_extra import onnx_bytes, onnx_feed, onnx_session, require_onnx
from evaluators.cost.openvino_extra import openvino_call, require_openvino
from evaluators.data.base import Data
from spaces.base import Space
from spaces.calling import Example, call, device_of, gradients, mode, placed
from spaces.errors import InputError
from spaces.structures import repeated

Runtime = Literal["torch", "cuda", "onnx", "openvino"]
"""PyTorch where the model is; PyTorch on a CUDA GPU; onnxruntime or OpenVINO on the CPU, with the exported
model.
"""


class Latency(Evaluator):
    """``latency_ms``: milliseconds of one forward call in eval mode, the fastest of many.

    The fastest, and over some time: neighbours, heat and clocks slow a machine down by half and more, for
    tenths of a second, and never speed it up. What medians were off by on shared cores, and the fastest in
    how many seconds, is in docs/decisions.md.

    A measurement, so no two are equal: a search on it cannot be repeated bit by bit.

    Args:
        batch_size: of the call.
        repeats: calls that are timed, at least.
        warmup: calls before them that are not.
        seconds: that calls are timed for, at least. More is surer where others use the machine.
        runtime: ``torch`` for PyTorch where the candidate is, ``cuda`` for PyTorch on a CUDA GPU wherever it
            is, ``onnx`` for onnxruntime on the exported model (seconds a candidate, for the export), or
            ``openvino`` for OpenVINO on that.
        threads: of the runtime; torch's own number comes back afterwards.

    Raises:
        InputError: a setting out of its range, runtime ``onnx`` or ``openvino`` without the packages it
            needs, or ``cuda`` without a GPU.
    """

    metrics = ("latency_ms",)
    structural = metrics
    private = "latency is that of the machine where it was measured"

    def __init__(
        self,
        batch_size: int = 1,
        repeats: int = 30,
        warmup: int = 5,
        runtime: Runtime = "torch",
        threads: int = 1,
        seconds: float = 0.5,
    ) -> None:
        if min(batch_size, repeats, threads) < 1 or warmup < 0 or not 0 <= seconds < float("inf"):
            raise InputError(
                f"evaluator Latency: batch_size {batch_size}, repeats {repeats}, threads {threads}, warmup "
                f"{warmup}, seconds {seconds}; "
                "expected at least 1 each, a warmup and seconds of at least 0"
            )
        require_runtime("evaluator Latency", runtime)
        self.batch_size, self.repeats, self.warmup = batch_size, repeats, warmup
        self.runtime, self.threads = runtime, threads
        self.seconds = seconds

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` without data."""
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator Latency: no data; expected data with an example of the inputs")
        self._inputs = repeated(data.example(), self.batch_size)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield one report."""
        took = measure(
            model, self._inputs, self.repeats, self.warmup, self.runtime, self.threads, self.seconds
        )
        yield Report({"latency_ms": took})

    def measured(self, model: nn.Module) -> dict[str, float]:
        """Return ``latency_ms`` of twice as many calls, for at least a second."""
        return {
            "latency_ms": measure(
                model,
                self._inputs,
                2 * self.repeats,
                self.warmup,
                self.runtime,
                self.threads,
                max(1.0, self.seconds),
            )
        }


def measure(
    model: nn.Module,
    inputs: Example,
    repeats: int = 30,
    warmup: int = 5,
    runtime: Runtime = "torch",
    threads: int = 1,
    seconds: float = 0.5,
) -> float:
    """Return the milliseconds of the fastest forward call of `model` on `inputs`, in eval mode, until its
    outputs are there; with ``onnx`` and ``openvino`` of its export.

    Raises:
        InputError: the runtime is not here.
    """
    require_runtime("latency", runtime)
    if runtime == "onnx":
        return fastest_ms(onnx_call(export(model, inputs), inputs, threads), repeats, warmup, seconds)
    if runtime == "openvino":
        return fastest_ms(openvino_call(export(model, inputs), inputs, threads), repeats, warmup, seconds)
    if runtime == "cuda":
        with moved(model, "cuda"):
            return measure(model, inputs, repeats, warmup, "torch", threads, seconds)
    device = device_of(model)
    given = placed(inputs, device)

    def once() -> None:
        call(model, given)
        wait_for(device)

    with mode(model, False), torch.inference_mode(), torch_threads(threads):
        return fastest_ms(once, repeats, warmup, seconds)


def fastest_ms(call: Callable[[], object], repeats: int, warmup: int, seconds: float) -> float:
    """Return the least wall time of a call in milliseconds, of so many calls at least, for so
    long at least.
    """
    for _ in range(warmup):
        call()
    fastest, done, began = float("inf"), 0, time.perf_counter()
    now = began
    while done < repeats or now - began < seconds:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        fastest, done = min(fastest, now - start), done + 1
    return 1e3 * fastest


def require_runtime(place: str, runtime: str) -> None:
    """Raise :class:`InputError` where a runtime is none, or not here."""
    if runtime not in get_args(Runtime):
        *most, last = get_args(Runtime)
        raise InputError(f"{place}: runtime {runtime!r}; expected {', '.join(most)} or {last}")
    if runtime == "onnx":
        require_onnx(place)
    if runtime == "openvino":
        require_openvino(place)
    if runtime == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"{place}: runtime cuda, and PyTorch sees no CUDA GPU; expected one (tasks of Ray see one where "
            f"ray.gpus_per_task is above 0), or runtime torch"
        )


def is_here(runtime: str) -> bool:
    """Whether this process can run models in a runtime."""
    try:
        require_runtime("", runtime)
    except InputError:
        return False
    return True


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def moved(model: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Have a model on a device, and then where it was."""
    before = device_of(model)
    with gradients():  # tensors made in inference mode would stay so
        model.to(device)
    try:
        yield
    finally:
        with gradients():
            model.to(before)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def export(model: nn.Module, inputs: Example) -> bytes:
    """Return the model as ONNX for these inputs, as it will be deployed: for batches of any size where it can
    be, which costs a small transformer .7 of 2.1 ms, and else for theirs."""
    require_onnx("onnx export")
    given = placed(inputs, device_of(model))
    content, _ = onnx_bytes(model, repeated(given, 2), fixed=given)
    return content


def onnx_call(exported: bytes | str, inputs: Example, threads: int = 1) -> Callable[[], Any]:
    """Return a call of onnxruntime on an ONNX model (bytes, or the path of a file) with these inputs; it
    returns the outputs as arrays.
    """
    session = onnx_session(exported, threads)
    feed = onnx_feed(session, inputs)
    return lambda: session.run(None, feed)
