"""Whatever a candidate sets for the whole process holds for itself, in all its steps, and for nobody else."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from evaluators.base import Candidate, Evaluator, Report, State
from search.executors.base import Finished, Reported
from search.executors.inline import InlineExecutor
from search.executors.work import evaluate
from search.testing import BitSpace

SPACE = BitSpace(4)
TINY = [5e-324, 1.0]


class Calls(TorchFunctionMode):
    """Every function of torch goes through it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    """Every operation goes through it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def autocast() -> tuple[Any, ...]:
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
    )


def hooks() -> int:
    return len(nn.modules.module._global_forward_hooks)


LEAKS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "dtype": (lambda: torch.set_default_dtype(torch.float64), lambda: torch.ones(1).dtype),
    "device": (
        lambda: torch.set_default_device("meta"),
        lambda: (torch.ones(1).device, torch.get_default_device()),
    ),
    "device, entered": (torch.device("meta").__enter__, lambda: torch.ones(1).device),
    "gradients": (
        lambda: torch.set_grad_enabled(False),
        lambda: torch.ones(1, requires_grad=True).exp().requires_grad,
    ),
    "inference": (
        lambda: LEFT.append(torch.inference_mode()) or LEFT[-1].__enter__(),
        lambda: torch.ones(1).is_inference(),
    ),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True, warn_only=True), deterministic),
    "cudnn": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: torch.backends.cudnn.benchmark,
    ),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "mkldnn's precision": (
        lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
        lambda: torch.backends.mkldnn.matmul.fp32_precision,
    ),
    "autocast": (torch.autocast("cpu", dtype=torch.float16).__enter__, autocast),
    "anomalies": (lambda: torch.set_anomaly_enabled(True, False), torch.is_anomaly_enabled),
    "denormals": (lambda: torch.set_flush_denormal(True), lambda: TINY[0] * TINY[1]),
    "function mode": (lambda: Calls().__enter__(), torch._C._len_torch_function_stack),
    "dispatch mode": (lambda: Dispatches().__enter__(), torch._C._len_torch_dispatch_stack),
    "hooks": (lambda: nn.modules.module.register_module_forward_hook(lambda *_: None), hooks),
    "NumPy's errors": (lambda: np.seterr(all="raise"), np.geterr),
    "warnings": (lambda: warnings.simplefilter("error", EncodingWarning), lambda: warnings.filters[0]),
    "warnings, entered": (
        lambda: warnings.catch_warnings(record=True).__enter__(),
        lambda: id(warnings.filters),
    ),
    "folder": (lambda: os.chdir("/"), os.getcwd),
    "variable": (lambda: os.environ.update(SECATEUR_LEAK="1"), lambda: os.environ.get("SECATEUR_LEAK")),
    "variable, gone": (lambda: os.environ.pop("PATH"), lambda: os.environ.get("PATH")),
    "output": (
        lambda: setattr(sys, "stdout", io.StringIO()),
        lambda: isinstance(sys.stdout, io.StringIO),
    ),
    "collection": (gc.disable, gc.isenabled),
    "recursion": (lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 77), sys.getrecursionlimit),
    "logging": (lambda: logging.disable(logging.CRITICAL), lambda: logging.root.manager.disable),
}
LEFT: list[Any] = []


class Leaky(Evaluator):
    """Candidate 0 sets something, and looks whether it still holds at its next step; the others only look."""

    metrics = ("same",)

    def __init__(self, leak: Callable[[], Any], get: Callable[[], Any]) -> None:
        self.leak, self.get, self.seen = leak, get, []

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        if candidate.id == 0:
            self.leak()
        for _ in range(3):
            self.seen.append(self.get())
            yield Report({"same": 1.0})


@pytest.mark.parametrize("name", LEAKS)
def test_it_stays_with_the_candidate(name: str) -> None:
    leak, get = LEAKS[name]
    before, evaluator = get(), Leaky(leak, get)
    for id in range(2):
        for event in evaluate(SPACE, evaluator, Candidate(id, SPACE.base)):
            assert get() == before
            assert not isinstance(event, Finished) or event.evaluation.state is State.COMPLETE
    assert get() == before
    changed = evaluator.seen[0]
    assert changed != before
    assert evaluator.seen == [changed] * 3 + [before] * 3


def test_what_is_left_open_is_closed_in_the_settings_of_the_candidate() -> None:
    seen = []

    class Stopped(Evaluator):
        metrics = ("one",)

        def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
            with torch.no_grad():
                torch.set_default_dtype(torch.float64)
                try:
                    while True:
                        yield Report({"one": 1.0})
                finally:
                    seen.append((torch.get_default_dtype(), torch.is_grad_enabled()))
                    torch.set_default_dtype(torch.float16)

    inline = InlineExecutor()
    inline.start(SPACE, Stopped())
    inline.submit([Candidate(0, SPACE.base)])
    assert isinstance(inline.events()[-1], Reported)
    inline.cancel(0)
    assert seen == [(torch.float64, False)]
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)


def test_a_handler_of_signals_does_not_stay() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    ignore = Leaky(lambda: [signal.signal(number, signal.SIG_IGN) for number in before], lambda: 0)
    list(evaluate(SPACE, ignore, Candidate(0, SPACE.base)))
    assert before == {number: signal.getsignal(number) for number in before}
