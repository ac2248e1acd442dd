from __future__ import annotations

import io
import pickle
import subprocess
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from torch import nn

from spaces import Categorical, Choice, ChoiceSpace, Float, HyperParameters, InputError, Integer
from spaces.testing import SpaceContract


class Net(ChoiceSpace):
    depth = Integer(1, 4)
    width = Choice([8, 16, 32])
    activation = Categorical(["relu", "gelu"])
    dropout = Float(0.0, 0.5, levels=6)

    default = {"depth": 4, "width": 32, "activation": "relu", "dropout": 0.1}  # noqa: RUF012

    def __init__(self, classes: int = 3) -> None:
        self.classes = classes

    def build_from(self, depth: int, width: int, activation: str, dropout: float) -> nn.Module:
        function = {"relu": nn.ReLU, "gelu": nn.GELU}[activation]
        layers = [nn.Linear(5, width)] + [nn.Linear(width, width) for _ in range(depth - 1)]
        return nn.Sequential(
            *[part for layer in layers for part in (layer, function(), nn.Dropout(dropout))],
            nn.Linear(width, self.classes),
        )


class Wider(Net):
    width = Choice([8, 16, 32, 64])
    bias = Categorical([True, False])
    default = None

    def build_from(self, *, bias: bool, **values) -> nn.Module:
        return super().build_from(**values)


class Tuning(HyperParameters):
    learning_rate = Float(1e-4, 1e-1, levels=4, log=True)
    momentum = Choice([0.0, 0.9])


class TestNet(SpaceContract):
    def space(self):
        return Net(classes=10)

    def inputs(self):
        return (torch.ones(2, 5),)


class TestWider(SpaceContract):
    def space(self):
        return Wider()


class TestTuning(SpaceContract):
    def space(self):
        return Tuning()


def test_attributes_are_segments_in_the_order_of_definition():
    assert [(s.name, s.size, s.choices) for s in Net().segments] == [
        ("depth", 1, 4),
        ("width", 1, 3),
        ("activation", 1, 2),
        ("dropout", 1, 6),
    ]


def test_a_subclass_inherits_replaces_and_appends():
    assert [(s.name, s.choices) for s in Wider().segments] == [
        ("depth", 4),
        ("width", 4),
        ("activation", 2),
        ("dropout", 6),
        ("bias", 2),
    ]
    assert [s.choices for s in Net().segments] == [4, 3, 2, 6]


def test_a_subclass_drops_a_choice_by_giving_the_name_another_meaning():
    class Fixed(Net):
        dropout = None
        default = None

        def build_from(self, depth, width, activation):
            return super().build_from(depth, width, activation, 0.0)

    assert list(Fixed().slices) == ["depth", "width", "activation"]


def test_two_parents_join_their_choices():
    class Both(Tuning, Net):
        default = None

        def build_from(self, learning_rate, momentum, **values):
            return Net.build_from(self, **values)

    assert list(Both().slices) == ["depth", "width", "activation", "dropout", "learning_rate", "momentum"]


def test_build_gets_the_values_that_the_genome_chooses():
    space = Net()
    genome = space.encode(depth=2, width=16, activation="gelu", dropout=0.2)
    assert genome.tolist() == [1, 1, 1, 2] and genome.dtype == np.uint8
    model = space.build(genome)
    assert [m.out_features for m in model if isinstance(m, nn.Linear)] == [16, 16, 3]
    assert isinstance(model[1], nn.GELU) and model[2].p == 0.2
    assert (
        space.describe(genome)
        == space.values(genome)
        == {"depth": 2, "width": 16, "activation": "gelu", "dropout": 0.2}
    )


def test_every_genome_is_encoded_back():
    space = Wider()
    for genome in space.sample(50, np.random.default_rng(0)):
        assert (space.encode(**space.values(genome)) == genome).all()


def test_sampling_reaches_every_value_alike():
    genomes = Net().sample(6000, np.random.default_rng(0))
    for locus, choices in enumerate([4, 3, 2, 6]):
        assert np.allclose(np.bincount(genomes[:, locus]) / 6000, 1 / choices, atol=0.03)


def test_default_is_the_base_and_without_it_there_is_none():
    assert Net().values(Net().base)["width"] == 32
    assert Wider().base is None


def test_integer_steps_and_float_grids():
    assert Integer(2, 9, step=3).values == (2, 5, 8)
    assert Float(0.0, 1.0, levels=5).values == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert Float(1e-4, 1e-1, levels=4, log=True).values == (1e-4, 1e-3, 1e-2, 1e-1)
    assert len(Float(0.1, 0.3, levels=256).values) == 256


def test_a_float_is_taken_to_the_nearest_level():
    space = Tuning()
    assert space.values(space.encode(learning_rate=4e-4, momentum=0.9))["learning_rate"] == 1e-3, (
        "nearest in ratio"
    )
    assert space.values(space.encode(learning_rate=3e-4, momentum=0.9))["learning_rate"] == 1e-4


def test_alleles_carry_genomes_over_to_an_extended_choice():
    old, new = Net(), Wider()
    genome = old.encode(depth=1, width=32, activation="gelu", dropout=0.5)
    carried = new.encode(
        **{name: old.alleles[name][allele] for name, allele in zip(old.slices, genome, strict=True)},
        bias=True,
    )
    assert new.values(carried) == old.values(genome) | {"bias": True}


# -- the fingerprint -----------------------------------------------------------------------------------------


def test_fingerprint_tells_classes_values_and_arguments_apart():
    assert Net(3).fingerprint == Net(classes=3).fingerprint == Net().fingerprint
    assert Net(classes=4).fingerprint != Net().fingerprint
    assert Wider().fingerprint != Net().fingerprint

    def variant(**attributes):
        return type(
            "Net", (Net,), {"default": None, "__module__": Net.__module__, "__qualname__": "Net"} | attributes
        )().fingerprint

    assert variant() == Net().fingerprint
    assert variant(width=Choice([8, 16, 64])) != variant()
    assert variant(width=Choice([16, 8, 32])) != variant()
    assert variant(width=Categorical([8, 16, 32])) != variant()


def test_kinship_is_that_of_the_class_and_its_arguments_whatever_the_values():
    def variant(**attributes):
        return type(
            "Net", (Net,), {"default": None, "__module__": Net.__module__, "__qualname__": "Net"} | attributes
        )()

    longer = variant(width=Choice([4, 8, 16, 32, 64, 128]))
    assert longer.compatibility == Net().compatibility != "" and longer.fingerprint != Net().fingerprint
    assert Net(classes=4).compatibility != Net().compatibility != Wider().compatibility
    assert variant(fingerprint="of more than choices").compatibility == "", (
        "it may depend on what only that fingerprint knows"
    )


def test_fingerprint_survives_pickling_and_another_process():
    space = pickle.loads(pickle.dumps(Net(classes=7)))
    assert space.classes == 7 and space.fingerprint == Net(classes=7).fingerprint
    code = """
from spaces import Categorical, ChoiceSpace
class A(ChoiceSpace):
    a = Categorical(['x', 'y'])
    def build_from(self, a): ...
print(A().fingerprint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with redirect_stdout(io.StringIO()) as here:
        exec(code, {"__name__": "__main__"})
    assert done.stdout == here.getvalue() != ""


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice([3]), "Choice: 1 value"),
        (lambda: Choice([]), "Choice: 0 value"),
        (lambda: Integer(5, 5), "Integer: 1 value"),
        (lambda: Integer(5, 2), "Integer: 0 value"),
        (lambda: Integer(0, 256), "Integer: 257 value"),
        (lambda: Integer(0, 10**15), "2 to 256 are accepted"),
        (lambda: Integer(0, 8, step=0), "step 0"),
        (lambda: Choice([1, 2, 1]), "value 1 occurs twice"),
        (lambda: Choice([0.1, float("nan")]), "value nan is not accepted"),
        (lambda: Categorical(["a", None]), "value None is not accepted"),
        (lambda: Float(1.0, 1.0), "low must be less than high"),
        (lambda: Float(0.0, 1.0, log=True), "above 0"),
        (lambda: Float(0.0, 1.0, levels=257), "257 levels"),
        (lambda: Float(0.0, 1.0, levels=1), "1 levels"),
    ],
)
def test_a_dimension_without_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_name_that_spaces_need_is_refused():
    with pytest.raises(InputError, match=r"Bad\.length: every space has an attribute of this name"):

        class Bad(ChoiceSpace):
            length = Integer(1, 3)


@pytest.mark.parametrize(
    "default", [{"width": 8}, {"width": 9, "depth": 1}, {"width": 8, "depth": 1, "kernel": 3}]
)
def test_a_default_that_does_not_fit_is_refused(default):
    with pytest.raises(InputError, match=r"Bad\.default: "):
        type("Bad", (ChoiceSpace,), {"width": Choice([8, 16]), "depth": Integer(1, 2), "default": default})


def test_a_builder_that_does_not_take_the_choices_is_refused():
    class Bad(ChoiceSpace):
        width = Choice([8, 16])
        depth = Integer(1, 2)

        def build_from(self, width): ...

    with pytest.raises(
        InputError, match=r"Bad\.build_from: .*depth.*; its arguments must be the choices width, depth"
    ):
        Bad()


def test_a_space_without_choices_is_refused():
    class Bad(ChoiceSpace):
        def build_from(self): ...

    with pytest.raises(InputError, match="Bad: no choices"):
        Bad()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.01}, "'momentum' is missing; the choices are learning_rate, momentum"),
        ({"learning_rate": 0.01, "momentum": 0.9, "decay": 0}, "'decay' is unknown"),
        ({"learning_rate": 0.01, "momentum": 0.8}, "momentum = 0.8 is not accepted"),
        ({"learning_rate": 0.2, "momentum": 0.9}, "learning_rate = 0.2 is not accepted"),
        ({"learning_rate": "high", "momentum": 0.9}, "learning_rate = 'high' is not accepted"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Tuning().encode(**values)


def test_a_genome_out_of_range_is_not_built():
    with pytest.raises(ValueError, match="genome 0 holds allele 7 at locus 1, which has 3 choices"):
        Net().build(np.array([0, 7, 0, 0], dtype=np.uint8))
