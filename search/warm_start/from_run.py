"""Begin where another run ended: its candidates, carried over by the names of what they choose."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.base import State
from operators.base import Guide
from operators.initialisation import Initialisation, default_initialisation
from search.ask_and_tell import declares_state
from search.front import Front
from search.record.about import About
from search.record.ledger import Ledger
from search.warm_start.translation import translation
from spaces.base import Segment, Space
from spaces.errors import InputError


class FromRun(Initialisation):
    """Gives what another run found, its front first, then its latest candidates, then what another
    initialisation draws. [O]

    Genomes are carried over by the names of segments and the values of their choices (of trials: by the names
    and values of their parameters), so the space may have more choices by now, or others: a segment that the
    run does not know is as in the base model (at random where there is none), one that the space no longer
    has is left out, and a candidate that chose a value which is gone is not asked. A search takes the results
    along where they mean the same (:class:`~search.warm_start.carried_results.CarriedResults` says when), all
    of them, whatever asks for the candidate; the others are evaluated anew.

    Args:
        run: folder of the other run, complete or not. A search with a folder keeps a copy of its ledger; to
            resume it needs no more.
        most: candidates that are taken over. A strategy that asks for all that is known (Tuning) asks for
            these alone where there are any.
        then: what gives the rest; null: the default of :class:`Evolution` (with Tuning and
            SuccessiveHalving: the sampler).

    Raises:
        InputError: `most` is below 1; before a search has a folder: no run is there, or it has no segment in
            common with the space.
    """

    checks = True
    __slots__ = ("_all", "_kept")  # out of `__dict__`, of which the identity of a run is made

    def __init__(self, run: str, most: int = 64, then: Initialisation | None = None) -> None:
        if most < 1:
            raise InputError(f"FromRun: most {most}; expected at least 1")
        self.run, self.most, self.then = run, most, then
        self._kept: Path | None = None  # where the copy is
        self._all: list[np.ndarray] | None = None  # genomes to give instead of the `most` best
        self._left: deque[np.ndarray] | None = None

    def give_all(self, genomes: Sequence[np.ndarray] | None) -> None:
        """Give these genomes of a space, whatever `most` says: what is known of the run there; None: the best
        ones again.
        """
        self._all = None if genomes is None else list(genomes)

    def find(self, state: Path | None) -> None:
        """Read from the copy in a search's folder of heavy state from now on, where there is one."""
        copy = None if state is None else self._copy(state)
        self._kept = copy if copy is not None and copy.is_file() else None

    def check(self, space: Space) -> None:
        """See that the run is there and shares a segment with a space.

        Raises:
            InputError: it is not, or does not.
        """
        with closing(self.open()) as ledger:
            if not {s.name for s in space.segments} & {s.name for s in ledger.segments}:
                raise InputError(
                    f"{self.run}: no segment of it is one of {type(space).__name__}: it has "
                    f"{_listed(ledger.segments)}; "
                    f"expected some of {_listed(space.segments)}"
                )

    def keep(self, state: Path) -> None:
        """Copy the run's ledger as it is now into a search's folder of heavy state, unless that was done
        before.

        Raises:
            LedgerError: the disk is full.
        """
        if not self._copy(state).is_file():
            with closing(self.open()) as ledger:
                ledger.copy(self._copy(state))
        self.find(state)

    def open(self) -> Ledger:
        """Return a reader of the run's ledger, or of its copy.

        Raises:
            InputError: there is none.
        """
        folder = Path(self.run)
        return Ledger.reader(self._kept or (folder if folder.suffix == ".db" else folder / "ledger.db"))

    def _copy(self, state: Path) -> Path:
        return state / "from" / f"{hashlib.sha256(self.run.encode()).hexdigest()[:16]}.db"

    def at_hand(self, space: Space, rng: np.random.Generator) -> int:
        return len(self._carry(space, rng))

    def state(self) -> dict[str, Any] | None:
        """Return what is left of what the run found."""
        inner = self.then.state() if declares_state(self.then) else {}  # type: ignore[union-attr]
        if inner is None:
            return None
        return {"left": None if self._left is None else [*self._left], "then": inner}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._left = None if state["left"] is None else deque(state["left"])
        if declares_state(self.then):
            self.then.restore(state["then"])  # type: ignore[union-attr]

    def _draw(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        taken = [self._carry(space, rng).popleft() for _ in range(min(n, self.at_hand(space, rng)))]
        if len(taken) < n:
            taken.extend(
                (self.then or default_initialisation(space, guide))(space, n - len(taken), guide, rng)
            )
        return np.stack(taken) if taken else np.empty((0, space.length), dtype=np.uint8)

    def _carry(self, space: Space, rng: np.random.Generator) -> deque[np.ndarray]:
        """Return what is left of what the run found; read when it is first needed."""
        if self._left is None:
            self.check(space)
            self._left = deque(self._carried(space, rng))
        return self._left

    def _carried(self, space: Space, rng: np.random.Generator) -> list[np.ndarray]:
        if self._all is not None:
            return list(self._all)
        with closing(self.open()) as ledger:
            carry = translation(ledger, space)
            found = (carry.near(genome, rng) for genome in _best_first(ledger))
            different: dict[bytes, np.ndarray] = {}
            for genome in found:
                if genome is not None:
                    different.setdefault(genome.tobytes(), genome)
                if len(different) == self.most:
                    break
            return list(different.values())


def _best_first(ledger: Ledger) -> Iterator[np.ndarray]:
    front, latest = Front(About.load(ledger).problem()), deque[np.ndarray]()
    for _, evaluation in ledger.evaluations():
        if evaluation.state is State.COMPLETE:
            front.add(evaluation)
            latest.appendleft(evaluation.candidate.genome)
    yield from (member.candidate.genome for member in front.members)
    yield from latest


def _listed(segments: Sequence[Segment], most: int = 12) -> str:
    names = [segment.name for segment in segments]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
