"""Evaluations on the workers of a Ray cluster, one streaming task a batch."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluators.base import Candidate, Cause, Evaluation, Evaluator, Report
from search.executors import ray_connection
from search.executors.base import Event, Finished, Reported, Started, WorkersLostError
from search.executors.ray_nodes import Head, Nodes
from search.executors.ray_worker import Arrived, Grown, Message, work
from search.executors.work import failed, pruned, reason
from spaces.base import Space
from spaces.errors import InputError
from spaces.lazy import LazyModule

ray: Any = LazyModule("ray")  # most of a second, which reading a configuration need not take
exceptions: Any = LazyModule("ray.exceptions")

_log = logging.getLogger(__name__)
KILLS = 3  # so often may a candidate kill its worker
LOSSES = 10  # and so often may it be lost at all, its nodes' deaths included
_REFRESH = 5.0  # seconds between two looks at the size of the cluster
# seconds in which a cancelled evaluation has to come to its next report, before its worker is killed
_GRACE = 30.0
_WHILE = 0.5  # seconds in which messages are taken in before anything else is looked after
_FETCH = 60.0  # seconds that results may take from another node


@dataclass(eq=False)
class _Item:
    """A candidate on its way."""

    candidate: Candidate
    attempts: int = 0
    kills: int = 0
    losses: int = 0


@dataclass(eq=False)
class _Task:
    """A batch under way: its items that are not finished, in order."""

    items: deque[_Item]
    node: str = ""  # where it runs, once it has said so
    running: bool = False  # the first item has started
    since: float = math.inf  # when it did, or so we heard
    last: Report | None = None
    idle: float = math.inf  # since when no item runs, once one has
    message: Any = None  # reference of one that is on its way from another node
    waited: float = math.inf  # since when

    def begin_anew(self, now: float) -> None:
        """Let all clocks that run begin at 0."""
        self.since, self.waited, self.idle = (
            value if value == math.inf else now for value in (self.since, self.waited, self.idle)
        )


class RayExecutor:
    """Evaluates in Ray tasks, on this machine or on a cluster.

    A batch whose worker died is split into singles, so that a killer does not take its neighbours along; what
    kills its worker three times, or passes the time limit, is recorded as FAILED with the reason. Lost nodes
    are lost workers.

    Args:
        address: ``HOST:PORT`` or ``auto``; None starts Ray on this machine and shuts it down again. Where the
            process is connected to Ray already, that is used, and left as it is.
        workers: how many tasks run at once; None: as many as the cluster has room for, also when it grows.
        cpus_per_task: CPUs that a task holds; torch gets as many threads (at least one).
        gpus_per_task: GPUs that a task holds, also a fraction.
        batch: at most so many candidates go into one task; 1 for evaluations of seconds, more for
            milliseconds.
        time_limit: seconds per candidate; None for no limit.
        recycle_mib: a worker that holds so many MiB more than after its first batch is replaced by a new one
            once its batch is done, so that what leaks does not fill the machine; None replaces none. A new
            worker takes some seconds to start.
        patience: seconds within which a cluster at `address` has to answer, Ray's start in the process that
            asks included; and after which one whose head answers no more is taken for lost.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        cpus_per_task: float = 1,
        gpus_per_task: float = 0,
        batch: int = 1,
        time_limit: float | None = None,
        recycle_mib: float | None = 1024,
        patience: float = 60,
    ) -> None:
        for name, value, low in (
            ("workers", workers, 1),
            ("batch", batch, 1),
            ("gpus_per_task", gpus_per_task, 0),
        ):
            if value is not None and value < low:
                raise InputError(f"ray.{name} {value}: expected at least {low}")
        for name, value in (
            ("cpus_per_task", cpus_per_task),
            ("time_limit", time_limit),
            ("recycle_mib", recycle_mib),
            ("patience", patience),
        ):
            if value is not None and not value > 0:
                raise InputError(f"ray.{name} {value}: expected more than 0")
        self.recycle_mib, self.patience = recycle_mib, patience
        self._recycled = 0
        self.address, self.workers, self.batch, self.time_limit = address, workers, batch, time_limit
        self.cpus_per_task, self.gpus_per_task = cpus_per_task, gpus_per_task
        self._connected = self._started = False
        self._remote: Any = None
        self._capacity = workers or 1
        self._nodes, self._head = Nodes(), Head()
        self._most = 0  # tasks sent and not finished
        self._looked = -math.inf
        self._queue: deque[_Item] = deque()
        self._singles: deque[_Item] = deque()  # suspects: each gets a task of its own
        self._tasks: dict[Any, _Task] = {}
        self._leaving: dict[Any, float] = {}  # cancelled gently, and how long it may take
        self._ready: list[Event] = []

    @property
    def capacity(self) -> int:
        return self._capacity

    def start(self, space: Space, evaluator: Evaluator) -> None:
        """Connect, and send space and evaluator to the cluster's object store.

        Raises:
            InputError: no Ray answers at the address, no node has room for a task, or something does not
                pickle.
        """
        self.connect()
        if self._remote is None:
            self._remote = self._make_remote()
        self._evaluator = evaluator
        self._box = ray_connection.boxed((space, evaluator))

    def connect(self) -> None:
        """Join the cluster, or start one here, unless that is done.

        Raises:
            InputError: no Ray answers at the address, or no node has room for a task.
        """
        if not self._started:
            cpus = None if self.workers is None else self.workers * self.cpus_per_task
            self._connected = ray_connection.connect(self.address, cpus, self.patience)
            self._started = True
            self.look(first=True)

    def _make_remote(self) -> Any:
        return ray.remote(
            num_returns="streaming",
            max_retries=0,  # a generator that Ray restarts splices two attempts into one stream
            max_calls=0,  # GPU tasks would get a new process each time
            num_cpus=self.cpus_per_task,
            num_gpus=self.gpus_per_task,
            runtime_env={"env_vars": self.variables},
        )(work)

    @property
    def threads(self) -> int:
        """Of torch, in a task."""
        return max(1, int(self.cpus_per_task))

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a task: libraries read it when they are imported."""
        return {
            name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._queue.extend(_Item(candidate) for candidate in candidates)
        self._launch()

    def events(self, timeout: float | None = None) -> list[Event]:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            if self.look():
                self._leave_lost_nodes()
            self._launch()
            if self._ready or not self._tasks:
                break
            # at least every second: nothing depends on Ray waking us up
            self._receive_all(max(0.0, min(deadline - time.monotonic(), self._next_limit(), 1.0)))
            self._stop_overdue()
            if time.monotonic() >= deadline:
                break
        self._launch()  # keeps the workers busy while the caller thinks
        events, self._ready = self._ready, []
        return events

    def cancel(self, id: int) -> None:
        for stream, task in self._tasks.items():
            if task.running and task.items[0].candidate.id == id:
                # gently: the worker process lives on, it leaves the evaluation at its next report
                item = self._abandon(stream, force=False)
                self._leaving[stream] = time.monotonic() + _GRACE
                self._ready.append(
                    Finished(
                        pruned(
                            self._evaluator,
                            item.candidate,
                            task.last,
                            time.monotonic() - task.since,
                            attempts=item.attempts,
                        )
                    )
                )
                return

    def withdraw(self) -> list[int]:
        self._receive_all(0.0)
        items = [*self._queue, *self._singles]
        self._queue.clear()
        self._singles.clear()
        for stream, task in list(self._tasks.items()):
            if task.items and not task.running:
                items += task.items
                del self._tasks[stream]
                ray.cancel(stream)
        return [item.candidate.id for item in items]

    def close(self) -> None:
        """Stop all tasks; shut Ray down, or leave the cluster, where this executor started or joined it."""
        if self._started and not self._connected and ray.is_initialized():
            # Only what still has work: to cancel a task just as it ends is what we believe made Ray 2.60
            # abort this very process ("Tried to complete task that was not pending", see docs/decisions.md).
            # Where this executor leaves Ray, its tasks end with the connection.
            for stream in (*(stream for stream, task in self._tasks.items() if task.items), *self._leaving):
                ray.cancel(stream, force=True)
        self._tasks.clear()
        self._leaving.clear()
        self._queue.clear()
        self._singles.clear()
        self._ready.clear()
        self._box = []
        if self._connected:
            ray.shutdown()
        self._connected = self._started = False
        self._remote = None
        self._nodes = Nodes()
        self._looked = -math.inf

    # -- sending ---------------------------------------------------------------------------------------------

    def look(self, first: bool = False) -> bool:
        """See how large the cluster is, as nodes come and go; return whether some were lost."""
        if time.monotonic() - self._looked < _REFRESH:
            return False
        self._looked = time.monotonic()
        if first:
            self._head.meet()
        if not self._check_head():
            return False
        lost = self._nodes.look()
        room = self._nodes.room(self.cpus_per_task, self.gpus_per_task)
        if first and not room and (self.workers is None or self.address is None):
            need = f"{self.cpus_per_task:g} CPU and {self.gpus_per_task:g} GPU"
            raise InputError(
                f"ray: no node has the {need} of a task; lower cpus_per_task or gpus_per_task, or give "
                f"`workers` to wait for nodes"
            )
        self._capacity = self.workers or max(1, room)
        # where Ray has no room for more, as many tasks again wait there: no worker ever waits for this
        # process
        self._most = 2 * self._capacity if room <= self._capacity else self._capacity
        return bool(lost)

    def _check_head(self) -> bool:
        """Whether the head answers; where it is lost nothing more is said to Ray, which would wait."""
        try:
            return self._head.check()
        except WorkersLostError:
            self._connected = self._started = False
            ray_connection.leave_behind()
            raise

    def _launch(self) -> None:
        free = self._most - len(self._tasks)
        while free > 0 and (self._singles or self._queue):
            if self._singles:
                items = deque([self._singles.popleft()])
            else:
                size = min(self.batch, math.ceil(len(self._queue) / free))
                items = deque(self._queue.popleft() for _ in range(size))
            stream = self._remote.remote(
                self._box,
                [(item.candidate, item.attempts + 1) for item in items],
                self.threads,
                math.inf if self.recycle_mib is None else self.recycle_mib,
            )
            self._tasks[stream] = _Task(items)
            free -= 1

    # -- receiving -------------------------------------------------------------------------------------------

    def _receive_all(self, timeout: float) -> None:
        """Take in every message there is; wait for the first, and no longer than a while for the last: a
        candidate may report faster than anybody listens.
        """
        until = time.monotonic() + timeout + _WHILE
        while self._tasks and time.monotonic() < until:
            # of a stream its next message, or the content of one that is on its way here
            streams = {task.message or stream: stream for stream, task in self._tasks.items()}
            ready, _ = ray.wait(list(streams), num_returns=1, timeout=timeout)
            if not ready:
                return
            if len(streams) > 1:
                ready, _ = ray.wait(list(streams), num_returns=len(streams), timeout=0)
            for stream in (streams[one] for one in ready):
                if stream in self._tasks:  # a lost node takes others along
                    self._receive(stream)
            timeout = 0.0

    def _receive(self, stream: Any) -> None:
        task = self._tasks[stream]
        try:
            if task.message is None:
                task.message, task.waited = next(stream), time.monotonic()
            message: Message = ray.get(task.message, timeout=0)
        except StopIteration:
            del self._tasks[stream]
            self._queue.extendleft(reversed(task.items))  # of a batch that ended well nothing is left
        except exceptions.GetTimeoutError:
            return  # too large to come at once: it is waited for with all the others
        except exceptions.RayError as error:
            self._lost(stream, error)
        else:
            task.message, task.waited = None, math.inf
            for event in message:
                if isinstance(event, Arrived):
                    task.node = event.node
                    self._nodes.meet(event.node)
                elif isinstance(event, Grown):
                    self._recycle(stream, event.mib)
                else:
                    self._ready.append(self._note(task, event))

    def _note(self, task: _Task, event: Event) -> Event:
        if isinstance(event, Started):
            task.items[0].attempts += 1
            task.running, task.since, task.last, task.idle = True, time.monotonic(), None, math.inf
        elif isinstance(event, Reported):
            task.last = event.report
        else:
            item = task.items.popleft()
            task.running, task.since, task.idle = False, math.inf, time.monotonic()
            # not a second copy of the genome
            event = Finished(replace(event.evaluation, candidate=item.candidate))
        return event

    def _recycle(self, stream: Any, grown: float) -> None:
        """Stop a worker that has done its batch."""
        del self._tasks[stream]
        ray.cancel(stream, force=True)  # it waits for that: the task is not just about to end
        self._recycled += 1
        if self._recycled == 1:
            _log.warning(
                "a worker grew by %.0f MiB after its first batch, more than ray.recycle_mib %g: a new one "
                "takes its place, as with all that follow, without further words (does the candidates' code "
                "keep what it makes?)",
                grown,
                self.recycle_mib,
            )

    # -- what goes wrong -------------------------------------------------------------------------------------

    def _lost(self, stream: Any, error: Exception) -> None:
        """A task broke off: its worker or node died, or it could not even begin."""
        task = self._tasks.pop(stream)
        if isinstance(error, exceptions.TaskUnschedulableError | exceptions.RayTaskError):
            why = reason(getattr(error, "cause", None) or error)
            if task.running:  # what it has come to does not travel, for one
                self._fail(task.items.popleft(), f"its results could not be sent: {why}", Cause.ERROR)
                self._queue.extendleft(reversed(task.items))
                return
            # not the candidates' fault, nor would it help to try again
            for item in task.items:
                self._fail(item, f"the worker could not begin: {why}", Cause.LOST_WORKER)
            return
        killed = isinstance(
            error, exceptions.WorkerCrashedError | exceptions.OutOfMemoryError
        ) and self._answers(task.node)
        self._blame(task, killed, reason(error))
        self._singles.extend(task.items)

    def _blame(self, task: _Task, killed: bool, why: str) -> None:
        """Count against the item that was running, or is the first suspect, that its worker is gone; fail it
        where that has happened too often.
        """
        if not task.items:
            return
        suspect = task.items[0]
        suspect.losses += 1
        suspect.kills += killed
        if suspect.kills >= KILLS or suspect.losses >= LOSSES:
            self._fail(
                task.items.popleft(), f"its worker died {suspect.losses} times ({why})", Cause.LOST_WORKER
            )

    def _answers(self, node: str) -> bool:
        """Whether a node is there: what dies with its node has not killed its worker."""
        if not node:
            return True
        if self._nodes.look():
            self._leave_lost_nodes()
        return node in self._nodes and not self._nodes.silent([node])

    def _leave_lost_nodes(self) -> None:
        """Send again what was on nodes that Ray has given up: Ray's own word on these tasks may take minutes
        more. What has not begun may be on its way there, so it is sent again, too.
        """
        # Ray asks for no more workers than a function has tasks, and those that it asks of a lost node count
        # for minutes: as another function the same one is asked for anew
        self._remote = self._make_remote()
        for stream, task in list(self._tasks.items()):
            if task.node in self._nodes:
                continue
            del self._tasks[stream]
            ray.cancel(stream)
            if task.running:
                self._blame(task, killed=False, why="the node it ran on was lost")
            elif not task.node:
                self._leaving[stream] = time.monotonic() + _GRACE
            self._queue.extendleft(reversed(task.items))

    def _next_limit(self) -> float:
        """Seconds until the first running candidate passes its time limit."""
        if self.time_limit is None:
            return math.inf
        return min(task.since for task in self._tasks.values()) + self.time_limit - time.monotonic()

    def _stop_overdue(self) -> None:
        now = time.monotonic()
        for stream, until in list(self._leaving.items()):
            if now > until:  # it would hold its CPU for ever; where it has ended long since nothing happens
                del self._leaving[stream]
                ray.cancel(stream, force=True)
        limit = math.inf if self.time_limit is None else self.time_limit
        overdue = [
            (stream, task)
            for stream, task in self._tasks.items()
            if now - task.since > limit or now - task.waited > _FETCH or now - task.idle > _GRACE
        ]
        silent = self._nodes.silent(task.node for _, task in overdue)
        for stream, task in overdue:
            if task.node in silent:  # its time counts for nothing: if it comes back, time begins anew
                task.begin_anew(now)
            elif now - task.waited > _FETCH:
                ray.cancel(stream, force=True)
                self._lost(
                    stream, exceptions.GetTimeoutError(f"its results did not come within {_FETCH:g} s")
                )
            elif now - task.idle > _GRACE:  # it neither ends nor goes on
                del self._tasks[stream]
                ray.cancel(stream, force=True)
                self._queue.extendleft(reversed(task.items))
            else:
                self._fail(
                    self._abandon(stream, force=True),
                    f"exceeded the time limit of {limit:g} s",
                    Cause.TIME_LIMIT,
                    limit,
                )

    def _abandon(self, stream: Any, force: bool) -> _Item:
        """Stop a task because of its running item, which is returned; the others are sent again."""
        task = self._tasks.pop(stream)
        ray.cancel(stream, force=force)
        item = task.items.popleft()
        self._queue.extendleft(reversed(task.items))
        return item

    def _fail(self, item: _Item, why: str, cause: Cause, seconds: float = 0.0) -> None:
        evaluation: Evaluation = failed(
            item.candidate, why, seconds, attempts=max(1, item.attempts), cause=cause
        )
        self._ready.append(Finished(evaluation))
