from __future__ import annotations

import functools
import math
import pickle
import struct

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import nn

from spaces import InputError, TrialSpace
from spaces.models import Perceptron
from spaces.testing import SpaceContract

optuna.logging.set_verbosity(optuna.logging.WARNING)

PARAMETERS = {
    "training.momentum": {"low": 0.0, "high": 0.95, "step": 0.05, "when": {"training.optimiser": "sgd"}},
    "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "training.optimiser": {"choices": ["adamw", "sgd"]},
    "training.clip": {"choices": [None, 1.0, 10]},
    "training.batch_size": {"low": 8, "high": 128, "log": True},
    "model.depth": {"low": 1, "high": 4},
    "model.width": {"low": 8, "high": 64, "step": 8, "when": {"model.depth": [2, 3, 4]}},
    "model.bias": {"choices": [True, False], "when": {"training.optimiser": "sgd", "model.depth": 2}},
}


def perceptron(depth, width=8, bias=True):
    return Perceptron((4, *[width] * (depth - 1), 3))


def suggest(trial):
    optimiser = trial.suggest_categorical("training.optimiser", ["adamw", "sgd", "lion"])
    if optimiser == "lion":
        trial.suggest_float("training.beta", 0.5, 0.99)
    for layer in range(trial.suggest_int("depth", 1, 90)):
        trial.suggest_int(f"width{layer}", 8, 64, step=8)


def rare(trial):
    """A branch that one trial in a million takes, and no end of a range alone."""
    a, b = (trial.suggest_float(name, 0, 1) for name in "ab")
    if 0.4999 < a < 0.5001 and 0.4999 < b < 0.5001:
        trial.suggest_float("hidden", 0, 1)


class TestDeclared(SpaceContract):
    def space(self):
        return TrialSpace(PARAMETERS, model=perceptron)

    def inputs(self):
        return (torch.ones(2, 4),)


class TestFunction(SpaceContract):
    def space(self):
        return TrialSpace(suggest=suggest)


class TestNumbersOfAllKinds(SpaceContract):
    def space(self):
        return TrialSpace(
            {
                "a": {"low": -1.0, "high": 1.0},
                "b": {"low": -7, "high": 8, "step": 3},
                "c": {"low": -0.3, "high": 0.3, "step": 0.1},
                "d": {"low": 5.0, "high": 5.0},
                "e": {"choices": ["only"]},
                "f": {"low": 1, "high": 10**6, "log": True},
            }
        )


def test_a_genome_is_the_bytes_of_the_values_in_optunas_representation():
    space = TrialSpace(PARAMETERS, model=perceptron)
    assert [(s.size, s.choices) for s in space.segments] == [(8, 256)] * 8
    genome = space.encode(
        {
            "training.learning_rate": 0.01,
            "training.optimiser": "adamw",
            "training.clip": 10,
            "training.batch_size": 16,
            "model.depth": 1,
        }
    )
    numbers = dict(zip(space.distributions, struct.unpack("<8d", genome.tobytes()), strict=True))
    assert (
        numbers["training.learning_rate"] == 0.01
        and numbers["training.clip"] == 2.0
        and numbers["model.depth"] == 1.0
    )
    assert all(math.isnan(numbers[name]) for name in ("training.momentum", "model.width", "model.bias"))


def test_values_come_back_with_their_types_and_only_where_asked_for():
    space = TrialSpace(PARAMETERS, model=perceptron)
    given = {
        "training.optimiser": "sgd",
        "training.momentum": 0.9,
        "training.learning_rate": 0.1,
        "training.clip": None,
        "training.batch_size": 128,
        "model.depth": 2,
        "model.width": 16,
        "model.bias": False,
    }
    values = space.values(space.encode(given))
    assert values.keys() == given.keys() and all(
        values[n] == g or abs(values[n] - g) < 1e-12 for n, g in given.items()
    )
    assert (
        type(values["model.width"]) is int
        and values["model.bias"] is False
        and values["training.clip"] is None
    )
    described = space.describe(space.encode(given))
    assert described["training.clip"] == "null" and described["training.learning_rate"] == 0.1
    given = {name: value for name, value in given.items() if name not in ("model.bias", "model.width")} | {
        "model.depth": 1
    }
    described = space.describe(space.encode(given))
    assert (
        described["model.width"] == "-"
        and described["model.bias"] == "-"
        and described["training.momentum"] == pytest.approx(0.9)
    )


def test_what_optuna_proposes_is_what_the_genome_gives_back():
    for space in (TrialSpace(PARAMETERS, model=perceptron), TrialSpace(suggest=suggest)):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5))
        for _ in range(25):
            trial = study.ask()
            drawn = space.draw(trial)
            assert drawn == trial.params
            genome = space.encode(drawn)
            values = space.values(genome)
            assert list(values) == sorted(drawn, key=list(space.distributions).index)
            for name, value in values.items():
                close = abs(value - drawn[name]) < 1e-12 if isinstance(value, float) else value == drawn[name]
                assert close and type(value) is type(drawn[name]), (
                    f"{name}: {value!r}, proposed was {drawn[name]!r}"
                )
            assert (space.repair(genome[None])[0] == genome).all()
            study.tell(trial, drawn.get("training.learning_rate", 1.0))


def test_samples_respect_ranges_steps_logarithms_and_conditions():
    space = TrialSpace(PARAMETERS, model=perceptron)
    drawn = [space.values(genome) for genome in space.sample(2000, np.random.default_rng(0))]
    for values in drawn:
        for name, value in values.items():
            distribution = space.distributions[name]
            assert distribution._contains(distribution.to_internal_repr(value)), f"{name} = {value}"
        assert ("training.momentum" in values) == (values["training.optimiser"] == "sgd")
        assert ("model.width" in values) == (values["model.depth"] > 1)
        assert ("model.bias" in values) == (
            values["training.optimiser"] == "sgd" and values["model.depth"] == 2
        )
    rates = np.log10([values["training.learning_rate"] for values in drawn])
    assert np.abs(np.histogram(rates, 3, (-4, -1))[0] / len(drawn) - 1 / 3).max() < 0.05
    depths = np.bincount([values["model.depth"] for values in drawn])[1:]
    assert len(depths) == 4 and np.abs(depths / len(drawn) - 0.25).max() < 0.05
    sizes = np.array([values["training.batch_size"] for values in drawn])
    assert {8, 128} <= set(sizes.tolist()) and abs(np.median(sizes) - 32) < 4
    small = (
        TrialSpace({"a": {"low": 1, "high": 3, "log": True}})
        .sample(3000, np.random.default_rng(0))
        .view("<f8")
        .ravel()
    )
    shares = np.log([3, 5 / 3, 7 / 5]) / np.log(7)  # of the logarithm from 1/2 to 7/2
    assert np.abs(np.bincount(small.astype(int))[1:] / len(small) - shares).max() < 0.03
    momenta = {round(values["training.momentum"], 6) for values in drawn if "training.momentum" in values}
    assert momenta == {round(0.05 * k, 6) for k in range(20)}


def test_repair_takes_the_nearest_number_and_follows_conditions():
    space = TrialSpace(
        {"depth": {"low": 1, "high": 4}, "rate": {"low": 0.25, "high": 2.0, "when": {"depth": 4}}}
    )

    def repaired(*numbers):
        return struct.unpack(
            "<2d",
            space.repair(np.frombuffer(struct.pack("<2d", *numbers), dtype=np.uint8)[None])[0].tobytes(),
        )

    assert repaired(9.0, 8.0) == (4.0, 2.0)
    assert repaired(4.0, 1.0) == (4.0, 1.0)
    assert repaired(4.0, -3.0) == (4.0, 0.25)
    assert 0.25 <= repaired(4.0, math.nan)[1] <= 2.0
    assert repaired(2.4, 1.0)[0] == 2.0 and math.isnan(repaired(2.4, 1.0)[1])
    assert repaired(math.inf, math.inf)[0] == 4.0


def test_the_model_gets_its_arguments_and_nothing_else():
    space = TrialSpace(
        {"model.blocks": {"low": 1, "high": 2}, "training.learning_rate": {"low": 0.1, "high": 0.2}},
        model={"class_path": "spaces.models.ResidualNet", "init_args": {"widths": [4, 6], "blocks": 9}},
    )
    models = [
        space.build(space.encode({"model.blocks": blocks, "training.learning_rate": 0.1}))
        for blocks in (1, 2)
    ]
    assert [len(model.blocks) for model in models] == [2, 4] and models[0].head.in_features == 6


def test_every_way_to_name_a_model():
    for model in (perceptron, functools.partial(perceptron, width=5)):
        space = TrialSpace({"model.depth": {"low": 1, "high": 2}}, model=model)
        assert isinstance(space.build(space.encode({"model.depth": 2})), Perceptron)
    none = np.zeros(8, dtype=np.uint8)
    assert isinstance(
        TrialSpace({"a": {"low": 0, "high": 1}}, model="spaces.models.Perceptron").build(none), Perceptron
    )
    assert isinstance(TrialSpace({"a": {"low": 0, "high": 1}}).build(none), nn.Identity)


def greedy(widths, depth):
    widths.append(depth)
    return nn.Linear(len(widths), 1)


def test_a_model_cannot_change_the_arguments_of_the_next():
    given = [1, 2]
    space = TrialSpace(
        {"model.depth": {"low": 1, "high": 2}},
        model={"class_path": f"{__name__}.greedy", "init_args": {"widths": given}},
    )
    assert [space.build(space.encode({"model.depth": 1})).in_features for _ in range(2)] == [
        3,
        3,
    ] and given == [1, 2]


def test_fingerprint_tells_meanings_apart():
    rate = {"low": 1e-4, "high": 1e-1, "log": True}
    kinds = {"choices": ["a", "b"]}
    spaces = [
        TrialSpace({"rate": rate, "kind": kinds}),
        TrialSpace({"kind": kinds, "rate": rate}),
        TrialSpace({"rate": rate | {"log": False}, "kind": kinds}),
        TrialSpace({"rate": rate, "kind": {"choices": ["b", "a"]}}),
        TrialSpace({"rate": rate, "sort": kinds}),
        TrialSpace({"kind": kinds, "rate": rate | {"when": {"kind": "a"}}}),
        TrialSpace({"kind": kinds, "rate": rate | {"when": {"kind": "b"}}}),
        TrialSpace({"rate": rate, "kind": kinds}, model=perceptron),
        TrialSpace({"rate": rate, "kind": kinds}, model=Perceptron),
        TrialSpace(
            {"rate": rate, "kind": kinds},
            model={"class_path": "spaces.models.Perceptron", "init_args": {"widths": [1, 2]}},
        ),
    ]
    assert len({space.fingerprint for space in spaces}) == len(spaces)
    same = TrialSpace(
        {"rate": FloatDistribution(1e-4, 1e-1, log=True), "kind": CategoricalDistribution(("a", "b"))}
    )
    assert same.fingerprint == spaces[0].fingerprint


def test_whole_numbers_make_an_integer_and_texts_of_yaml_are_numbers():
    space = TrialSpace(
        {
            "a": {"low": 1, "high": 4},
            "b": {"low": "1e-4", "high": 1, "log": True},
            "c": {"low": 0, "high": 1.0},
        }
    )
    assert space.distributions == {
        "a": IntDistribution(1, 4),
        "b": FloatDistribution(1e-4, 1.0, log=True),
        "c": FloatDistribution(0.0, 1.0),
    }


def test_parents_come_first_however_they_are_written():
    names = list(TrialSpace(PARAMETERS, model=perceptron).distributions)
    assert names.index("training.optimiser") < names.index("training.momentum")
    assert names.index("model.depth") < names.index("model.width")


def test_a_chain_of_conditions_breaks_as_a_whole():
    space = TrialSpace(
        {
            "a": {"choices": ["x", "y"]},
            "b": {"low": 1, "high": 2, "when": {"a": "x"}},
            "c": {"low": 1, "high": 2, "when": {"b": [1, 2]}},
        }
    )
    assert space.values(space.encode({"a": "y"})) == {"a": "y"}
    assert space.values(space.encode({"a": "x", "b": 2, "c": 1})) == {"a": "x", "b": 2, "c": 1}


def test_a_function_is_searched_for_its_parameters():
    space = TrialSpace(suggest=suggest)
    assert set(space.distributions) == {
        "training.optimiser",
        "training.beta",
        "depth",
        *(f"width{layer}" for layer in range(90)),
    }
    assert list(space.distributions)[:1] == ["training.optimiser"]
    assert list(TrialSpace(suggest=suggest).distributions) == list(space.distributions)


def nested(trial):
    """Every third level needs the one choice in twenty of the level above."""
    for level in range(6):
        if trial.suggest_categorical(f"open{level}", list(range(20))) != 13:
            return
    trial.suggest_float("treasure", 0, 1)


def test_a_choice_below_a_choice_below_a_choice_is_found():
    assert "treasure" in TrialSpace(suggest=nested).distributions


def test_a_parameter_that_was_never_seen_is_refused_by_name():
    space = TrialSpace(suggest=rare)
    assert set(space.distributions) == {"a", "b"}
    for refuse in (
        lambda: space.encode({"a": 0.5, "b": 0.5, "hidden": 0.5}),
        lambda: space.draw(optuna.trial.FixedTrial({"a": 0.5, "b": 0.5, "hidden": 0.5})),
    ):
        with pytest.raises(InputError, match="parameter 'hidden' of suggest was never asked for"):
            refuse()


def test_a_space_of_a_module_level_function_pickles():
    copy = pickle.loads(pickle.dumps(TrialSpace(suggest=suggest, model=Perceptron)))
    assert copy.distributions == TrialSpace(suggest=suggest).distributions


def shifting(trial):
    trial.suggest_int("n", 0, trial.suggest_int("most", 1, 5))


def twice(trial):
    trial.suggest_int("n", 0, 1)
    trial.suggest_int("n", 0, 2)


def broken(trial):
    return trial.suggest_int("n", 3, 1)


def silent(trial):
    return None


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            shifting,
            "parameter 'n' of suggest is .* in one trial and .* in another; expected one for all trials",
        ),
        (twice, "parameter 'n' is asked for twice"),
        (broken, "suggest .*broken raised ValueError: .*low=3, high=1.*; expected a function"),
        (silent, ".*silent asked for nothing"),
        (
            "spaces.models.suggest",
            "suggest 'spaces.models.suggest' cannot be imported .*expected a dotted path",
        ),
        ("nothing", "suggest 'nothing' cannot be imported"),
    ],
)
def test_functions_that_do_not_fit_are_refused_in_one_line(function, message):
    with pytest.raises(InputError, match=f"space: {message}") as refusal:
        TrialSpace(suggest=function)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "parameters.a: 3 is not accepted; expected {low"),
        ({"low": 1}, r"parameters.a: {'low': 1} is not accepted; expected {low"),
        ({"low": 1, "high": "many"}, "parameters.a: .*expected {low"),
        ({"low": 1, "high": math.inf}, "parameters.a: .*expected {low"),
        ({"low": True, "high": 2}, "parameters.a: .*expected {low"),
        ({"low": 1, "high": 2, "base": 2}, "parameters.a: .*'base': 2.*expected {low"),
        ({"low": 1, "high": 2, "log": "yes"}, "parameters.a: .*expected {low"),
        ({"low": 2, "high": 1}, "parameters.a: .*low <= high.*expected {low"),
        ({"low": 0.0, "high": 1.0, "log": True}, "parameters.a: .*low > 0.*expected {low"),
        ({"low": 1.0, "high": 2.0, "log": True, "step": 0.5}, "parameters.a: .*step.*expected {low"),
        ({"low": 0, "high": 2**60}, r"parameters.a: whole numbers beyond 2\*\*53"),
        ({"choices": []}, r"parameters.a: choices \[\] are not accepted; expected a list"),
        ({"choices": "ab"}, "parameters.a: choices 'ab' are not accepted"),
        ({"choices": [[1], [2]]}, "parameters.a: choices .* are not accepted"),
        ({"choices": [1.0, math.nan]}, "parameters.a: choices .* are not accepted"),
        ({"choices": [True, 1]}, "parameters.a: choice 1 occurs twice"),
        ({"choices": ["x"], "low": 1}, "parameters.a: .*expected {low"),
        ({"choices": ["x"], "when": "b"}, "parameters.a: when 'b' is not accepted; expected {other: value}"),
        ({"choices": ["x"], "when": {"c": 1}}, "parameters.a: when: no parameter 'c'; expected one of a, b"),
        (
            {"choices": ["x"], "when": {"b": 3}},
            "parameters.a: when: b = 3 never happens; expected a value of",
        ),
        ({"choices": ["x"], "when": {"b": "low"}}, "parameters.a: when: b = 'low' never happens"),
        ({"choices": ["x"], "when": {"a": "x"}}, "parameters.a: when depends on itself"),
    ],
)
def test_declarations_that_are_not_understood_are_refused_in_one_line(given, message):
    with pytest.raises(InputError, match=f"space: {message}") as refusal:
        TrialSpace({"a": given, "b": {"low": 1, "high": 2}})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected either parameters"),
        ({"parameters": {"a": {"low": 1, "high": 2}}, "suggest": suggest}, "expected either parameters"),
        ({"parameters": {"model.width": {"low": 1, "high": 2}}}, "'model.width' without a model"),
        (
            {"parameters": {"model.breadth": {"low": 1, "high": 2}}, "model": perceptron},
            "takes no 'breadth'; .*depth, width, bias",
        ),
        (
            {"parameters": {"a": {"low": 1, "high": 2}}, "model": {"path": "x"}},
            "expected class_path and init_args",
        ),
        (
            {"parameters": {"a": {"low": 1, "high": 2}}, "model": "spaces.models.Nothing"},
            "cannot be imported",
        ),
        (
            {"parameters": {"a": {"low": 1, "high": 2}}, "model": "spaces.trials.MODEL"},
            "is a str; expected a class",
        ),
        (
            {"parameters": {"a": {"low": 1, "high": 2}}, "model": Perceptron()},
            "is a Perceptron that is built; expected its class",
        ),
    ],
)
def test_what_does_not_make_a_space_is_refused(arguments, message):
    with pytest.raises(InputError, match=f"space: .*{message}"):
        TrialSpace(**arguments)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"b": 1}, "a is missing; expected a value of"),
        ({"a": 5, "b": 1}, "a = 5 is not accepted"),
        ({"a": "x", "b": 1}, "a = 'x' is not accepted"),
        ({"a": None, "b": 1}, "a = None is not accepted"),
        ({"a": 1, "b": 1}, "b is not asked for with these values; expected a alone"),
        ({"a": 2, "b": 1, "c": 1}, "c is not asked for"),
    ],
)
def test_parameters_that_do_not_fit_are_not_encoded(params, message):
    space = TrialSpace({"a": {"low": 1, "high": 2}, "b": {"low": 1, "high": 2, "when": {"a": 2}}})
    with pytest.raises(InputError, match=f"space: {message}"):
        space.encode(params)


def test_a_value_out_of_its_range_is_not_decoded():
    space = TrialSpace({"a": {"low": 1, "high": 2}})
    with pytest.raises(ValueError, match=r"genome holds 3\.0 for a"):
        space.build(np.frombuffer(struct.pack("<d", 3.0), dtype=np.uint8))


def test_a_builder_that_returns_no_module_is_named():
    space = TrialSpace({"model.depth": {"low": 1, "high": 2}}, model=dict)
    with pytest.raises(InputError, match="returned a dict; expected a torch"):
        space.build(space.encode({"model.depth": 1}))
