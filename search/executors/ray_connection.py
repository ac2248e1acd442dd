"""Getting to a Ray cluster, or starting one here, and getting the user's code to its workers."""

from __future__ import annotations

import atexit
import logging
import os
import shlex
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from search.executors.ray_sources import gather, install
from spaces.errors import InputError
from spaces.lazy import LazyModule
from spaces.names import OWN
from spaces.redaction import redacted_text, redacted_words, variables

if TYPE_CHECKING:
    import ray
else:
    ray = LazyModule("ray")

_log = logging.getLogger(__name__)
_KNOCK_SECONDS = 3.0
_TELL_SECONDS = 5.0
_OWN = {*OWN, "run_search"}
_PROBE = (
    "import sys, ray; "
    "ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); ray.shutdown()"
)


def connect(address: str | None, cpus: float | None, patience: float = 60.0) -> bool:
    """Join the cluster at an address, or start a quiet one on this machine; return whether this call did so.

    Args:
        address: ``HOST:PORT``, ``auto``, or None for a cluster of this process's own; not looked at where Ray
            runs already.
        cpus: how many CPUs a cluster of our own offers; None for those there are.
        patience: seconds within which a cluster at an address has to answer.

    Raises:
        InputError: no Ray answers at the address.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        _probe(address, patience)
    with _discreet():
        if address is None:
            # "local": an address in the environment belongs to somebody else's cluster
            ray.init(
                address="local",
                num_cpus=None if cpus is None else max(1, round(cpus)),
                include_dashboard=False,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    return True


def leave_behind() -> None:
    """Let this process end without a word to a cluster whose head is gone: Ray would wait for it, and then
    end the process in its own way.
    """
    atexit.unregister(ray.shutdown)


@contextmanager
def _discreet() -> Iterator[None]:
    """Keep secrets from Ray, which writes down the command line of who connects, and gives its environment to
    every process that it starts.
    """
    hidden = {name: os.environ.pop(name) for name in variables() if name in os.environ}
    utils = getattr(getattr(ray, "_private", None), "utils", None)
    told = getattr(utils, "get_entrypoint_name", None)
    try:
        if told is not None:
            utils.get_entrypoint_name = lambda: redacted_text(shlex.join(redacted_words(_command())))  # type: ignore[union-attr]
        yield
    finally:
        if told is not None:
            utils.get_entrypoint_name = told  # type: ignore[union-attr]
        os.environ.update(hidden)


def _command() -> list[str]:
    """The command line of this process."""
    try:
        return Path("/proc/self/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return [sys.executable, *sys.argv]


def put(value: Any) -> ray.ObjectRef:
    """Put a value into the object store, classes and functions of the user's own files with it.

    A worker on another machine has no such files; where they cannot go along by value, they go by name.

    Raises:
        InputError: it cannot be pickled at all.
    """
    try:
        with _by_value():
            return ray.put(value)
    except Exception:
        try:
            return ray.put(value)
        except Exception as error:
            message = " ".join(str(error).split())[:300]
            raise InputError(
                f"space, model, data or evaluator cannot be sent to the workers ({message}); expected "
                f"objects that pickle"
            ) from None


def boxed(value: Any) -> list[ray.ObjectRef]:
    """Return references to a value and to the user's modules, in a list: Ray does not resolve what is in it,
    so that a worker fetches it once, not with every task.

    Raises:
        InputError: the value cannot be pickled at all.
    """
    return [put(value), ray.put(gather())]


def unboxed(box: Sequence[ray.ObjectRef]) -> Any:
    """Return the value, in a worker, which can import the user's modules from now on."""
    install(ray.get(box[1]))
    return ray.get(box[0])


def _probe(address: str, patience: float) -> None:
    """Knock at the door, then try in a process of its own: ``ray.init`` on a dead address blocks for over a
    minute.
    """
    expected = (
        "expected HOST:PORT of a running cluster (`ray start --head` prints it), 'auto', or null for this "
        "machine alone"
    )
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise InputError(f"ray.address {address!r}: nobody answers ({error}); {expected}") from None
    command = [sys.executable, "-c", _PROBE, address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as probe:
        try:
            said = _said(probe, min(_TELL_SECONDS, patience))
            if said is None:
                _log.warning("waiting for the Ray cluster at %s to answer, up to %g s", address, patience)
                said = _said(probe, patience - _TELL_SECONDS)
            if said is None:
                raise InputError(
                    f"ray.address {address!r}: no answer within {patience:g} s (a cluster with a token "
                    f"answers to RAY_AUTH_TOKEN only; a busy one may need a longer ray.patience); {expected}"
                )
        finally:
            probe.kill()
    if probe.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it ended without a word"]
        raise InputError(f"ray.address {address!r}: cannot be joined ({lines[-1][:200]}); {expected}")


def _said(probe: subprocess.Popen[str], seconds: float) -> str | None:
    """Return what a process said once it has ended, None where it takes longer than some seconds."""
    try:
        return probe.communicate(timeout=max(seconds, 0.0))[1]
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _by_value() -> Iterator[None]:
    modules = _user_modules()
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            ray.cloudpickle.unregister_pickle_by_value(module)


def _user_modules() -> list[ModuleType]:
    """The imported modules that are neither installed, nor of the standard library, nor Secateur's own."""
    installed = [
        Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")
    ]
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if (
            not file
            or name == "__main__"
            or name.partition(".")[0] in _OWN
            or getattr(module, "__name__", None) != name
        ):
            continue
        path = Path(file).resolve()
        if not any(path.is_relative_to(folder) for folder in installed):
            found.append(module)
    return found
