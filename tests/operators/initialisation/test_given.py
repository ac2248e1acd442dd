"""Known starting points of any space: asked first, checked before a search begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluators import Cost, Digits
from operators.initialisation import Given, Sampled, UniformBudget
from operators.testing.initialisation import InitialisationContract
from search import Evolution, Finish, RandomSearch, Search
from spaces import ChannelSpace, Choice, ChoiceSpace, InputError
from spaces.models import Perceptron, ResidualNet

DATA = Digits(train_samples=64)


class TestContract(InitialisationContract):
    def initialisation(self):
        return Given([{}], UniformBudget())


def channels():
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((4, 6)), DATA.example())


def drawn(points, space, n, guide=None):
    return Given(points, Sampled())(space, n, guide or {}, np.random.default_rng(0))


def test_a_share_keeps_the_best_and_a_list_keeps_what_it_names():
    space = channels()
    name, size = next((s.name, s.size) for s in space.segments if s.size >= 4)
    scores = np.arange(space.length, dtype=float)
    half, named, none_said = drawn(
        [{name: 0.5}, {name: [0, 2]}, {}], space, 3, {"magnitude": scores, "taylor": -scores}
    )
    part = space.slices[name]
    assert half[part].tolist() == [0] * (size // 2) + [1] * (size - size // 2)
    assert np.flatnonzero(named[part]).tolist() == [0, 2]
    assert (none_said == space.base).all() and (np.delete(half, np.r_[part]) == 1).all()
    (unscored,) = drawn([{name: 0.5}], space, 1)
    assert unscored[part].tolist() == [1] * (size // 2) + [0] * (size - size // 2)


class Net(ChoiceSpace):
    width = Choice([8, 16, 32])
    depth = Choice([1, 2])

    def build_from(self, width, depth):
        return Perceptron((64, *[width] * depth, 10))


def search(strategy, folder=None, space=None):
    return Search(
        ResidualNet((4, 6)) if space is None else None,
        DATA,
        space=space,
        evaluators=[Cost()],
        objectives=["params", "macs"],
        strategy=strategy,
        directory=folder,
        finish=Finish(0),
        study=False,
        lag=8,
        chunk=4,
    )


@pytest.mark.parametrize("strategy", [Evolution, RandomSearch])
def test_points_are_asked_first_by_their_values(strategy):
    points = [{"width": 32, "depth": 2}, {"width": 16, "depth": 1}]
    made = {"population": 4} if strategy is Evolution else {}
    run = search(strategy(initialisation=Given(points), **made), space=Net())
    run.run(evaluations=6)
    first = [Net().values(c.genome) for c in run._memory.candidates()][:2]
    assert first == points
    assert [c.operator for c in run._memory.candidates()][:2] == ["Given", "Given"]


def test_the_same_strategy_begins_a_second_search_with_all_points():
    strategy = RandomSearch(Given([{"width": 32, "depth": 2}], Sampled()))
    for _ in range(2):
        run = search(strategy, space=Net())
        run.run(evaluations=2)
        assert Net().values(next(run._memory.candidates()).genome) == {"width": 32, "depth": 2}


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            {"widht": 8},
            "initialisation: points.1.widht: no segment of the space; expected one of width, depth",
        ),
        ({"width": 9}, "initialisation: points.1.width: 9; expected one of 8, 16, 32"),
    ],
)
def test_a_point_that_does_not_fit_is_refused_before_there_is_a_run(tmp_path, point, message):
    run = search(Evolution(initialisation=Given([{"width": 8}, point])), tmp_path / "run", Net())
    for call in (run.run, run.plan):
        with pytest.raises(InputError) as refusal:
            call(evaluations=4)
        assert str(refusal.value) == message and not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [1.5, [99], "half", [True], {"a": 1}])
def test_what_is_neither_a_share_nor_channels_is_refused(value):
    space = channels()
    with pytest.raises(InputError, match=r"points\.0\..*expected a share from 0 to 1, or a list of kept"):
        Given([{space.segments[0].name: value}]).check(space)


def test_there_has_to_be_a_point():
    with pytest.raises(InputError, match="Given: no points"):
        Given([])
