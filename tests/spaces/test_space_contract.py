"""Every promise of the contract, broken once: the check that guards it must fail, and the sound space must
pass all.
"""

from __future__ import annotations

import inspect
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from spaces import Segment, Space
from spaces.testing import SpaceContract

SHARED = nn.Linear(4, 4)


class Sound(Space):
    """At least one of four loci is on; a fifth is one of three widths. A base model exists."""

    segments = (Segment("units", 4), Segment("width", 1, 3))
    fingerprint = "sound"
    base = np.array([1, 1, 1, 1, 2], dtype=np.uint8)

    def sample(self, n, rng):
        return self.repair(rng.integers(0, self.choices, size=(n, 5)).astype(np.uint8))

    def repair(self, genomes):
        repaired = genomes.copy()
        repaired[~repaired[:, :4].any(axis=1), 0] = 1
        return repaired

    def build(self, genome):
        self.check(genome[None])
        return nn.Linear(int(genome[:4].sum()), 8 * (1 + int(genome[4])))

    def describe(self, genome):
        return {"units": float(genome[:4].mean()), "width": int(genome[4])}


class TestSound(SpaceContract):
    def space(self):
        return Sound()

    def test_it_has_some_thirty_checks(self):
        assert 30 <= len(CHECKS) <= 45


CHECKS = [
    name for name, _ in inspect.getmembers(SpaceContract, inspect.isfunction) if name.startswith("test_")
]
counter = itertools.count()


def never_twice_the_same(self, n, rng):
    return Sound.sample(self, n, np.random.default_rng(next(counter)))


def from_numpys_global_generator(self, n, rng):
    np.random.seed(int(rng.integers(1000)))  # noqa: NPY002
    return Sound.sample(self, n, np.random.default_rng(np.random.randint(1000)))  # noqa: NPY002


def in_place(self, genomes):
    genomes[~genomes[:, :4].any(axis=1), 0] = 1
    return genomes


def like_the_first(self, genomes):
    repaired = Sound.repair(self, genomes)
    repaired[:, 4] = np.minimum(repaired[:, 4], repaired[:1, 4].max(initial=0))
    return repaired


def shared(self, genome):
    self.check(genome[None])
    return SHARED


def shared_buffer(self, genome):
    model = Sound.build(self, genome)
    model.register_buffer("scale", SHARED.bias.data)
    return model


def changing_the_genome(self, genome):
    model = Sound.build(self, genome)
    genome[4] = (genome[4] + 1) % 3
    return model


def without_gradients(self, genome):
    torch.set_grad_enabled(False)
    return Sound.build(self, genome)


def unseeded(self, genome):
    model = Sound.build(self, genome)
    nn.init.constant_(model.bias, next(counter))
    return model


def remembering(self, genome):
    model = Sound.build(self, genome)
    self.made = [*getattr(self, "made", ()), model]
    self.fingerprint = f"sound {len(self.made)}"
    return model


BREACHES = [
    ("segments_are_a_tuple", {"segments": [*Sound.segments]}),
    ("segment_names_are_unique", {"segments": (Segment("a", 4), Segment("a", 1, 3))}),
    ("alleles_name_segments", {"alleles": {"units": (1, 2, 3)}}),
    ("alleles_name_segments", {"alleles": {"depth": (1, 2, 3)}}),
    ("sample_has_shape", {"sample": lambda self, n, rng: Sound.sample(self, n + 1, rng)}),
    ("sample_has_shape", {"sample": lambda self, n, rng: Sound.sample(self, n, rng).astype(int)}),
    ("sample_is_within", {"sample": lambda self, n, rng: Sound.sample(self, n, rng) + 2}),
    ("sample_is_valid", {"sample": lambda self, n, rng: np.zeros((n, 5), dtype=np.uint8)}),
    ("same_generator_same_sample", {"sample": never_twice_the_same}),
    ("samples_vary", {"sample": lambda self, n, rng: np.ones((n, 5), dtype=np.uint8)}),
    ("samples_vary", {"sample": lambda self, n, rng: Sound.sample(self, n, np.random.default_rng(0))}),
    ("sample_leaves_the_global", {"sample": from_numpys_global_generator}),
    ("repair_gives_genomes", {"repair": lambda self, genomes: Sound.repair(self, genomes).astype(float)}),
    (
        "repair_is_idempotent",
        {"repair": lambda self, genomes: np.roll(Sound.repair(self, genomes), 1, axis=1) % 2},
    ),
    (
        "repair_changes_no_more",
        {
            "repair": lambda self, genomes: np.where(
                genomes[:, :4].any(axis=1, keepdims=True), genomes, self.base
            )
        },
    ),
    ("repair_leaves_its_argument", {"repair": in_place}),
    ("repaired_genomes_share_no_memory", {"repair": in_place}),
    ("repair_treats_every_genome_alone", {"repair": like_the_first}),
    (
        "repair_takes_an_empty",
        {
            "repair": lambda self, genomes: np.stack(
                [Sound.repair(self, genome[None])[0] for genome in genomes]
            )
        },
    ),
    ("build_gives_a_module", {"build": lambda self, genome: lambda x: x}),
    (
        "build_takes_the_repaired_extremes",
        {"build": lambda self, genome: Sound.build(self, genome) if genome[:4].sum() > 1 else None},
    ),
    ("build_is_determined", {"build": unseeded}),
    ("builds_share_no_storage", {"build": shared}),
    ("builds_share_no_storage", {"build": shared_buffer}),
    ("changing_a_built_model", {"build": shared}),
    ("build_leaves_the_genome", {"build": changing_the_genome}),
    ("build_leaves_torch_settings", {"build": without_gradients}),
    ("build_refuses", {"build": lambda self, genome: nn.Linear(int(genome[:4].sum()), 8)}),
    ("description_has_the_same_keys", {"describe": lambda self, genome: {f"width{genome[4]}": 1}}),
    ("description_is_plain", {"describe": lambda self, genome: {"width": genome[4]}}),
    ("description_is_plain", {"describe": lambda self, genome: {"width": float("nan")}}),
    ("description_tells_genomes_apart", {"describe": lambda self, genome: {"width": 1}}),
    ("fingerprint_is_a_text", {"build": remembering}),
    ("fingerprint_is_that_of_another", {"fingerprint": property(lambda self: str(id(self)))}),
    ("base_is_a_valid", {"base": np.zeros(5, dtype=np.uint8)}),
    ("packing_loses_nothing", {"pack": lambda self, genome: np.packbits(genome).tobytes()}),
    ("wrong_dtype", {"check": lambda self, genomes: None}),
    ("wrong_shape", {"check": lambda self, genomes: None}),
    ("alleles_out_of_range", {"check": lambda self, genomes: None}),
]


@pytest.fixture(autouse=True)
def _settings():
    yield
    torch.set_grad_enabled(True)
    nn.init.constant_(SHARED.weight, 0.5)


@pytest.mark.parametrize(
    ("check", "attributes"), BREACHES, ids=[f"{check}-{i}" for i, (check, _) in enumerate(BREACHES)]
)
def test_a_breach_is_caught(check, attributes):
    broken = type("Broken", (Sound,), attributes)
    (name,) = [name for name in CHECKS if name.startswith(f"test_{check}")]
    contract = type("Contract", (SpaceContract,), {"space": lambda self: broken()})()
    with pytest.raises((AssertionError, ValueError)):
        getattr(contract, name)()


class Stuck(Sound):
    def __init__(self):
        self.hook = lambda: None


class Forgetful(Sound):
    def __init__(self, bias=1.0):
        self.bias = bias

    def __getstate__(self):
        return {"bias": 0.0}

    def build(self, genome):
        model = Sound.build(self, genome)
        nn.init.constant_(model.bias, self.bias)
        return model


@pytest.mark.parametrize(
    ("space", "check", "error"),
    [
        (Stuck, "test_it_pickles", (AttributeError, pickle.PicklingError)),
        (Forgetful, "test_a_pickled_copy_builds_the_same", AssertionError),
    ],
)
def test_a_space_that_does_not_travel_is_caught(space, check, error):
    contract = type("Contract", (SpaceContract,), {"space": lambda self: space()})()
    with pytest.raises(error):
        getattr(contract, check)()
