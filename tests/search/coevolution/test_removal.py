"""Pruning by what the loss would be without a unit, in cells: paced by parameters, with one architecture and
with several.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators import Cost, PairTraining
from operators.mutation import RemovalPruning
from operators.schedules import Fixed
from search import Search
from search.coevolution import Coevolution, Ring
from spaces import MixedPairs, Pair, PairSpace
from spaces.models import Perceptron

sys.path.insert(0, str(Path(__file__).parent))
from cell_case import tiny_data

STEPS, UNTOUCHED, SMALLEST = 8, 2, 0.3
ENCODERS, DECODERS = ((12, 9, 4), (12, 10, 6, 4)), ((4, 9, 12), (4, 6, 12))


def run(pruning, several: bool, epochs: int = 3):
    """The last pairs of a ring, and what all steps measured, by step."""
    torch.manual_seed(0)
    encoders, decoders = ([Perceptron(widths) for widths in half] for half in (ENCODERS, DECODERS))
    space = MixedPairs(encoders, decoders, shape=[12]) if several else PairSpace
    found: dict[int, list] = {}

    class Listener:
        def evaluated(self, evaluation, joined):
            found.setdefault(evaluation.candidate.id // 4, []).append(evaluation)

        def tick(self, loop):
            pass

    rules = Coevolution(
        Ring(4),
        steps=STEPS,
        untouched=UNTOUCHED,
        smallest=SMALLEST,
        mates="whole",
        schedule=Fixed(1.0),
        pruning=[pruning],
        cases=20,
    )
    search = Search(
        None if several else Pair(encoders[0], decoders[0]),
        tiny_data(),
        space=space,
        evaluators=[Cost(), PairTraining(epochs=epochs, learning_rate=1e-2)],
        objectives=["loss", "params"],
        strategy=rules,
        listeners=[Listener()],
    )
    result = search.run(evaluations=None)
    assert result.reason == "steps"
    return found


@pytest.mark.parametrize("several", [False, True])
def test_sizes_follow_the_schedule_in_parameters(several: bool) -> None:
    """Every pair has at most its share, and less than that only by the last unit that went."""
    found = run(RemovalPruning(), several)
    for step, evaluations in found.items():
        share = SMALLEST ** (max(0, step - UNTOUCHED) / (STEPS - UNTOUCHED))
        for evaluation in evaluations:
            kept = evaluation.metrics["kept"]
            assert share - 0.2 < kept <= share + 1e-9, (
                f"step {step}: {kept:.3f} of the parameters for {share:.3f}"
            )
            pruned = step > UNTOUCHED and kept < 1
            assert not pruned or "removal" in evaluation.candidate.operator


def test_it_beats_a_random_order_at_equal_sizes() -> None:
    """On average over the pairs of the last step, on the search split: they would be level were the guide
    another model's.
    """
    guided, random = (
        run(pruning, False, 10)[STEPS] for pruning in (RemovalPruning(), RemovalPruning(noise=50.0))
    )
    assert np.mean([e.metrics["loss"] for e in guided]) < 0.9 * np.mean([e.metrics["loss"] for e in random])
