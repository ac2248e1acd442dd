"""A problem, a strategy and executors for the tests of the loop."""

from __future__ import annotations

import math

import numpy as np

from evaluators.base import Evaluator, Report, State
from search.executors import InlineExecutor, SimulatedExecutor
from search.loop import Loop
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from search.strategy import Strategy
from search.testing import BitSpace

SPACE = BitSpace(24, segments=4)


class Counting(Evaluator):
    """Ones in the two halves, and a witness of every evaluation."""

    metrics = ("left", "right")

    def __init__(self, fail=lambda candidate: None, epochs=1):
        self.fail, self.epochs, self.witnessed = fail, epochs, []

    def evaluate(self, model, candidate):
        self.witnessed.append(candidate.id)
        self.fail(candidate)
        left, right = candidate.genome[:12].sum(), candidate.genome[12:].sum()
        for epoch in range(self.epochs):
            yield Report(
                {"left": left + 0.1 * (self.epochs - 1 - epoch), "right": 12 - right},
                epoch,
                {"activation": candidate.genome / 2},
            )


class Climbing(Strategy):
    """Flips bits of the best told so far: what it asks depends on everything told, and on the order."""

    def __init__(self, size=math.inf):
        self.size = size

    def start(self, problem, seed):
        super().start(problem, seed)
        self.told, self.calls, self.parent = [], [], None

    def ask(self, n):
        self.calls.append(("ask", self._asked))
        candidates = []
        for _ in range(int(min(n, self.size - self._asked))):
            if self.parent is None:
                candidates.append(self._candidate(self.problem.space.sample(1, self.rng)[0]))
            else:
                flips = (self.rng.random(24) < 0.1).astype(np.uint8)
                candidates.append(
                    self._candidate(self.parent.candidate.genome ^ flips, (self.parent.candidate.id,), "flip")
                )
        return candidates

    def tell(self, evaluations):
        for e in evaluations:
            self.told.append(e.candidate.id)
            self.calls.append(("tell", e.candidate.id))
            if e.state is State.COMPLETE and (self.parent is None or self.cost(e) <= self.cost(self.parent)):
                self.parent = e

    def cost(self, e):
        # arrays come back from the ledger as they were
        return e.metrics["left"] + e.metrics["right"] + 1e-9 * float(e.arrays["activation"].sum())


def problem(evaluator=None, space=SPACE):
    evaluator = evaluator or Counting()
    evaluator.bind(space)
    return Problem(space, evaluator, (Objective("left"), Objective("right")))


def simulated(workers, spread=1.0, seed=0):
    return SimulatedExecutor(
        workers, lambda c: float(np.random.default_rng((seed, c.id)).lognormal(0, spread))
    )


def play(budget, executor=None, ledger=None, strategy=None, evaluator=None, **settings):
    ledger = ledger or Ledger(None, SPACE)
    settings = {"lag": 16, "chunk": 4} | settings
    loop = Loop(
        problem(evaluator), strategy or Climbing(), executor or InlineExecutor(), ledger, budget, **settings
    )
    return str(loop.run()), loop


def genomes(ledger):
    return [(c.id, c.parents, c.operator, c.seed, c.genome.tobytes()) for c in ledger.candidates()]


def members(loop):
    return [(e.candidate.id, e.metrics) for e in loop.front.members]


class Killed(BaseException):
    pass


class Killing:
    """An executor whose process dies at its n-th call for events."""

    def __init__(self, inner, n):
        self.inner, self.left = inner, n

    def events(self, timeout=None):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.inner.events(timeout)

    def __getattr__(self, name):
        return getattr(self.inner, name)


# -- order ---------------------------------------------------------------------------------------------------


class Interrupting:
    def __init__(self, *ats):
        self.ats, self.heard, self.ticks = set(ats), [], 0

    def evaluated(self, evaluation, joined_front):
        self.heard.append((evaluation.candidate.id, joined_front))

    def tick(self, loop):
        self.ticks += 1
        if self.ticks in self.ats:
            loop.interrupt()
