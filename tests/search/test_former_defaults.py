"""Defaults change; a run that began with the old ones goes on with them."""

import contextlib

import pytest

from evaluators.base import Evaluator, Report
from search import Evolution, Finish, Ledger, Search, Stages
from search.problem import Objective, Problem
from search.record.identity import describe, take_former_defaults
from search.testing import BitSpace, Toy, evaluate
from spaces import Categorical, HyperParameters, Integer
from spaces.errors import InputError


class Recipe(HyperParameters):
    depth = Integer(1, 9)
    width = Integer(1, 9)
    kind = Categorical(["a", "b", "c", "d"])


class Taste(Evaluator):
    metrics = ("error", "cost")

    def evaluate(self, model, candidate):
        depth, width, kind = (int(allele) for allele in candidate.genome)
        yield Report({"error": (depth - 5) ** 2 + (width - 2) ** 2 + 4.0 * (kind != 2), "cost": float(depth)})


def run(folder, evaluations, strategy, **settings):
    search = Search(
        space=Recipe(),
        evaluators=[Taste()],
        objectives=["error"],
        strategy=strategy,
        directory=folder,
        study=False,
        finish=Finish(members=0),
        **settings,
    )
    search.run(evaluations=evaluations)
    with contextlib.closing(Ledger(folder / "ledger.db", Recipe())) as ledger:
        return [candidate.genome.tolist() for candidate in ledger.candidates()], dict(ledger.identity)


def former():
    return Evolution(**Evolution.former_defaults)


def test_a_run_of_before_goes_on_with_the_defaults_of_then(tmp_path):
    whole, _ = run(tmp_path / "whole", 96, former())
    begun, _ = run(tmp_path / "begun", 48, former())
    ended, identity = run(tmp_path / "begun", 96, Evolution())
    today, _ = run(tmp_path / "today", 96, Evolution())
    assert begun == whole[: len(begun)] and ended == whole != today
    assert (identity["strategy.population"], identity["strategy.surrogate"]) == ("64", "None")


def test_what_was_asked_for_is_no_default(tmp_path):
    run(tmp_path / "run", 16, Evolution(**(Evolution.former_defaults | {"population": 32})))
    with pytest.raises(InputError, match=r"strategy.population \(was 32, is auto\)"):
        run(tmp_path / "run", 32, Evolution())
    run(tmp_path / "new", 16, Evolution())
    with pytest.raises(InputError, match=r"strategy.population \(was auto, is 64\)"):
        run(tmp_path / "new", 32, former())


def test_strategies_within_strategies_are_reached():
    other = Evolution(**(Evolution.former_defaults | {"tournament": 3}))
    stored = describe("strategy", Stages([former(), other]))
    today = Stages([Evolution(), Evolution(tournament=3)])
    assert take_former_defaults("strategy", today, stored)
    assert describe("strategy", today) == stored
    assert not take_former_defaults("strategy", today, stored)


def test_masks_with_two_objectives_are_searched_as_before():
    def asked(strategy):
        space = BitSpace(40, segments=3)
        evaluator = Toy(lambda g: {"a": g[:, ::2].sum(1) * 1.0, "b": -g[:, ::3].sum(1) * 1.0}, ["a", "b"])
        evaluator.bind(space)
        strategy.start(Problem(space, evaluator, (Objective("a"), Objective("b"))), 0)
        found = []
        for _ in range(12):
            candidates = strategy.ask(16)
            found += [candidate.genome.tolist() for candidate in candidates]
            strategy.tell(evaluate(strategy.problem, candidates))
        return found

    assert asked(Evolution()) == asked(former())
