"""Screening of proposals: none twice, and none that is known to be infeasible while a feasible one can be
had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np

from search.problem import Problem
from search.strategies.proposals import Draw, Proposal, stacked

_DIGEST = 16  # bytes


class Screening:
    """Turns random draws into proposals that are worth an evaluation. [O]

    A duplicate, and what the screened metrics show to be infeasible, is drawn again a bounded number of
    times. After that an infeasible genome is pulled towards the nearest feasible one that is known, only as
    far as necessary, and a duplicate is changed more and more until it is a plain sample. As long as nothing
    feasible is known, the least infeasible may pass.

    The work for a proposal does not grow with what has passed; memory grows by a digest of 16 bytes each.

    Args:
        redraws: how often an unfit proposal is drawn again before it is mended.
    """

    remembered = 64
    """Feasible genomes that infeasible ones are pulled towards: the latest."""
    halvings = 5
    """Of the way to a feasible genome, to find where on it feasibility begins: each costs one screening."""
    crowd = 32
    """Changed genomes tried at once when nothing new is found."""
    hopeless = 64
    """Rounds of plain samples without anything new after which the space counts as exhausted."""

    def __init__(self, problem: Problem, rng: np.random.Generator, redraws: int = 4) -> None:
        self.problem, self.space, self.rng, self.redraws = problem, problem.space, rng, redraws
        screened = problem.evaluator.screened
        self._screens = any(constraint.metric in screened for constraint in problem.constraints)
        self._seen: set[bytes] = set()
        self._feasible: deque[np.ndarray] = deque(maxlen=self.remembered)

    def state(self) -> dict[str, Any]:
        """Return what has passed, and the latest feasible genomes."""
        seen = np.frombuffer(b"".join(sorted(self._seen)), np.uint8)
        return {"seen": seen, "feasible": stacked(self._feasible, self.space.length)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        raw = np.asarray(state["seen"]).tobytes()
        self._seen = {raw[start : start + _DIGEST] for start in range(0, len(raw), _DIGEST)}
        self._feasible = deque(state["feasible"], maxlen=self.remembered)

    def admit(self, genome: np.ndarray) -> bool:
        """Note that a genome ``(length,)`` passes; False where it has passed before."""
        digest = blake2b(self.space.pack(self.space.canonical(genome[None])[0]), digest_size=_DIGEST).digest()
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True

    def take(self, n: int, draw: Draw) -> list[Proposal]:
        """Return `n` new proposals; fewer only where nothing new is found any more."""
        taken: list[Proposal] = []
        drawn: list[Proposal] = []
        for _ in range(1 + self.redraws):  # what is missing is drawn again, and at last mended
            if len(taken) < n:
                drawn = draw(n - len(taken))
                taken += self._fit(drawn, n - len(taken))
        return taken + self._mend(drawn, n - len(taken))

    def _mend(self, unfit: list[Proposal], n: int) -> list[Proposal]:
        """Return up to `n` proposals made of unfit ones: pulled, then changed further and further, and pulled
        again.
        """
        taken: list[Proposal] = []
        rate, fruitless = 1 / self.space.length, 0
        while unfit and len(taken) < n and fruitless < self.hopeless:
            pulled = self._pull(unfit)
            found = self._fit(pulled, n - len(taken)) or self._least_infeasible(pulled, n - len(taken))
            taken += found
            fruitless = 0 if found else fruitless + (rate >= 1)
            unfit, rate = self._disturb(unfit, rate), min(2 * rate, 1.0)
        return taken

    def _fit(self, proposals: Sequence[Proposal], n: int) -> list[Proposal]:
        """Let at most `n` feasible new ones pass."""
        taken: list[Proposal] = []
        for proposal, violation in zip(proposals, self._violation(proposals), strict=True):
            if violation == 0 and len(taken) < n and self.admit(proposal.genome):
                self._feasible.append(proposal.genome)
                taken.append(proposal)
        return taken

    def _least_infeasible(self, proposals: Sequence[Proposal], n: int) -> list[Proposal]:
        """Let at most `n` new ones pass, the least infeasible first. (Once something feasible is known,
        pulling leaves none infeasible.)
        """
        order = np.argsort(self._violation(proposals), kind="stable")
        passing = (proposals[row] for row in order)
        return [
            proposal for proposal in passing if n > 0 and self.admit(proposal.genome) and (n := n - 1) >= 0
        ]

    def _pull(self, proposals: list[Proposal]) -> list[Proposal]:
        """Move infeasible ones towards the nearest feasible genome, locus by locus in random order, until
        they are feasible.
        """
        rows = np.flatnonzero(self._violation(proposals) > 0)
        if len(rows) == 0 or not self._feasible:
            return proposals
        known = np.stack(self._feasible)
        origins = np.stack([proposals[row].genome for row in rows])
        goals = known[[int((known != origin).sum(axis=1).argmin()) for origin in origins]]
        differs = origins != goals
        # loci are taken from the feasible genome in a random order; a bisection finds how many it takes
        turn = np.where(differs, self.rng.random(differs.shape), 2.0).argsort(axis=1).argsort(axis=1)
        steps, low, high = differs.sum(axis=1), np.zeros(len(rows)), np.ones(len(rows))
        arrived = goals.copy()
        for _ in range(self.halvings):
            middle = (low + high) / 2
            tried = self.space.repair(np.where(turn < np.ceil(steps * middle)[:, None], goals, origins))
            feasible = self._screen(tried) == 0
            arrived[feasible] = tried[feasible]
            low, high = np.where(feasible, low, middle), np.where(feasible, middle, high)
        pulled = list(proposals)
        for row, genome in zip(rows, arrived, strict=True):
            pulled[row] = replace(proposals[row], genome=genome, operator=f"{proposals[row].operator}+pulled")
        return pulled

    def _disturb(self, proposals: list[Proposal], rate: float) -> list[Proposal]:
        """Sample every locus anew with chance `rate`; from 1 on these are plain samples without parents."""
        samples = self.space.sample(max(len(proposals), self.crowd), self.rng)
        if rate >= 1:
            return [Proposal(genome) for genome in samples]
        sources = [proposals[i % len(proposals)] for i in range(len(samples))]
        anew = self.rng.random(samples.shape) < rate
        genomes = self.space.repair(np.where(anew, samples, np.stack([source.genome for source in sources])))
        return [
            replace(source, genome=genome, operator=f"{source.operator.removesuffix('+disturbed')}+disturbed")
            for source, genome in zip(sources, genomes, strict=True)
        ]

    def _violation(self, proposals: Sequence[Proposal]) -> np.ndarray:
        """Return what is known of the violation without evaluation, ``(n,)``."""
        if not self._screens or not proposals:
            return np.zeros(len(proposals))
        return self._screen(np.stack([proposal.genome for proposal in proposals]))

    def _screen(self, genomes: np.ndarray) -> np.ndarray:
        violation = self.problem.violation(self.problem.evaluator.screen(genomes))
        return np.where(np.isnan(violation), np.inf, violation)
