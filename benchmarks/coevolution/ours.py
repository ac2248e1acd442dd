"""The product's arms on digits: a coevolution through ``Search``, its front as points, gradient steps counted in MACs.

``python -m benchmarks.coevolution.ours [--seeds 5] [--arms NAME ...]`` records shards; what is there stays.
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.coevolution.arms import TASKS, WIDTHS, Arm, Point, Task, macs, measured, pair
from benchmarks.coevolution.controls import record
from benchmarks.coevolution.faithful import FOLDER
from evaluators import Cost, PairTraining
from operators.mutation import ContributionPruning, Mutation, RandomPruning
from operators.schedules import Fixed
from search import Search
from search.coevolution import Coevolution, Ring, Topology, Torus
from spaces import PairSpace

_POWER = 1.0


@dataclass
class Coevolved(Arm):
    """Pairs on a graph, pruned while they are trained; every pair that a cell ever held may be on the front.

    How many batches a step has follows from the budget, with what the pairs will cost on the way to ``smallest``; were they dearer than
    foreseen, the run would end where another step would take more MACs than there are.
    """

    name: str = "coevolution"
    topology: Topology = field(default_factory=lambda: Torus(2, 2))
    steps: int = 60
    rate: float = 3e-3
    batch: int = 32
    average: float = 0.0
    cycle: bool = True
    schedule: Any = None
    pruning: Any = ()
    rules: dict[str, Any] = field(default_factory=dict)

    def run(self, task: Task, seed: int, budget: float) -> tuple[list[Point], float]:
        batches = self._batches(budget)
        training = PairTraining(
            batches=batches,
            batch_size=self.batch,
            learning_rate=self.rate,
            schedule="one-cycle" if self.cycle else "constant",
            average=self.average,
        )
        rules = Coevolution(topology=self.topology, steps=self.steps, schedule=self.schedule, pruning=self.pruning, ahead=1, **self.rules)
        ledger_stop = _Spending(budget, batches * self.batch, len(rules.neighbourhoods))
        search = Search(
            pair(seed),
            task.data(seed),
            space=PairSpace,
            evaluators=[Cost(), training],
            objectives=["loss", "params"],
            strategy=rules,
            seed=seed,
            listeners=[ledger_stop],
        )
        result = search.run(evaluations=None)
        points = []
        for member in result.front:
            model = result.build(member)
            points.append(measured(model, task, seed))
        return points, ledger_stop.spent

    def _batches(self, budget: float) -> int:
        """Batches of a step: the MACs of a pair fall with this power of its share of units."""
        untouched = self.rules["untouched"]
        way = [max(0, step - untouched) / (self.steps - untouched) for step in range(1, self.steps + 1)]
        whole = sum(self.rules["smallest"] ** (_POWER * part) for part in way)
        return int(budget / (whole * len(self.topology.neighbourhoods()) * 3 * macs(WIDTHS) * self.batch))


class _Spending:
    """Counts the MACs of gradient steps, and interrupts the loop where those under way might take more than there are."""

    def __init__(self, budget: float, samples: int, cells: int) -> None:
        self.budget, self.spent = budget, 0.0
        self._samples = samples
        self._latest: deque[float] = deque([_cost(macs(WIDTHS), samples)], maxlen=cells)

    def evaluated(self, evaluation: Any, joined: bool) -> None:
        if evaluation.candidate.operator != "init":
            self._latest.append(_cost(evaluation.metrics["macs"], self._samples))
            self.spent += self._latest[-1]

    def tick(self, loop: Any) -> None:
        if self.spent + max(self._latest) * loop.running > self.budget:
            loop.interrupt()


def _cost(macs: float, samples: int) -> float:
    return 3 * macs * samples


SETTINGS: dict[str, Any] = {"rate": 4e-3, "batch": 16}
RULES: dict[str, Any] = {"mates": "whole", "smallest": 0.08, "untouched": 8}
"""Settled on seeds 100 and 101 of digits, which are not reported, by the search split: cells, steps, mates, noise, the cycle."""


def _arm(name: str, cells: int, steps: int, pruning: Mutation) -> Coevolved:
    return Coevolved(name, Ring(cells), steps, schedule=Fixed(1.0), pruning=(pruning,), rules=RULES, **SETTINGS)


PRODUCT: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        _arm("coevolution", 4, 100, ContributionPruning(noise=0.1)),
        _arm("coevolution, random pruning", 4, 100, RandomPruning()),
        _arm("one cell", 1, 100, ContributionPruning(noise=0.1)),
        _arm("one cell, random pruning", 1, 100, RandomPruning()),
    )
}
"""Ours, what it is compared with for its guidance, and both without neighbours; all to the same sizes at the same steps."""


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coevolution.ours")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="*", default=list(PRODUCT))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(arguments.seeds):
        for task in TASKS.values():
            for name in arguments.arms:
                record(FOLDER, task, PRODUCT[name], seed)


if __name__ == "__main__":
    main()
