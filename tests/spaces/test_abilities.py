"""What spaces say that they can."""

import numpy as np
import pytest
import torch
from torch import nn

from spaces import (
    ChannelSpace,
    Choice,
    ChoiceSpace,
    HyperParameters,
    JointSpace,
    Masked,
    MixedPairs,
    Pair,
    PairSpace,
    Sliced,
    SupernetSpace,
    Trained,
    TrialSpace,
)
from spaces.cells import CellSpace, CellStack
from spaces.models import Perceptron


class Widths(ChoiceSpace):
    width = Choice([2, 4])

    def build_from(self, width: int) -> nn.Module:
        return Perceptron((8, width, 2))


class Tuning(HyperParameters):
    rate = Choice([0.1, 0.2])


def masked(rows: int = 8) -> ChannelSpace:
    return ChannelSpace(Perceptron((rows, 4, 2)), torch.rand(2, rows))


def stack(kind: type) -> SupernetSpace | CellSpace:
    return kind(CellStack(inputs=1, width=2, cells=1, reductions=[], classes=2), (torch.rand(2, 1, 8, 8),))


def halves() -> tuple[nn.Module, nn.Module]:
    return Perceptron((8, 4, 2)), Perceptron((2, 4, 8))


@pytest.mark.parametrize(
    ("make", "can"),
    [
        (masked, {Sliced}),
        (lambda: PairSpace(Pair(*halves()), torch.rand(2, 8)), {Sliced, Masked}),
        (lambda: MixedPairs([halves()[0]], [halves()[1]], [8]), {Masked}),
        (lambda: TrialSpace({"rate": {"low": 0.0, "high": 1.0}}), {Trained}),
        (lambda: stack(SupernetSpace), {Trained}),
        (lambda: stack(CellSpace), set()),
        (Widths, set()),
        (lambda: JointSpace({"mask": masked(), "tuning": Tuning()}), set()),
    ],
)
def test_a_space_can_what_it_is_made_for_and_no_more(make, can):
    space = make()
    assert {ability for ability in (Sliced, Trained, Masked) if isinstance(space, ability)} == can


def test_settings_of_an_evaluation_lie_in_trials_and_hyper_parameters_and_in_what_joins_them():
    space = JointSpace({"net": Widths(), "tuning": Tuning()})
    genome = space.join(net=Widths().encode(width=4), tuning=Tuning().encode(rate=0.2))
    assert space.genes(genome) == {"rate": 0.2} and space.gene_values() == {"rate": (0.1, 0.2)}
    assert Widths().genes(Widths().encode(width=4)) == {} == Widths().gene_values()
    trials = TrialSpace(
        {"model.width": {"low": 1, "high": 4}, "training.clip": {"low": 0.5, "high": 1.0}}, model=layer
    )
    assert trials.genes(trials.encode({"model.width": 2, "training.clip": 1.0})) == {"training.clip": 1.0}
    assert trials.gene_values() == {"training.clip": ()}


def layer(width: int) -> nn.Module:
    return nn.Linear(width, 2)


def test_what_a_recipe_makes_a_model_of():
    known, built = {"class_path": "M"}, {"class_path": "S"}
    space = masked()
    assert space.made_of(space.base, known, built) == (known, None)
    assert space.made_of(space.base, None, built) == (None, None)
    genome = Widths().encode(width=2)
    assert Widths().made_of(genome, known, built) == (None, built)
    assert Widths().made_of(genome, known, None) == (None, None)


def test_a_search_of_cells_ends_with_the_cell_that_it_found():
    space = stack(SupernetSpace)
    (cell,) = space.cells.sample(1, np.random.default_rng(0))
    genome = space.sample(1, np.random.default_rng(0))[0]
    ended, found = space.finish(genome, lambda: {"genotype": space.cells.write(cell)})
    assert ended is space.cells and (found == cell).all()
    net = Widths().encode(width=2)
    where, same = (space := Widths()).finish(net, lambda: pytest.fail("nothing is asked for"))
    assert where is space and (same == net).all()
