"""The loop that serves every strategy: asks, has evaluated, records, tells; in order, and never twice."""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any, Literal

import numpy as np

from evaluators.base import Candidate, Evaluation, Report, State
from search.ask_and_tell import AskAndTell, candidate_of, declares_state, plain_candidate
from search.budget import COMPUTE, Budget
from search.ending import Ending, EndingKind
from search.executors.base import Event, Executor, Reported, Started
from search.executors.racing import racing
from search.executors.work import pruned
from search.problem import Problem
from search.record.ledger import Ledger
from search.record.retry import TRIAL, Retry, is_stuck, tried
from search.record.snapshot import Snapshots
from search.stop import Stop
from search.tally import SearchLoop
from spaces.errors import InputError
from spaces.names import public_name

Order = Literal["strict", "arrival"]
_TICK = 0.5  # seconds after which the loop looks up, events or not
_GRACE = (
    10.0,
    0.25,
    # when the time is up running candidates may still finish: for so many seconds, and this share of the
    # budget
)
_TAIL = 16  # results by which a snapshot is recognised
_TIDY = 64  # after so many results, files that no candidate can inherit any more are deleted


class Loop(SearchLoop):
    """Runs a strategy on an executor until a budget is spent, and keeps the ledger.

    Chunk j is asked after exactly the results of all chunks up to ``j - lag / chunk`` were told, so a run
    depends on seed, lag and chunk, never on the number of workers or on timing. With ``order="arrival"``
    every result is told as it comes and a chunk is asked when no more than ``lag - chunk`` are open; the
    order is in the ledger, so such a run can be replayed but not repeated.

    To resume is to run: what the strategy asks is compared with the ledger, what the ledger knows is told
    from there, and only the rest is evaluated. Whole chunks are asked always, so a run continued with a
    larger budget is the run that the larger budget would have given at once.

    A run that has ended in failures, most of its first results, is called again when their cause is mended:
    all that failed is evaluated once more, and what the strategy had asked knowing of the failures is asked
    anew. In strict order it becomes the run that it would have been without them.

    Args:
        problem: space, evaluator and goals.
        strategy: proposes and learns.
        executor: evaluates; started when it is first needed, closed by whoever made it.
        ledger: of this run.
        budget: when to stop.
        seed: of the run.
        order: in which results are told.
        lag: candidates asked and not yet told, at most; a multiple of `chunk`.
        chunk: candidates asked at once.
        listeners: objects with ``evaluated(evaluation, joined_front)``, called for every new result as it is
            told, or ``tick(loop)``, called about twice a second and after every batch of events.
        epoch_macs: what an epoch of training the base model takes, where the budget counts epochs.
    """

    def __init__(
        self,
        problem: Problem,
        strategy: AskAndTell,
        executor: Executor,
        ledger: Ledger,
        budget: Budget,
        *,
        seed: int = 0,
        order: Order = "strict",
        lag: int = 64,
        chunk: int = 16,
        listeners: Sequence[object] = (),
        epoch_macs: float = math.nan,
    ) -> None:
        if chunk < 1 or lag < chunk or lag % chunk:
            raise InputError(
                f"search.lag {lag}, search.chunk {chunk}: expected lag to be a multiple of chunk, and chunk "
                f"at least 1"
            )
        if order not in ("strict", "arrival"):
            raise InputError(f"search.order {order!r}: expected 'strict' or 'arrival'")
        executor = racing(executor, problem, ledger, lambda: self.tally.front)
        super().__init__(problem, executor, ledger, budget, listeners)
        self.strategy, self._epoch_macs = strategy, epoch_macs
        self.seed, self.order, self.lag, self.chunk = seed, order, lag, chunk
        self._limit = math.inf if budget.evaluations is None else budget.evaluations
        self._open: dict[int, Candidate] = {}  # asked, not told
        # the same in the order in which they are told, where that is strict
        self._chunks: deque[list[Candidate]] = deque()
        self._waiting: dict[int, Evaluation] = {}  # results that came before their turn
        self._flying: dict[int, Candidate] = {}  # submitted, not finished
        self._stopped: dict[int, tuple[Report, Stop]] = {}  # by the strategy at this report, and why
        self._old: set[int] = set()  # results from the ledger that are not counted yet
        self._failures: Counter[str] = Counter()
        self._told = self._tidied = self._counted = self._within = 0
        self._highest = -1  # the highest id that was counted
        self._looked = 0.0
        self._counts: Counter[State] = Counter()  # of the states of what was counted
        self._tail: deque[int] = deque(maxlen=_TAIL)  # the latest that were counted
        self._snapshots = Snapshots(ledger.path)
        self._leave = self._started = False
        self._retry: Retry | None = None  # failures of earlier calls that are being undone
        self._tried: dict[int, int] = {}  # how often these candidates had been started

    @property
    def running(self) -> int:
        """Number of candidates submitted and not finished."""
        return len(self._flying)

    def run(self) -> Ending:
        """Run to the end and return why it ended.

        Raises:
            InputError: the ledger holds other candidates than the strategy asks.
        """
        return self.tally.run(self.ledger, self._search)

    def interrupt(self) -> None:
        """Ask nothing more and finish what is running; called again, leave at once. Safe in a
        signal handler.
        """
        interrupted = Ending(EndingKind.INTERRUPTED)
        self._leave = self.tally.ending == interrupted
        self.tally.ending = interrupted

    # -- one round -------------------------------------------------------------------------------------------

    def _search(self) -> Ending:
        self._replay()
        while self._flying and not self._leave:
            self._tick()
        return self._settle()

    def _replay(self) -> None:
        """Bring strategy and front to where the ledger ends, and submit the first candidates."""
        self.tally.recall(self.ledger)
        if self.tally.overtime():
            self.tally.end(EndingKind.SECONDS)
        again = not self.tally.ending and is_stuck(self.ledger, self.order)
        if again:
            self._snapshots.discard()  # the ledger is about to say something else
        self._retry = Retry.begin(self.ledger) if again else Retry.load(self.ledger)
        self._tried = tried(self.ledger)
        self.recorded = self.ledger.counts()["candidates"]
        self._records = self.ledger.candidates()
        self._arrivals = self._arrived(self._retry, self.ledger.last_seq)
        if not self._restore():
            self.strategy.start(self.problem, self.seed)
        self._advance()

    def _arrived(self, retry: Retry | None, last: int, after: int = 0) -> Iterator[Evaluation]:
        """Yield the results after the number `after` up to `last` that are told as they came."""
        for seq, evaluation in self.ledger.evaluations(after, arrays=True):
            if seq > last:
                return
            if retry is None or retry.was_told(seq):
                yield evaluation

    def _tick(self) -> None:
        left = math.inf if self.tally.ending else self.tally.seconds_left
        for event in self.executor.events(max(0.0, min(_TICK, left))):
            self._handle(event)
        self.tally.keep_time(self.ledger)
        self.ledger.commit()  # before anybody hears of it
        if self.tally.overtime():
            self.tally.end(EndingKind.SECONDS)
            self._leave = self._leave or self.tally.overtime(*_GRACE)
        self._advance()
        if not self._orderly:
            for id in self.executor.withdraw():
                del self._flying[id]
        self._tidy()
        self._snap()
        self.tally.tick(self)

    @property
    def _orderly(self) -> bool:
        """Whether everything asked is to be finished."""
        return self.tally.ending is None or self.tally.ending.orderly

    def _tidy(self) -> None:
        """Now and then have files deleted that no candidate can inherit any more; all that is told is in the
        ledger by now.
        """
        if (
            not self.problem.evaluator.inherits
            or self._told - self._tidied < _TIDY
            or (heirs := self.strategy.heirs()) is None
        ):
            return
        self._tidied = self._told
        parents = {parent for candidate in self._open.values() for parent in candidate.parents}
        self.problem.evaluator.retain(
            heirs | parents | self._open.keys() | {member.candidate.id for member in self.tally.front.members}
        )

    def _handle(self, event: Event) -> None:
        if isinstance(event, Started):
            self.ledger.begin(event.id)
        elif isinstance(event, Reported):
            if event.id not in self._stopped:
                self.ledger.add_report(event.id, event.report)
                self.steps[event.id] = event.report.step
                hear = self.strategy.hears_known if event.known else self.strategy.should_stop
                if stop := Stop.of(hear(self._flying[event.id], event.report)):
                    self._stopped[event.id] = event.report, stop
                    self.executor.cancel(event.id)
        else:
            self._record(event.evaluation)

    def _record(self, evaluation: Evaluation) -> None:
        e, id = evaluation, evaluation.candidate.id
        # at that very report, however much further it came before it could be stopped
        if id in self._stopped:
            report, stop = self._stopped.pop(id)
            e = replace(
                pruned(self.problem.evaluator, e.candidate, report, e.seconds, e.worker, e.attempts),
                reason=stop.reason,
                cause=stop.cause,
            )
        del self._flying[id]
        self.steps.pop(id, None)
        e = replace(e, attempts=e.attempts + self._tried.pop(id, 0))
        self.ledger.add_evaluation(e)
        self.tally.states[e.state] += 1
        self._waiting[id] = e

    def _advance(self) -> None:
        """Tell what can be told and ask what may be asked, in turns: the order of the calls is
        part of a run.
        """
        self._ask()
        while evaluations := self._next():
            self.strategy.tell(evaluations)
            self._told += len(evaluations)
            for evaluation in evaluations:
                del self._open[evaluation.candidate.id]
                self._count(evaluation)
            self._ask()
            if self.reading and time.monotonic() - self._looked > _TICK:
                self._looked = time.monotonic()
                self.tally.tick(self)

    # -- snapshots -------------------------------------------------------------------------------------------

    def _snap(self, least: int | None = None) -> None:
        """Write a snapshot where it is time for one, and where the strategy can say what it has learned.

        Only as long as everything is asked that may be: once a limit stands in the way, more is told before
        the next candidate is asked than a run with a larger budget would have told.

        Args:
            least: results since the last one; None: as many as are worth it.
        """
        due = self._snapshots.due(self._told) if least is None else self._snapshots.due(self._told, least)
        ended = self.tally.ending is not None
        if not due or ended or self._retry is not None or not declares_state(self.strategy):
            return
        self._snapshots.begin(self._told)
        try:
            if (learned := self.strategy.state()) is not None:
                self._snapshots.write(self._told, self._fits, self._state(learned))
        # a strategy of the user's may fail in it, or give what cannot be kept: then the ledger is replayed
        except Exception:
            self._snapshots.discard()

    def _state(self, learned: dict[str, Any]) -> dict[str, Any]:
        """Return where the loop is, with what the strategy has learned."""
        tally = self.tally
        return {
            "asked": self.asked,
            "told": self._told,
            "arrived": (self.ledger.arrival(self._tail[-1]) or 0) if self._tail else 0,
            "open": [plain_candidate(candidate) for candidate in self._open.values()],
            "chunks": [[candidate.id for candidate in chunk] for chunk in self._chunks],
            "counts": {str(kind): count for kind, count in self._counts.items()},
            "failures": dict(self._failures),
            "front": [member.candidate.id for member in tally.front.members],
            "tally": [tally.feasible, tally.idle, tally.longest],
            "counted": [self._counted, self._highest, self._tidied],
            "tail": self._digest(self._tail),
            "latest": [*self._tail],
            "epochs": [self.epochs, self._epoch_macs],
            "strategy": learned,
        }

    def _restore(self) -> bool:
        """Start the strategy and go on from the snapshot, where there is one that fits; whether there was."""
        if self._retry is not None or not declares_state(self.strategy):
            return False
        state = self._snapshots.read(self._fits)
        if state is None or not self._serves(state):
            return False
        fresh = copy.deepcopy(self.strategy)
        try:
            self.strategy.start(self.problem, self.seed)
            self.strategy.restore(state["strategy"])
        # a strategy of the user's whose code has changed since raises whatever it likes
        except Exception:
            self.strategy = fresh
            return False
        self.asked, self._told = state["asked"], state["told"]
        opened = [candidate_of(one) for one in state["open"]]
        self._open = {candidate.id: candidate for candidate in opened}
        self._chunks = deque([self._open[id] for id in ids] for ids in state["chunks"])
        self._counts = Counter({State(kind): count for kind, count in state["counts"].items()})
        self._failures = Counter(state["failures"])
        self._counted, self._highest, self._tidied = state["counted"]
        self._within = self._counted
        self._tail.extend(state["latest"])
        self.epochs = state["epochs"][0]
        tally = self.tally
        tally.feasible, tally.idle, tally.longest = state["tally"]
        tally.states.update(self._counts)
        for id in state["front"]:
            if (member := self.ledger.evaluation(id, arrays=False)) is not None:
                tally.front.add(member)
        self.restored = self._counted
        self._snapshots.begin(self._told)
        if opened:
            self._records = self.ledger.candidates(min(self._open))
        if self.order == "arrival":
            self._arrivals = self._arrived(None, self.ledger.last_seq, state["arrived"])
        self._submit([candidate for candidate in opened if not self._recall(candidate)])
        return True

    def _serves(self, state: dict[str, Any]) -> bool:
        """Whether a snapshot is of this ledger, and none of the limits lies before it."""
        counted, highest, _ = state["counted"]
        epochs, epoch_macs = state["epochs"]
        if not counted == state["told"] <= self.ledger.last_seq or state["arrived"] > self.ledger.last_seq:
            return False
        if self.recorded <= highest or self._digest(state["latest"]) != state["tail"]:
            return False
        if self._limit <= max(highest, TRIAL) or state["tally"][2] >= (self.budget.stall or math.inf):
            return False
        spent = self.budget.epochs is not None and (
            epoch_macs != self._epoch_macs or epochs >= self.budget.epochs
        )
        return not spent

    @property
    def _fits(self) -> dict[str, Any]:
        """What a snapshot has to agree in with this call."""
        return {
            "version": metadata.version("secateur"),
            "identity": self.ledger.identity,
            "space": self.problem.space.fingerprint,
            "strategy": [public_name(type(self.strategy)), _source(type(self.strategy))],
            "goals": [str(goal) for goal in (*self.problem.objectives, *self.problem.constraints)],
            "loop": [self.seed, self.order, self.lag, self.chunk],
        }

    def _digest(self, ids: Iterable[int]) -> str:
        """Return a hash of what the ledger says of some candidates."""
        texts = []
        for id in ids:
            if (found := self.ledger.evaluation(id, arrays=False)) is not None:
                genome = found.candidate.genome.tobytes().hex()
                texts.append(f"{id} {genome} {found.state} {sorted(found.metrics.items())}")
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        while self._room() and (self.asked < self.recorded or self._may_go_on()):
            candidates = self.strategy.ask(self.chunk)
            if not candidates:
                if self.strategy.waiting and self._told < self.asked:
                    return
                if self.asked < self.recorded:
                    self._drop_the_rest()
                self.tally.ending = Ending(EndingKind.EXHAUSTED)
                return
            ids = [candidate.id for candidate in candidates]
            if ids != list(range(self.asked, self.asked + len(ids))):
                raise ValueError(
                    f"{type(self.strategy).__name__}.ask: expected ids from {self.asked} on, got {ids}"
                )
            self.asked += len(ids)
            self._open.update((candidate.id, candidate) for candidate in candidates)
            if self.order == "strict":
                self._chunks.append(candidates)
            self._submit([candidate for candidate in candidates if not self._recall(candidate)])
            if self._retry is not None and self.asked >= self.recorded:
                Retry.end(self.ledger)
                self._retry = None

    def _room(self) -> bool:
        if self.order == "strict":
            return len(self._chunks) < self.lag // self.chunk
        return self.asked - self._told <= self.lag - self.chunk

    def _may_go_on(self) -> bool:
        if self.asked >= self._limit and self.tally.ending is None:
            self._snap(least=_TIDY)  # a larger budget goes on from here
            self.tally.end(EndingKind.EVALUATIONS)
        return self.tally.ending is None

    def _recall(self, candidate: Candidate) -> bool:
        """Find a candidate's result in the ledger; return whether it is there."""
        if candidate.id >= self.recorded:
            return False
        recorded = next(found for found in self._records if found.id == candidate.id)
        for name in ("id", "genome", "parents", "operator", "seed"):
            if not np.array_equal(getattr(candidate, name), getattr(recorded, name)):
                if self._retry is not None and candidate.id > self._retry.first:
                    self._retry.supersede(self.ledger, candidate.id)
                    self.ledger.add_candidates([candidate])
                    return False
                raise self._other_run(
                    candidate.id, f"has another {name} in the ledger than the strategy asks for now"
                )
        evaluation = self.ledger.evaluation(
            candidate.id, arrays=self.order == "strict" or self._retry is not None
        )
        if evaluation is None:
            return False
        self.tally.states[evaluation.state] += 1
        self.restored += 1
        self._old.add(candidate.id)
        self.strategy.recall(candidate, self.ledger.reports(candidate.id))
        if self.order == "strict":
            self._waiting[candidate.id] = evaluation
        elif self._retry is not None and not self._retry.was_told(self.ledger.arrival(candidate.id) or 0):
            self.ledger.arrive_last(candidate.id)
            self._waiting[candidate.id] = evaluation
        return True

    def _drop_the_rest(self) -> None:
        """Forget the candidates that the strategy no longer asks.

        Raises:
            InputError: no failure was undone that would explain it.
        """
        if self._retry is None or self.asked <= self._retry.first:
            raise self._other_run(self.asked, "is in the ledger, but the strategy asks nothing more")
        for id in range(self.asked, self.recorded):
            self._retry.supersede(self.ledger, id)
        self.recorded = self.asked
        Retry.end(self.ledger)
        self._retry = None

    def _submit(self, candidates: Sequence[Candidate]) -> None:
        candidates = [candidate for candidate in candidates if candidate.id < self._limit]
        if not candidates or not self._orderly:
            return
        if not self._started:  # not before: a run that is complete needs no workers
            self.executor.start(self.problem.space, self.problem.evaluator)
            self._started = True
        self.ledger.add_candidates(candidate for candidate in candidates if candidate.id >= self.recorded)
        self._flying.update((candidate.id, candidate) for candidate in candidates)
        self.executor.submit(candidates)

    def _other_run(self, id: int, what: str) -> InputError:
        where = self.ledger.path or "ledger"
        return InputError(
            f"{where}: candidate {id} {what}; go on with the code, libraries and processor it began with, "
            f"or name a new run"
        )

    # -- telling ---------------------------------------------------------------------------------------------

    def _next(self) -> list[Evaluation]:
        """Return what is to be told next, or nothing yet."""
        if self.order == "strict":
            if self._chunks and all(candidate.id in self._waiting for candidate in self._chunks[0]):
                return [self._waiting.pop(candidate.id) for candidate in self._chunks.popleft()]
            return []
        for evaluation in self._arrivals:  # first those of the ledger, as they came then
            if evaluation.candidate.id >= self.asked:
                raise self._other_run(evaluation.candidate.id, "came before the strategy asks for it now")
            return [evaluation]
        return [self._waiting.pop(next(iter(self._waiting)))] if self._waiting else []

    def _count(self, evaluation: Evaluation) -> None:
        joined = self.tally.count(evaluation)
        if self.budget.epochs is not None:
            self.epochs += evaluation.metrics.get(COMPUTE, 0.0) / self._epoch_macs
            if self.epochs >= self.budget.epochs:
                self.tally.end(EndingKind.EPOCHS)
        self._counted += 1
        self._counts[evaluation.state] += 1
        self._highest = max(self._highest, evaluation.candidate.id)
        self._tail.append(evaluation.candidate.id)
        self._within += evaluation.candidate.id < self._limit
        if evaluation.state is State.FAILED and self._counted <= (trial := min(TRIAL, self._limit)):
            self._failures[evaluation.reason] += 1
            if self._failures.total() > trial / 2 and self._orderly:
                self.tally.ending = Ending(EndingKind.FAILURES, self._failures.most_common(1)[0][0])
        if evaluation.candidate.id in self._old:
            self._old.remove(evaluation.candidate.id)
            return
        self.tally.tell(evaluation, joined)

    def _settle(self) -> Ending:
        """Count what came out of turn, beside a gap or in a chunk that the budget cut off; return why the run
        ended.
        """
        if self.order == "strict":
            for id in sorted(self._waiting):
                self._count(self._waiting.pop(id))
        ending = self.tally.ending or Ending(EndingKind.INTERRUPTED)
        if ending.lasting and self._failures.total() > min(self._counted, TRIAL) / 2:
            return Ending(EndingKind.FAILURES, self._failures.most_common(1)[0][0])
        if self._within == self._limit and ending.kind in (EndingKind.SECONDS, EndingKind.INTERRUPTED):
            return Ending(EndingKind.EVALUATIONS)  # they came too late to matter
        return ending


def _source(kind: type) -> str:
    """Return a hash of the source of a class; empty where there is none to be read."""
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):
        return ""


def epoch_macs(problem: Problem, budget: Budget) -> float:
    """Return the multiply-accumulates of an epoch of training the base model, a backward pass counted as two
    forward passes; nan where the budget counts no epochs.

    Raises:
        InputError: the budget counts epochs, and no evaluator reports what training takes.
    """
    if budget.epochs is None:
        return math.nan
    data, macs = problem.evaluator.data, problem.screened_base().get("macs")
    if data is None or macs is None or COMPUTE not in problem.evaluator.metrics:
        raise InputError(
            f"budget.epochs: nobody counts what training takes; expected evaluators Cost and one that "
            f"reports {COMPUTE}, such as "
            "InheritedTraining over a ChannelSpace"
        )
    return 3.0 * macs * data.size("train")
