import copy
import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from operators.mutation import ConjunctivePruning, RandomPruning, VariancePruning
from spaces import InputError, MixedPairs, Pair, VariationalPair
from spaces.testing import SpaceContract

X = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))


def mlp(*widths):
    return {"class_path": "spaces.models.Perceptron", "init_args": {"widths": list(widths)}}


ENCODERS = [mlp(16, 12, 6), mlp(16, 10, 8, 6), mlp(16, 6)]
DECODERS = [mlp(6, 12, 16), mlp(6, 16)]


def mixed(**settings):
    return MixedPairs(ENCODERS, DECODERS, [16], **settings)


class TestUnits(SpaceContract):
    def space(self):
        return mixed()

    def inputs(self):
        return (X,)


class TestBoth(SpaceContract):
    def space(self):
        return mixed(granularity="both", round_to=2, min_keep=2)

    def inputs(self):
        return (X,)


@pytest.fixture(scope="module", params=["units", "weights", "both"])
def space(request):
    return mixed(granularity=request.param)


def places(space):
    return [(i, j) for i in range(len(space.encoders)) for j in range(len(space.decoders))]


def pruned(space, place, seed=0):
    genome = space.sample(1, np.random.default_rng(seed))[0]
    whole = space.whole(*place)
    return np.where(
        np.char.startswith(np.repeat(list(space.slices), [s.size for s in space.segments]), "architecture"),
        whole,
        genome,
    )


def test_segments_are_named_after_whose_they_are():
    assert [(s.name, s.size) for s in mixed().segments] == [
        ("architecture/encoder", 3),
        ("architecture/decoder", 2),
        ("latent", 6),
        ("encoder0/encoder.layers.0", 12),
        ("encoder1/encoder.layers.0", 10),
        ("encoder1/encoder.layers.2", 8),
        ("decoder0/decoder.layers.0", 12),
    ]


def test_the_genome_says_which_architectures(space):
    for i, j in places(space):
        genome = space.repair(space.whole(i, j)[None])[0]
        assert space.architectures(genome) == (i, j) and (genome == space.whole(i, j)).all()
        expected, built = Pair(space.encoders[i], space.decoders[j]), space.build(genome)
        assert (
            torch.equal(built(X), expected(X)) and built.state_dict().keys() == expected.state_dict().keys()
        )
        assert (
            space.describe(genome)["architecture/encoder"] == i
            and space.describe(genome)["architecture/decoder"] == j
        )


def test_masks_and_built_models_agree_for_every_pair(space):
    for number, place in enumerate(places(space)):
        genome = space.repair(pruned(space, place, number)[None])[0]
        full = copy.deepcopy(space.pair(*place)).eval()
        assert full.architectures == place
        with torch.no_grad():
            for name, mask in space.masks(genome).items():
                full.get_parameter(name).mul_(mask)
            built = space.build(genome)
            assert torch.allclose(full(X), built(X), atol=1e-5)
        assert space.difference(genome) < 1e-5
        assert space.parameters(genome[None])[0] == sum(int((p != 0).sum()) for p in built.parameters())
        gathered = space.gather(genome, full.state_dict())
        assert {n: t.shape for n, t in gathered.items()} == {
            n: t.shape for n, t in built.state_dict().items()
        }
        assert all(torch.equal(gathered[n], t) for n, t in built.state_dict().items())
        assert torch.allclose(space.compact(full, genome)(X), built(X), atol=1e-5)
        zeros = {n: torch.zeros_like(t) for n, t in full.state_dict().items()}
        scattered = space.scatter(genome, gathered, zeros)
        assert all(
            torch.equal(scattered[n], t)
            for n, t in full.state_dict().items()
            if space.granularity == "weights" or "bias" in n
        )


def test_halves_of_different_cells_make_a_genome(space):
    one, other = pruned(space, (1, 1), 1), pruned(space, (2, 0), 2)
    encoder, decoder = np.where(space.encoder_loci, one, 1), np.where(space.decoder_loci, other, 1)
    genome = space.repair((encoder & decoder).astype(np.uint8)[None])[0]
    assert space.architectures(genome) == (1, 0)
    for name, part in space.slices.items():
        if name.startswith("encoder1/"):
            assert (genome[part] == one[part]).all()
        if name.startswith("decoder0/"):
            assert (genome[part] == other[part]).all()


def test_active_loci_are_those_that_change_the_model(space):
    for place in places(space):
        genome = space.whole(*place)
        active = space.active(genome[None])[0]
        for name, part in space.slices.items():
            if name.startswith("architecture"):
                assert not active[part].any()
                continue
            changed = genome.copy()
            changed[part.start] = 0
            assert bool(space.masks(changed)) == active[part.start] == active[part].all()


@pytest.mark.parametrize("mutation", [RandomPruning(0.5), VariancePruning("low"), ConjunctivePruning(0.5)])
def test_pruning_touches_only_what_is_active(space, mutation):
    for place in places(space):
        genome, rng = space.whole(*place), np.random.default_rng(0)
        guide = {"outputs": space.record(copy.deepcopy(space.pair(*place)), [(X, None)])}
        changed = mutation(space, genome[None], guide, rng)[0]
        assert (changed < genome).any() and space.architectures(changed) == place
        assert not ((changed != genome) & ~space.active(genome[None])[0]).any()


def test_recorded_columns_speak_about_their_loci(space):
    for place in places(space):
        pair = space.pair(*place)
        table = space.record(pair, [(X, None)])
        assert table.shape == (5, len(space.unit_layers))
        active = space.active(space.whole(*place)[None])[0]
        units = space.units_of[active]
        assert (units >= 0).all() and np.isfinite(table[:, units]).all()
        spoken = space.units_of[~active]
        assert np.isnan(table[:, spoken[spoken >= 0]]).all()
        if "latent" in space.slices:
            codes = pair.encoder(X).detach().numpy()
            np.testing.assert_allclose(table[:, space.units_of[space.slices["latent"]]], codes, atol=1e-6)
        for half, number in zip(("encoder", "decoder"), place, strict=True):
            layers = [m for m in getattr(pair, half).modules() if isinstance(m, nn.Linear)]
            name = next(
                (n for n in space.slices if n.startswith(f"{half}{number}/") and n.endswith("layers.0")), None
            )
            if name is not None and half == "encoder":
                np.testing.assert_allclose(
                    table[:, space.units_of[space.slices[name]]], layers[0](X).detach().numpy(), atol=1e-6
                )


def test_norms_of_readers_are_those_of_the_pair(space):
    for place in places(space):
        norms, active = space.outgoing(space.pair(*place)), space.active(space.whole(*place)[None])[0]
        assert np.isfinite(norms[active]).all() and np.isnan(norms[~active]).all()
        if "latent" in space.slices:
            readers = (
                next(m for m in space.decoders[place[1]].modules() if isinstance(m, nn.Linear))
                .weight.detach()
                .norm(dim=0)
            )
            np.testing.assert_allclose(norms[space.slices["latent"]], readers.numpy(), rtol=1e-5)


def test_it_can_be_made_again_of_its_specification():
    arguments = json.loads(
        json.dumps({"encoders": ENCODERS, "decoders": DECODERS, "shape": [16], "granularity": "both"})
    )
    one, other = MixedPairs(**arguments), MixedPairs(**arguments)
    assert one.fingerprint == other.fingerprint != mixed().fingerprint
    genome = one.sample(1, np.random.default_rng(0))[0]
    assert torch.equal(one.build(genome)(X), other.build(genome)(X))
    assert pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint


def test_latents_that_differ_are_told():
    with pytest.raises(
        InputError, match=r"encoders\[1\] with decoders\[0\]: pair: the decoder does not take .*\(2, 5\)"
    ):
        MixedPairs([mlp(16, 6), mlp(16, 5)], [mlp(6, 16)], [16])


def test_pairs_of_another_kind_and_of_tokens():
    space = MixedPairs([mlp(16, 12)], [mlp(6, 8, 16)], [16], pair="spaces.VariationalPair")
    assert isinstance(space.model, VariationalPair)
    embedded = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 6))
    space = MixedPairs([embedded], [mlp(6, 8, 4)], [3], symbols=5)
    assert space.build(space.base)(torch.tensor([[0, 4, 2]])).shape == (1, 4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([], DECODERS, [16]), "0 encoders"),
        (
            ([{"class_path": "spaces.models.Nothing"}], DECODERS, [16]),
            "encoders.0. 'spaces.models.Nothing' cannot be imported",
        ),
        (
            ([mlp(16, 6)], ["spaces.models.Perceptron"], [16]),
            "decoders.0. 'spaces.models.Perceptron' is not accepted",
        ),
        (
            ([{"class_path": "spaces.models.Perceptron", "init_args": {"width": 3}}], DECODERS, [16]),
            "init_args do not fit",
        ),
        (
            ([{"class_path": "builtins.dict"}], DECODERS, [16]),
            r"'builtins.dict' is not of the kind needed; expected a subclass of torch\.nn",
        ),
        (([{"class_path": "builtins.sorted", "init_args": {}}], DECODERS, [16]), "init_args do not fit"),
        ((ENCODERS, DECODERS, [0]), "shape .0."),
    ],
)
def test_what_is_not_accepted_is_named(arguments, text):
    with pytest.raises(InputError, match=text):
        MixedPairs(*arguments)
