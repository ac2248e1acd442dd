"""What an evaluator says of itself, alone and beside others."""

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from evaluators import Candidate, Cost, Evaluator, InheritedTraining, Latency, Report, Training, TrialTraining
from evaluators.base import Evaluators


class Quiet(Evaluator):
    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        yield Report({})


def test_an_evaluator_is_its_own_only_part():
    quiet = Quiet()
    assert quiet.parts == (quiet,)
    assert (quiet.epochs, quiet.rungs, quiet.structural, quiet.inherits) == (None, 1, (), False)


def test_several_answer_for_the_one_that_knows():
    for part, epochs, rungs in (
        (Training(epochs=3), 3, 1),
        (TrialTraining(epochs=4), 4, 1),
        (InheritedTraining(steps=[0, 2, 4]), None, 3),
        (Latency(), None, 1),
    ):
        for joined in (Evaluators([Cost(), part]), Evaluators([part, Quiet()])):
            assert (joined.epochs, joined.rungs, joined.inherits) == (epochs, rungs, part.inherits)
            assert set(joined.structural) == set(part.structural)
            assert part in joined.parts
    assert Latency().structural == ("latency_ms",)


def test_the_folder_of_the_state_is_that_of_all_parts():
    joined = Evaluators([Cost(), Quiet()])
    joined.state = Path("somewhere")
    assert {part.state for part in joined.parts} == {joined.state} == {Path("somewhere")}
