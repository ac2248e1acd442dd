"""What another run found is where this one begins, by the names of choices and their values."""

import numpy as np
import pytest
from torch import nn

from operators.initialisation import Sampled
from search import Evolution, Finish, FromRun, PruningLines, RandomSearch, Search
from search.record.ledger import Ledger
from search.testing import Toy
from spaces import Choice, ChoiceSpace, InputError, Integer


class Net(ChoiceSpace):
    width = Choice([16, 32, 64])
    depth = Integer(1, 4)
    kernel = Choice(["a", "b"])
    default = {"width": 64, "depth": 4, "kernel": "a"}  # noqa: RUF012

    def build_from(self, width, depth, kernel):
        return nn.Linear(1, 1)


class Extended(ChoiceSpace):
    """More widths, in front; a depth less; the kernel is gone and something else is new."""

    heads = Choice([1, 2])
    width = Choice([8, 16, 24, 32, 64])
    depth = Integer(1, 3)
    default = {"heads": 2, "width": 64, "depth": 3}  # noqa: RUF012

    def build_from(self, heads, width, depth):
        return nn.Linear(1, 1)


class Other(ChoiceSpace):
    colour = Choice(["red", "blue"])

    def build_from(self, colour):
        return nn.Linear(1, 1)


def metrics(genomes):
    """The narrower the smaller, the deeper the better; every combination of the first two loci is on the
    front of its depth.
    """
    return {
        "error": 1.0 / (1 + genomes[:, 1] + 4 * genomes[:, 0]),
        "size": genomes[:, 0] * 4.0 + genomes[:, 1],
    }


def search(folder, space, strategy):
    evaluators = [Toy(metrics, ("error", "size"))]
    return Search(
        space=space,
        evaluators=evaluators,
        objectives=["error", "size"],
        strategy=strategy,
        directory=folder,
        study=False,
        finish=Finish(0),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    search(folder, Net(), RandomSearch(Sampled())).run(evaluations=20)
    return folder


def asked(folder, space):
    ledger = Ledger.reader(folder / "ledger.db")
    found = [(candidate.operator, space.values(candidate.genome)) for candidate in ledger.candidates()]
    ledger.close()
    return found


def test_candidates_come_by_name_and_value_the_front_first(run, tmp_path):
    result = search(
        tmp_path / "second", Extended(), Evolution(population=12, initialisation=FromRun(str(run), 8))
    ).run(evaluations=12)
    before = [values for _, values in asked(run, Net())]
    possible = {(values["width"], values["depth"]) for values in before if values["depth"] < 4}
    operators, after = zip(*asked(tmp_path / "second", Extended()), strict=True)
    begun = [
        (values["width"], values["depth"])
        for how, values in zip(operators, after, strict=True)
        if how == "FromRun"
    ][:7]
    assert begun and set(begun) <= possible, "a depth of 4 is not to be had any more"
    assert all(values["heads"] == 2 for values in after[:8]), "what the run does not know is as in the base"
    front = [
        Net().values(m.candidate.genome)
        for m in search(run, Net(), RandomSearch(Sampled())).run(evaluations=20).front
    ]
    best = [
        (values["width"], values["depth"])
        for values in front
        if (values["width"], values["depth"]) in possible
    ]
    expected = [pair for pair in dict.fromkeys(best) if pair != (64, 3)]  # the base is asked anyway
    assert begun[: len(expected)] == expected[:7] and result.counts["evaluations"] == 12


def test_all_of_them_are_asked_however_small_the_population(run, tmp_path):
    search(tmp_path / "second", Net(), Evolution(population=2, initialisation=FromRun(str(run), 9))).run(
        evaluations=10
    )
    operators, _ = zip(*asked(tmp_path / "second", Net()), strict=True)
    assert operators[0] == "base" and operators.count("FromRun") >= 8, "the base may be one of the nine"
    assert set(operators[:9]) == {"base", "FromRun"}


def test_what_is_resumed_begins_with_the_same(run, tmp_path):
    def strategy():
        return RandomSearch(FromRun(str(run), 5))

    search(tmp_path / "whole", Extended(), strategy()).run(evaluations=14)
    search(tmp_path / "parts", Extended(), strategy()).run(evaluations=3)
    search(tmp_path / "parts", Extended(), strategy()).run(evaluations=14)
    assert asked(tmp_path / "parts", Extended()) == asked(tmp_path / "whole", Extended())


def test_the_rest_comes_from_another_initialisation_and_runs_out_never(run):
    rng = np.random.default_rng(0)
    start = FromRun(str(run), 3, Sampled())
    first, second = start(Extended(), 5, {}, rng), start(Extended(), 5, {}, rng)
    assert first.shape == second.shape == (5, 3)


def test_mistakes_are_one_line(run, tmp_path):
    with pytest.raises(InputError, match="no ledger here"):
        FromRun(str(tmp_path / "nothing"))(Extended(), 2, {}, np.random.default_rng(0))
    with pytest.raises(
        InputError,
        match=r"no segment of it is one of Other: it has width, depth, kernel; expected some of colour",
    ):
        FromRun(str(run))(Other(), 2, {}, np.random.default_rng(0))
    with pytest.raises(InputError, match="most 0"):
        FromRun(str(run), 0)


def test_only_a_strategy_with_a_beginning_can_be_warmed(run):
    from search.config.assembly import _warm

    warm = _warm(RandomSearch(Sampled()), str(run))
    assert isinstance(warm.initialisation, FromRun) and isinstance(warm.initialisation.then, Sampled)
    with pytest.raises(InputError, match="warm_start: PruningLines begins in a way of its own; expected"):
        _warm(PruningLines(), str(run))
