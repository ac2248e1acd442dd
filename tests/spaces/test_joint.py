from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from search.testing import BitSpace
from spaces import Choice, ChoiceSpace, Float, HyperParameters, InputError, Integer, JointSpace
from spaces.testing import SpaceContract


class Even(ChoiceSpace):
    """Only even alleles of `width` are valid."""

    width = Integer(1, 9)
    bias = Choice([True, False])
    default = {"width": 9, "bias": True}  # noqa: RUF012

    def repair(self, genomes):
        repaired = genomes.copy()
        repaired[:, 0] -= repaired[:, 0] % 2
        return repaired

    def build_from(self, width, bias):
        return nn.Linear(4, width, bias=bias)


class Tuning(HyperParameters):
    learning_rate = Float(1e-3, 1e-1, log=True)


def narrow(mask, head):
    """The second part says what is taken away from the first."""
    model = mask.build()
    model.out_features = min(model.out_features, head.describe()["inner"])
    return model


class TestPair(SpaceContract):
    def space(self):
        return JointSpace({"encoder": Even(), "decoder": Flat()}, chained)


class Flat(ChoiceSpace):
    inner = Choice([3, 5])
    default = {"inner": 5}  # noqa: RUF012

    def build_from(self, inner):
        return nn.Linear(inner, 4)


def chained(encoder, decoder):
    first, second = encoder.build(), decoder.build()
    return nn.Sequential(first, nn.ReLU(), nn.Linear(first.out_features, second.in_features), second)


class TestTunedArchitecture(SpaceContract):
    def space(self):
        return JointSpace({"architecture": Even(), "tuning": Tuning()})

    def inputs(self):
        return (torch.ones(2, 4),)


class TestNested(SpaceContract):
    def space(self):
        return JointSpace({"all": JointSpace({"pair": Even(), "tuning": Tuning()}), "more": Flat()})


def test_segments_and_description_carry_the_names_of_the_parts():
    space = JointSpace({"net": Even(), "tuning": Tuning()})
    assert [(s.name, s.choices) for s in space.segments] == [
        ("net/width", 9),
        ("net/bias", 2),
        ("tuning/learning_rate", 32),
    ]
    assert space.parts == {"net": slice(0, 2), "tuning": slice(2, 3)}
    genome = space.join(net=Even().encode(width=3, bias=False), tuning=Tuning().encode(learning_rate=0.1))
    assert space.describe(genome) == {"net/width": 3, "net/bias": False, "tuning/learning_rate": 0.1}
    assert space.alleles["net/bias"] == (True, False)


def test_repair_is_that_of_the_parts():
    space = JointSpace({"a": Even(), "b": Even()})
    assert space.repair(np.array([[3, 1, 8, 0], [2, 0, 5, 1]], dtype=np.uint8)).tolist() == [
        [2, 1, 8, 0],
        [2, 0, 4, 1],
    ]
    assert (space.sample(50, np.random.default_rng(0))[:, [0, 2]] % 2 == 0).all()


def test_without_assemble_the_first_part_is_the_model():
    space = JointSpace({"net": Even(), "tuning": Tuning()})
    model = space.build(
        space.join(net=Even().encode(width=5, bias=True), tuning=Tuning().encode(learning_rate=0.01))
    )
    assert isinstance(model, nn.Linear) and model.out_features == 5


def test_assemble_gets_every_part_by_name_and_builds_what_it_needs():
    space = JointSpace({"mask": Even(), "head": Flat()}, narrow)
    genome = space.join(mask=Even().encode(width=9, bias=True), head=Flat().encode(inner=3))
    assert space.build(genome).out_features == 3


def test_base_needs_the_base_of_every_part():
    assert JointSpace({"a": Even(), "b": Flat()}).base.tolist() == [8, 0, 1]
    assert JointSpace({"a": Even(), "b": Tuning()}).base is None


def test_fingerprint_tells_parts_names_order_and_assembly_apart():
    spaces = [
        JointSpace({"a": Even(), "b": Flat()}),
        JointSpace({"b": Flat(), "a": Even()}),
        JointSpace({"a": Even(), "c": Flat()}),
        JointSpace({"a": Even(), "b": Tuning()}),
        JointSpace({"a": Even(), "b": Flat()}, chained),
        JointSpace({"a": Even(), "b": Flat()}, narrow),
    ]
    assert len({space.fingerprint for space in spaces}) == len(spaces)


def test_kinship_is_that_of_the_parts_and_of_their_assembly():
    longer = type(
        "Flat", (Flat,), {"inner": Choice([3, 5, 7]), "__module__": Flat.__module__, "__qualname__": "Flat"}
    )()
    joint = JointSpace({"mask": Even(), "head": Flat()}, narrow)
    extended = JointSpace({"mask": Even(), "head": longer}, narrow)
    assert extended.compatibility == joint.compatibility != "" and extended.fingerprint != joint.fingerprint
    assert (
        len(
            {
                joint.compatibility,
                JointSpace(joint.spaces).compatibility,
                JointSpace({"mask": Even(), "tail": Flat()}, narrow).compatibility,
            }
        )
        == 3
    )
    bits = [JointSpace({"bits": BitSpace(4, segments), "head": Flat()}) for segments in (1, 2)]
    assert bits[0].compatibility != bits[1].compatibility, "a part without compatibility has to be as it was"


def test_mistakes_are_named():
    with pytest.raises(InputError, match="no spaces"):
        JointSpace({})
    with pytest.raises(InputError, match="part name 'a/b' is not accepted"):
        JointSpace({"a/b": Even()})
    space = JointSpace({"a": Even(), "b": Flat()})
    with pytest.raises(InputError, match="got a; the parts are a, b"):
        space.join(a=Even().base)
    with pytest.raises(ValueError, match="allele 9 at locus 0"):
        space.build(np.array([9, 0, 0], dtype=np.uint8))
