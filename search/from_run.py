"""Begin where another run ended: its candidates, carried over by the names of what they choose."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evaluators.base import State
from operators.base import Guide
from operators.initialisation import Initialisation
from search.about import About
from search.front import Front
from search.ledger import Ledger
from search.proposals import default_initialisation
from spaces.base import Space
from spaces.errors import InputError


class FromRun(Initialisation):
    """Gives what another run found, its front first, then its latest candidates, then what another initialisation draws. [O]

    Genomes are carried over by the names of segments and the values of their choices, so the space may have got more choices, or others,
    since: a segment that the run does not know is as in the base model (at random where there is none), one that the space no longer has
    is left out, and a candidate that chose a value which is gone is not asked. They are evaluated anew, by this run's evaluators.

    Args:
        run: folder of the other run, complete or not. Who resumes this one reads it again, so it must be there and as it was.
        most: candidates that are taken over.
        then: what gives the rest; null: the default of :class:`Evolution`.

    Raises:
        InputError: no run is there; at the start: it has no segment in common with the space.
    """

    def __init__(self, run: str, most: int = 64, then: Initialisation | None = None) -> None:
        if most < 1:
            raise InputError(f"FromRun: most {most}; expected at least 1")
        self.run, self.most, self.then = run, most, then
        self._open().close()
        self._left: deque[np.ndarray] | None = None

    def _draw(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        if self._left is None:
            self._left = deque(self._carried(space, rng))
        taken = [self._left.popleft() for _ in range(min(n, len(self._left)))]
        if len(taken) < n:
            taken.extend((self.then or default_initialisation(space, guide))(space, n - len(taken), guide, rng))
        return np.stack(taken) if taken else np.empty((0, space.length), dtype=np.uint8)

    def _open(self) -> Ledger:
        folder = Path(self.run)
        return Ledger.reader(folder if folder.suffix == ".db" else folder / "ledger.db")

    def _carried(self, space: Space, rng: np.random.Generator) -> list[np.ndarray]:
        ledger = self._open()
        try:
            shared = {s.name for s in space.segments} & {s.name for s in ledger.segments}
            if not shared:
                raise InputError(
                    f"{self.run}: no segment of it is one of {type(space).__name__}: it has {', '.join(s.name for s in ledger.segments)}; "
                    f"expected some of {', '.join(s.name for s in space.segments)}"
                )
            found = (carried(ledger, genome, space, rng) for genome in _best_first(ledger))
            different: dict[bytes, np.ndarray] = {}
            for genome in found:
                if genome is not None:
                    different.setdefault(genome.tobytes(), genome)
                if len(different) == self.most:
                    break
            return list(different.values())
        finally:
            ledger.close()


def carried(ledger: Ledger, genome: np.ndarray, space: Space, rng: np.random.Generator) -> np.ndarray | None:
    """Return what a genome of a ledger is in another space, ``(length,)``; None where a value that it chose is not to be had there."""
    result = (space.sample(1, rng)[0] if space.base is None else space.base).copy()
    start = 0
    for segment in ledger.segments:
        alleles, start = genome[start : start + segment.size], start + segment.size
        there = next((s for s in space.segments if s.name == segment.name and s.size == segment.size), None)
        if there is None:
            continue
        before, now = ledger.alleles.get(segment.name), space.alleles.get(segment.name)
        if before is not None and now is not None:
            if any(before[allele] not in now for allele in alleles):
                return None
            alleles = np.array([now.index(before[allele]) for allele in alleles], dtype=np.uint8)
        elif there.choices != segment.choices:
            continue
        result[space.slices[segment.name]] = alleles
    return result


def _best_first(ledger: Ledger) -> Iterator[np.ndarray]:
    front, latest = Front(About.load(ledger).problem()), deque[np.ndarray]()
    for _, evaluation in ledger.evaluations():
        if evaluation.state is State.COMPLETE:
            front.add(evaluation)
            latest.appendleft(evaluation.candidate.genome)
    yield from (member.candidate.genome for member in front.members)
    yield from latest
