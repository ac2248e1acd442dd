"""The settings of the whole process, lent to one candidate at a time: what its code leaves changed changes
nothing for the next one, nor for the process that searches.
"""

from __future__ import annotations

import _signal
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.modules.module as hooked
import torch.overrides as overrides
import torch.utils._device as devices
import torch.utils._python_dispatch as dispatch

from evaluators.randomness import Randomness
from search.executors.streams import Streams


class Setting(NamedTuple):
    """Something that holds for the whole process (or thread).

    Attributes:
        get: gives its value now; quick, as it is asked around every step of a candidate.
        set: makes it so again.
    """

    get: Callable[[], Any]
    set: Callable[[Any], object]


def _several(gets: tuple[Callable[[], Any], ...], sets: tuple[Callable[[Any], object], ...]) -> Setting:
    """Several settings of one kind as one."""

    def get() -> tuple[Any, ...]:
        return tuple([get() for get in gets])

    def put(values: tuple[Any, ...]) -> None:
        for set, value in zip(sets, values, strict=True):
            set(value)

    return Setting(get, put)


def _attributes(*places: tuple[Any, str]) -> Setting:
    def get() -> tuple[Any, ...]:
        return tuple([getattr(owner, name, None) for owner, name in places])

    def put(values: tuple[Any, ...]) -> None:
        for (owner, name), value in zip(places, values, strict=True):
            setattr(owner, name, value)

    return Setting(get, put)


# -- modes: of the calls of this thread ----------------------------------------------------------------------


def _functions() -> tuple[Any, ...]:
    n = torch._C._len_torch_function_stack()
    return tuple([torch._C._get_function_stack_at(i) for i in range(n)]) if n else ()


def _set_functions(modes: tuple[Any, ...]) -> None:
    while torch._C._len_torch_function_stack():
        overrides._pop_mode()
    for mode in modes:
        overrides._push_mode(mode)


def _dispatches() -> tuple[Any, ...]:
    n = torch._C._len_torch_dispatch_stack()
    return tuple([torch._C._get_dispatch_stack_at(i) for i in range(n)]) if n else ()


def _set_dispatches(modes: tuple[Any, ...]) -> None:
    while torch._C._len_torch_dispatch_stack():
        dispatch._pop_mode()
    for mode in modes:
        dispatch._push_mode(mode)


_AUTOCAST = tuple(
    kind for kind in ("cpu", "cuda", "mps", "xpu") if kind == "cpu" or getattr(torch, kind).is_available()
)


def _autocast() -> tuple[Any, ...]:
    kinds = [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCAST]
    return (*kinds, torch.is_autocast_cache_enabled())


def _set_autocast(state: tuple[Any, ...]) -> None:
    *kinds, cache = state
    for kind, (enabled, dtype) in zip(_AUTOCAST, kinds, strict=True):
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    torch.set_autocast_cache_enabled(cache)
    torch.clear_autocast_cache()


# -- numbers: how they are computed --------------------------------------------------------------------------

_PRECISIONS = (
    ("generic", "all"),
    *(("cuda", part) for part in ("all", "matmul", "conv", "rnn")),
    *(("mkldnn", part) for part in ("all", "matmul", "conv", "rnn")),
)


def _precision() -> tuple[Any, ...]:
    try:
        matmul = torch.get_float32_matmul_precision()
    except RuntimeError:  # the parts differ: there is no one word for all of them
        matmul = None
    return (*[torch._C._get_fp32_precision_getter(*place) for place in _PRECISIONS], matmul)


def _set_precision(state: tuple[Any, ...]) -> None:
    *parts, matmul = state
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    for place, value in zip(_PRECISIONS, parts, strict=True):
        torch._C._set_fp32_precision_setter(*place, value)


def _determinism() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch._C._get_deterministic_fill_uninitialized_memory(),
    )


def _set_determinism(state: tuple[Any, ...]) -> None:
    on, warn_only, fill = state
    torch.use_deterministic_algorithms(on, warn_only=warn_only)
    torch._C._set_deterministic_fill_uninitialized_memory(fill)


_TINY = [5e-324, 1.0]  # in a list, so that the product is computed when it is asked for


def _flushes() -> bool:
    return _TINY[0] * _TINY[1] == 0.0


# -- the process ---------------------------------------------------------------------------------------------


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _set_folder(folder: str | None) -> None:
    if folder is not None:
        with contextlib.suppress(OSError):
            os.chdir(folder)


# the bytes behind os.environ: to copy it takes a hundred times as long
_environment: dict[Any, Any] = os.environ._data  # type: ignore[attr-defined]


def _variables() -> dict[Any, Any]:
    return dict(_environment)


def _set_variables(variables: dict[Any, Any]) -> None:
    for name in os.environb.keys() - variables.keys():
        del os.environb[name]
    for name, value in variables.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _filters() -> tuple[Any, ...]:
    filters = warnings.filters
    shown = [getattr(warnings, name, None) for name in _SHOWN]
    return id(filters), filters, list(filters), *shown


def _set_filters(state: tuple[Any, ...]) -> None:
    _, filters, content, *shown = state
    filters[:] = content
    warnings.filters = filters
    for name, value in zip(_SHOWN, shown, strict=True):
        setattr(warnings, name, value)
    # what was warned of already is remembered with the number of a set of filters: a new one
    with warnings.catch_warnings():
        pass


_SHOWN = ("showwarning", "_showwarnmsg_impl")
_HOOKS = [
    value
    for name, value in sorted(vars(hooked).items())
    if name.startswith("_global_") and hasattr(value, "clear")
]

_NO_HOOKS = ((),) * len(_HOOKS)


def _hooks() -> tuple[Any, ...]:
    return tuple([tuple(hooks.items()) for hooks in _HOOKS]) if any(_HOOKS) else _NO_HOOKS


def _set_hooks(state: tuple[Any, ...]) -> None:
    for hooks, content in zip(_HOOKS, state, strict=True):
        hooks.clear()
        hooks.update(content)


_SETTINGS = (
    Setting(torch.get_default_dtype, torch.set_default_dtype),
    Setting(_functions, _set_functions),
    Setting(_dispatches, _set_dispatches),
    _attributes((torch._GLOBAL_DEVICE_CONTEXT, "device_context"), (devices, "CURRENT_DEVICE")),
    Setting(torch.is_grad_enabled, torch._C._set_grad_enabled),
    Setting(_autocast, _set_autocast),
    Setting(
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda state: torch.set_anomaly_enabled(*state),
    ),
    Setting(torch.get_num_threads, torch.set_num_threads),
    Setting(_determinism, _set_determinism),
    _several(
        (
            torch._C._get_cudnn_enabled,
            torch._C._get_cudnn_benchmark,
            torch._C._get_cudnn_deterministic,
            torch._C._get_mkldnn_enabled,
            torch._C._get_mkldnn_deterministic,
            torch._C._get_flash_sdp_enabled,
            torch._C._get_mem_efficient_sdp_enabled,
            torch._C._get_math_sdp_enabled,
            torch._C._get_cudnn_sdp_enabled,
        ),
        (
            torch._C._set_cudnn_enabled,
            torch._C._set_cudnn_benchmark,
            torch._C._set_cudnn_deterministic,
            torch._C._set_mkldnn_enabled,
            torch._C._set_mkldnn_deterministic,
            torch._C._set_sdp_use_flash,
            torch._C._set_sdp_use_mem_efficient,
            torch._C._set_sdp_use_math,
            torch._C._set_sdp_use_cudnn,
        ),
    ),
    Setting(_precision, _set_precision),
    Setting(_flushes, torch.set_flush_denormal),
    Setting(torch.is_warn_always_enabled, torch.set_warn_always),
    Setting(_hooks, _set_hooks),
    Setting(np.geterr, lambda state: np.seterr(**state)),
    Setting(_filters, _set_filters),
    Setting(_folder, _set_folder),
    Setting(_variables, _set_variables),
    _attributes((sys, "excepthook"), (sys, "displayhook")),
    _several((gc.isenabled,), (lambda on: gc.enable() if on else gc.disable(),)),
    Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    Setting(sys.getswitchinterval, sys.setswitchinterval),
    _attributes((logging.root.manager, "disable"), (logging.root, "level")),
)
_GETS = [setting.get for setting in _SETTINGS]
_unended: list[Any] = []  # modes of inference in place of those that candidates have left on
# numbers, and _signal's functions: those of signal make enumerations of everything, at ten times the cost
_INTERRUPT = int(signal.SIGINT)
_HANDLED = (_INTERRUPT, int(signal.SIGTERM), int(signal.SIGALRM))


class Isolation:
    """Global settings, standard streams and random generators: inside ``with`` the candidate's own, outside
    as they were.

    It can be entered again and goes on where it left, so a generator function may run in it step by step: in
    ``with torch.no_grad(): yield`` gradients are off for its own next step and for nobody else.

    Args:
        seed: of the generators.
    """

    def __init__(self, seed: int) -> None:
        self._randomness, self._streams = Randomness(seed), Streams()
        self._inner: list[Any] | None = None
        self._inference: Any = None  # a mode of inference that can only be left, not set

    def __enter__(self) -> None:
        self._outer = now = _values()
        self._inferring = torch.is_inference_mode_enabled()
        self._handlers = _handlers()
        try:
            if self._handlers.get(_INTERRUPT) is signal.default_int_handler:
                _signal.signal(_INTERRUPT, _interrupt)  # the same, but it leaves a trace
            if self._inference is not None:
                self._inference.__exit__(None, None, None)
                self._inference, now = None, []
            if self._inner is not None and self._inner != now:
                _change(self._inner)
            self._streams.__enter__()
            self._randomness.__enter__()
        except BaseException:  # a signal came in between
            self._put_back([])
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._randomness.__exit__()
            self._streams.__exit__()
            self._inner = now = _values()
            if torch.is_inference_mode_enabled() != self._inferring:
                self._inference = torch.inference_mode(self._inferring)
                self._inference.__enter__()
                now = []  # it changes whether there are gradients, too
            self._put_back(now)
        except BaseException:  # a signal came in between
            self._put_back([])
            raise

    def _put_back(self, now: list[Any]) -> None:
        self._randomness.put_back()
        self._streams.put_back()
        if self._outer != now:
            _change(self._outer)
        for number, handler in self._handlers.items():
            if _signal.getsignal(number) is not handler:
                _signal.signal(number, handler)

    def close(self) -> None:
        """Give back what was borrowed; it is not entered any more."""
        self._randomness.close()
        if self._inference is not None:  # without it the candidate's mode would come back
            _unended.append(self._inference)
            self._inference = None

    def from_outside(self, error: BaseException | None) -> BaseException | None:
        """Return what a handler of signals has raised that was there before the candidate (Ctrl-C, a time
        limit, a cancelled task), where that led to an error; None for the code of the candidate, which may
        raise a KeyboardInterrupt of its own.
        """
        codes = {_interrupt.__code__, *map(_code, self._handlers.values())}
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            trace = error.__traceback__
            while trace is not None:
                if trace.tb_frame.f_code in codes:
                    return error
                trace = trace.tb_next
            seen.add(id(error))
            error = error.__context__
        return None


def _values() -> list[Any]:
    return [get() for get in _GETS]


def _change(values: list[Any]) -> None:
    for setting, value in zip(_SETTINGS, values, strict=True):
        if setting.get() != value:
            setting.set(value)


def _handlers() -> dict[int, Any]:
    """The handlers of signals; the main thread alone can put them back."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: _signal.getsignal(number) for number in _HANDLED}
    return {number: handler for number, handler in found.items() if handler is not None}


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _code(handler: Any) -> CodeType | None:
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
