"""Ours: a search whose candidates are pruned while they are distilled, each going on from the one before."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from benchmarks.real.arms import Arm
from benchmarks.real.ground import CORES, HALF, Clock, Ground
from evaluators import Cost, InheritedTraining, RemovalTrials
from operators.mutation import RemovalPruning
from search import Finish, PruningLines, Search

_MARGIN = 0.99
"""Widths are multiples, so a round may end a little above what it was to reach."""
_MORE = 6
"""Rounds that may make up for heads that could not go, since a layer keeps one."""


class Ours(Arm):
    """:class:`search.PruningLines` over heads and channels, as a user would call it.

    Every round takes what the loss misses least for what it costs, by a gradient on the calibration split,
    and trains a little on the texts that all arms are distilled with. The rest of the time goes to what the
    last round left.

    Args:
        rounds: of pruning; two a minute of the ceiling at most.
        steps: of training after each, for a ceiling of 45 minutes.
        rate: of learning within a round.
        cases: texts of the calibration split that say what is missed.
    """

    name = "ours"

    def __init__(self, rounds: int = 10, steps: int = 48, rate: float = 3e-4, cases: int = 512) -> None:
        self.rounds, self.steps, self.rate, self.cases = rounds, steps, rate, cases

    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        minutes = clock.budget / (60 * CORES)
        rounds = max(2, min(self.rounds, round(2 * minutes)))
        search = Search(
            ground.teacher,
            ground.data,
            space=ground.space,
            evaluators=[
                Cost(),
                InheritedTraining(
                    max(1, round(self.steps * minutes / 45)),
                    learning_rate=self.rate,
                    weight_decay=0.0,
                    clip=1.0,
                    worth=RemovalTrials(self.cases, share=0.0),
                    record_activations=False,
                ),
            ],
            objectives=["loss", "macs"],
            constraints=[f"macs <= {HALF:.0%}"],
            strategy=PruningLines(
                rounds=rounds, smallest=_MARGIN * HALF, mutation=RemovalPruning(power=1.0), more=_MORE
            ),
            criteria=[],
            directory=folder / "search",
            finish=Finish(members=0),
            seed=seed,
            lag=1,
            chunk=1,
            study=False,
            listeners=[_Noting(clock)],
        )
        return search.run(evaluations=None).build(0)


class _Noting:
    """Keeps the time after every candidate."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def evaluated(self, evaluation: object, joined: bool) -> None:
        self.clock.note()
