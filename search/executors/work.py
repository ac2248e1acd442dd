"""The one place that runs a candidate, the same in every executor."""

from __future__ import annotations

import inspect
import math
import os
import socket
import time
from collections.abc import Generator

import numpy as np
import torch

from evaluators.base import Candidate, Cause, Evaluation, Evaluator, Report, State
from search.executors.base import Event, Finished, Reported, Started
from search.executors.isolation import Isolation
from spaces.base import Space
from spaces.redaction import redacted_text

LENGTH = 300  # characters of a reason at most
_STORABLE = "biufcSU"  # kinds of dtype that are raw bytes


def evaluate(
    space: Space, evaluator: Evaluator, candidate: Candidate, attempts: int = 1, device: str = "cpu"
) -> Generator[Event, None, None]:
    """Build a candidate, evaluate it with all global generators seeded for it, and tell what happens. What it
    changes in the settings of the process holds for itself alone (:class:`Isolation`).

    It never raises, but for what a signal raises from outside, such as Ctrl-C: what goes wrong in the user's
    code, a KeyboardInterrupt of its own included, a model that cannot be built, a metric that is missing or
    not finite, or a lack of memory ends in a FAILED evaluation that gives the reason.

    Args:
        attempts: how often it has been started with this time.
        device: where the built model is moved before it is evaluated; evaluators follow it.
    """
    yield Started(candidate.id)
    run = _Run(space, evaluator, candidate, device)
    try:
        while (report := run.step()) is not None:
            yield Reported(candidate.id, report)
        yield Finished(run.evaluation(attempts))
    finally:
        run.close()


def failed(
    candidate: Candidate,
    reason: str,
    seconds: float = 0.0,
    worker: str = "",
    attempts: int = 1,
    cause: Cause = Cause.ERROR,
) -> Evaluation:
    """Return the evaluation of a candidate that gave nothing, with its reason in one line."""
    return Evaluation(
        candidate,
        State.FAILED,
        {},
        reason=line(reason),
        seconds=seconds,
        worker=worker,
        attempts=attempts,
        cause=cause,
    )


def pruned(
    evaluator: Evaluator,
    candidate: Candidate,
    report: Report | None,
    seconds: float = 0.0,
    worker: str = "",
    attempts: int = 1,
) -> Evaluation:
    """Return the evaluation of a candidate that was stopped at a report: the screened metrics joined with the
    report's.
    """
    report = report or Report({})
    metrics = _screened(evaluator, candidate) | report.metrics
    return Evaluation(
        candidate, State.PRUNED, metrics, report.arrays, "", seconds, worker, attempts, Cause.STOPPED
    )


def worker_name() -> str:
    """Return host and process of this worker, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


class _Run:
    """One attempt at one candidate, a report at a time."""

    def __init__(self, space: Space, evaluator: Evaluator, candidate: Candidate, device: str) -> None:
        self._evaluator, self._candidate = evaluator, candidate
        self._reports = _reports(space, evaluator, candidate, device)
        self._isolation = Isolation(candidate.seed)
        self._process = os.getpid()
        self._last: Report | None = None
        self._reason, self._cause = "", Cause.ERROR
        self._seconds = 0.0

    def step(self) -> Report | None:
        """Return the next report, or None at the end."""
        began = time.perf_counter()
        report = None
        try:
            with self._isolation:
                report = next(self._reports, None)
        except BaseException as error:
            self._stay()
            if (outside := self._isolation.from_outside(error)) is not None:
                raise outside from None
            self._reason = reason(error)
            if torch.cuda.is_initialized():  # tasks that share the device need what a failure has left behind
                torch.cuda.empty_cache()
        self._stay()
        self._seconds += time.perf_counter() - began
        self._last = report or self._last
        return report

    def close(self) -> None:
        """Let the candidate's code tidy up where it is stopped, in the settings that it left."""
        try:
            if inspect.getgeneratorstate(self._reports) != inspect.GEN_CLOSED:  # it has not ended by itself
                with self._isolation:
                    self._reports.close()
        except BaseException as error:
            if (outside := self._isolation.from_outside(error)) is not None:
                raise outside from None
        finally:
            self._isolation.close()

    def _stay(self) -> None:
        """A child of this process that comes back from the candidate's code ends here: it would go on with
        the work of its parent.
        """
        if os.getpid() != self._process:
            os._exit(1)

    def evaluation(self, attempts: int) -> Evaluation:
        last = self._last or Report({})
        metrics: dict[str, float] = {}
        if not self._reason:
            try:
                metrics = _screened(self._evaluator, self._candidate) | last.metrics
                if last.stop:
                    return self._stopped(last, metrics, attempts)
                self._reason, self._cause = _fault(self._evaluator, metrics), Cause.METRIC
            except BaseException as error:
                if (outside := self._isolation.from_outside(error)) is not None:
                    raise outside from None
                self._reason = reason(error)
        if self._reason:
            return failed(self._candidate, self._reason, self._seconds, worker_name(), attempts, self._cause)
        return Evaluation(
            self._candidate, State.COMPLETE, metrics, last.arrays, "", self._seconds, worker_name(), attempts
        )

    def _stopped(self, last: Report, metrics: dict[str, float], attempts: int) -> Evaluation:
        """Return what came of a candidate that its evaluator has stopped."""
        where = self._seconds, worker_name(), attempts, Cause.BEATEN
        return Evaluation(self._candidate, State.PRUNED, metrics, last.arrays, line(last.stop), *where)


def _reports(
    space: Space, evaluator: Evaluator, candidate: Candidate, device: str
) -> Generator[Report, None, None]:
    model = space.build(candidate.genome).to(device)
    for report in evaluator.evaluate(model, candidate):
        metrics = {_name(name): float(value) for name, value in report.metrics.items()}
        arrays = {_name(name): np.asarray(array) for name, array in report.arrays.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in _STORABLE:
                raise TypeError(f"array {name!r} of a report has dtype {array.dtype}; expected numbers")
        yield Report(metrics, int(report.step), arrays, str(report.stop))


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"something in a report is called {name!r}; expected a string")
    return str.__str__(name)  # of its own kind of string nothing but the text


def _screened(evaluator: Evaluator, candidate: Candidate) -> dict[str, float]:
    return {name: float(values[0]) for name, values in evaluator.screen(candidate.genome[None]).items()}


def _fault(evaluator: Evaluator, metrics: dict[str, float]) -> str:
    for name in (*evaluator.screened, *evaluator.metrics):
        if name not in metrics:
            return f"metric {name!r} was promised but not reported"
    for name, value in metrics.items():
        if not math.isfinite(value):
            return f"metric {name!r} is {value}"
    return ""


def reason(error: BaseException) -> str:
    """Return ``TypeName: message`` in one printable line, whatever the error's own code does."""
    name = type(error).__name__
    try:
        message = str(error)
    except Exception as fault:
        message = f"(its message cannot be read: {type(fault).__name__})"
    message = line(message)
    return f"{name}: {message}"[:LENGTH] if message else name


def line(text: str) -> str:
    """Return a text in one line that every file and terminal takes, without secrets."""
    text = redacted_text(" ".join(text[: 10 * LENGTH].split()))[:LENGTH]
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
