import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from spaces import InputError, Pair, PairSpace, VariationalPair
from spaces.testing import SpaceContract


def layers(*widths: int, last: nn.Module | None = None) -> nn.Sequential:
    parts: list[nn.Module] = []
    for a, b in pairwise(widths):
        parts += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*parts[:-1], last or nn.ReLU())


def dense() -> Pair:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pair = Pair(layers(16, 12, 6), layers(6, 12, 16, last=nn.Sigmoid()))
        for layer in (pair.encoder[0], pair.encoder[2], pair.decoder[0]):
            nn.init.uniform_(layer.bias, 1, 2)  # so that no unit is silent
        return pair


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.code = nn.Conv2d(6, 4, 3, 2, 1)

    def forward(self, x):
        return self.code(self.stem(x)).tanh()


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 4, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.out = nn.ConvTranspose2d(6, 1, 4, 2, 1)

    def forward(self, z):
        return self.out(torch.relu(self.norm(self.up(z))))


class Convolutional(nn.Module):
    """A pair by its children's names alone."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def forward(self, x):
        return self.decoder(self.encoder(x))


def convolutional() -> Convolutional:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Convolutional()
        for norm in (model.encoder.stem[1], model.decoder.norm):
            nn.init.uniform_(norm.bias, 0.1, 0.5)
            norm.running_mean.uniform_(-2, -1)
        return model.eval()


X = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
KINDS = ("units", "weights", "both")


class Dense(SpaceContract):
    kind = "units"

    def space(self):
        return PairSpace(dense(), X, granularity=self.kind)

    def inputs(self):
        return (X,)


class TestUnits(Dense):
    pass


class TestWeights(Dense):
    kind = "weights"


class TestBoth(Dense):
    kind = "both"


class TestConvolutional(SpaceContract):
    def space(self):
        return PairSpace(convolutional(), IMAGES, granularity="both", round_to=2, min_keep=2)

    def inputs(self):
        return (IMAGES,)


@pytest.fixture(
    scope="module",
    params=[(make, x, kind) for make, x in ((dense, X), (convolutional, IMAGES)) for kind in KINDS],
    ids=lambda p: f"{p[0].__name__}-{p[2]}",
)
def case(request):
    make, x, kind = request.param
    return PairSpace(make(), x, granularity=kind), x


def masked(space, genome):
    full = copy.deepcopy(space.model).eval()
    with torch.no_grad():
        for name, mask in space.masks(genome).items():
            full.get_parameter(name).mul_(mask)
    return full


def test_masks_built_model_and_reference_compute_the_same(case):
    space, x = case
    for genome in space.sample(6, np.random.default_rng(0)):
        with torch.no_grad():
            built = space.build(genome).eval()(x)
            assert torch.allclose(masked(space, genome)(x), built, atol=1e-5)
        assert space.difference(genome) < 1e-5


def test_masks_name_only_what_has_something_dead(case):
    space, _ = case
    assert space.masks(space.base) == {}
    state = space.model.state_dict()
    for name, mask in space.masks(space.sample(1, np.random.default_rng(0))[0]).items():
        assert mask.dtype == torch.bool and mask.shape == state[name].shape and not mask.all()


def test_parameters_are_those_that_are_left(case):
    space, _ = case
    genomes = space.sample(4, np.random.default_rng(0))
    for genome, count in zip(genomes, space.parameters(genomes), strict=True):
        built = space.build(genome)
        assert count == sum(int((p != 0).sum()) for p in built.parameters())
        if space.granularity == "units":
            assert count == sum(p.numel() for p in built.parameters())


def test_dead_weights_stay_dead_in_any_training(case):
    space, x = case
    genome = space.sample(1, np.random.default_rng(2))[0]
    for optimiser in (torch.optim.AdamW, torch.optim.SGD):
        built = space.build(genome).train()
        zeros = {name: p == 0 for name, p in built.named_parameters()}
        optimiser = optimiser(built.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            (built(x) - 0.3).square().mean().backward()
            optimiser.step()
        assert all((p[zeros[name]] == 0).all() for name, p in built.named_parameters())
        assert sum(int((p != 0).sum()) for p in built.parameters()) == space.parameters(genome[None])[0]


def test_tuned_weights_scatter_back(case):
    space, x = case
    genome = space.sample(1, np.random.default_rng(2))[0]
    built = space.build(genome).eval()
    with torch.no_grad():
        for p in built.parameters():
            p.mul_(1.1)
    assert space.difference(genome, (x,), built) < 1e-5


def test_latent_units_belong_to_both_halves():
    space = PairSpace(dense(), X)
    assert [s.name for s in space.segments] == ["encoder.0", "encoder.2", "decoder.0"]
    both = space.encoder_loci & space.decoder_loci
    assert both[space.slices["encoder.2"]].all() and both.sum() == 6
    assert (space.encoder_loci | space.decoder_loci).all()


def test_a_genome_of_two_halves_cuts_what_each_half_cuts():
    space = PairSpace(dense(), X, granularity="both")
    one, other = space.sample(2, np.random.default_rng(0))
    encoder, decoder = np.where(space.encoder_loci, one, 1), np.where(space.decoder_loci, other, 1)
    masks = space.masks(space.repair((encoder & decoder)[None])[0])
    first, second = space.masks(encoder.astype(np.uint8)), space.masks(decoder.astype(np.uint8))
    assert torch.equal(masks["encoder.0.weight"], first["encoder.0.weight"])
    assert torch.equal(masks["decoder.2.weight"], second["decoder.2.weight"])
    assert torch.equal(
        masks["decoder.0.weight"], first["decoder.0.weight"] & second["decoder.0.weight"]
    )  # latent columns of both


def test_weights_come_behind_units_one_bit_an_entry():
    space = PairSpace(dense(), X, granularity="both")
    assert [s.name for s in space.segments[:3]] == ["encoder.0", "encoder.2", "decoder.0"]
    assert space.segments[3].name == "weights/encoder.0.weight" and space.segments[3].size == 12 * 16
    genome = space.base
    genome[space.slices["weights/encoder.0.weight"]][16 + 3] = 0
    mask = space.masks(genome)
    assert list(mask) == ["encoder.0.weight"]
    assert mask["encoder.0.weight"].logical_not().nonzero().tolist() == [[1, 3]]
    assert space.alive(genome) == {
        **{s.name: s.size for s in space.segments},
        "weights/encoder.0.weight": 191,
    }


def test_a_weight_keeps_an_entry_and_a_bias_need_not():
    space = PairSpace(dense(), X, granularity="weights", min_keep=3)
    alive = space.alive(space.repair(np.zeros((1, space.length), np.uint8))[0])
    assert alive["weights/encoder.0.weight"] == 3 and alive["weights/encoder.0.bias"] == 0


def test_a_model_without_prunable_units_has_weights():
    space = PairSpace(Pair(nn.Linear(16, 1), nn.Linear(1, 16)), X, granularity="both")
    assert {s.name for s in space.segments} == {
        f"weights/{half}.{kind}" for half in ("encoder", "decoder") for kind in ("weight", "bias")
    }
    with pytest.raises(InputError, match="nothing can be pruned"):
        PairSpace(Pair(nn.Linear(16, 1), nn.Linear(1, 16)), X)


def test_frozen_layers_stay():
    for kind in KINDS:
        space = PairSpace(dense(), X, freeze=("encoder.*",), granularity=kind)
        assert not any("encoder" in s.name for s in space.segments)
        with pytest.raises(InputError, match="nosuch"):
            PairSpace(dense(), X, freeze=("nosuch.*",), granularity=kind)


def test_recorded_outputs_are_those_of_the_layers(case):
    space, x = case
    outputs, looked_at = {}, copy.deepcopy(space.model).eval()
    for name, module in looked_at.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: outputs.update({name: output.clone()})
            )
    looked_at(x)
    table = space.record(space.model, [(x[:3], None), (x[3:], None)])
    assert table.dtype == np.float32 and table.shape == (5, len(space.unit_layers))
    expected = torch.cat([o.flatten(2).mean(2) if o.ndim > 2 else o for o in outputs.values()], dim=1)
    np.testing.assert_allclose(table, expected.detach().numpy(), atol=1e-6)
    assert [int((space.unit_layers == i).sum()) for i in range(len(outputs))] == [
        o.shape[1] for o in outputs.values()
    ]


def test_every_locus_knows_the_unit_that_speaks_about_it(case):
    """Killing a locus changes the outputs of its own unit, or, for a unit locus, those of nobody
    before it.
    """
    space, x = case
    rng = np.random.default_rng(0)
    base = space.record(masked(space, space.base), [(x, None)])
    for part in space.slices.values():
        locus = int(rng.integers(part.start, part.stop))
        genome = space.base
        genome[locus] = 0
        changed = np.abs(space.record(masked(space, genome), [(x, None)]) - base).max(axis=0) > 1e-7
        unit = space.units_of[locus]
        assert unit >= 0
        layer = space.unit_layers[unit]
        assert changed[unit] and changed[space.unit_layers == layer].sum() == 1
        assert not changed[space.unit_layers < layer].any()


def test_positions_of_sequences_are_averaged():
    model = Pair(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 3))
    x = torch.rand(5, 7, 3)
    space = PairSpace(model, x, granularity="weights")
    np.testing.assert_allclose(
        space.record(model, [(x, None)])[:, :4], model.encoder[0](x).mean(1).detach().numpy(), atol=1e-6
    )


def test_an_activation_in_place_does_not_show():
    model = Pair(nn.Sequential(nn.Linear(16, 6), nn.ReLU(inplace=True)), nn.Linear(6, 16))
    space = PairSpace(model, X)
    np.testing.assert_allclose(
        space.record(model, [(X, None)])[:, :6], model.encoder[0](X).detach().numpy(), atol=1e-6
    )


def test_what_a_mask_cannot_do_is_frozen():
    """A norm over units has other statistics with zeros among them than without."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Pair(
            nn.Sequential(nn.Linear(16, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 6)), layers(6, 12, 16)
        )
    for kind in KINDS:
        space = PairSpace(model, X, granularity=kind)
        assert "encoder.0" not in space.slices
        assert kind == "weights" or {"encoder.3", "decoder.0"} <= space.slices.keys()
        for genome in space.sample(4, np.random.default_rng(0)):
            with torch.no_grad():
                assert torch.allclose(masked(space, genome)(X), space.build(genome).eval()(X), atol=1e-5)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.second, self.first = nn.Linear(8, 8), nn.Linear(16, 8)

    def forward(self, x):
        x = self.first(x)
        return x + self.second(torch.relu(x))


def test_of_several_producers_the_first_to_run_speaks():
    model = Pair(Residual(), nn.Linear(8, 16))
    space = PairSpace(model, X)
    assert space.length == 8
    recorded = space.record(model, [(X, None)])[:, space.units_of]
    np.testing.assert_allclose(recorded, model.encoder.first(X).detach().numpy(), atol=1e-6)


def test_halves_that_do_not_fit_are_told_with_both_shapes():
    with pytest.raises(
        InputError, match=r"decoder does not take what the encoder gives, \(5, 6\).*decoder.0.*in_features=7"
    ):
        PairSpace(Pair(layers(16, 12, 6), layers(7, 16)), X)
    with pytest.raises(
        InputError, match=r"encoder does not take the example \(5, 16\).*encoder.0.*in_features=15"
    ):
        PairSpace(Pair(layers(15, 6), layers(6, 16)), X)


def test_what_is_no_pair_is_refused():
    with pytest.raises(InputError, match="expected children 'encoder' and 'decoder', there are 0, 1"):
        PairSpace(nn.Sequential(nn.Linear(16, 4), nn.Linear(4, 16)), X)

    class Residual(Pair):
        def forward(self, x):
            return x + super().forward(x)

    with pytest.raises(InputError, match=r"Residual.forward is not decoder\(encoder"):
        PairSpace(Residual(layers(16, 6), layers(6, 16)), X)
    with pytest.raises(InputError, match="granularity 'bits'"):
        PairSpace(dense(), X, granularity="bits")


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.mean, self.spread = layers(16, 12), nn.Linear(12, 6), nn.Linear(12, 6)

    def forward(self, x):
        x = self.body(x)
        return self.mean(x), self.spread(x)


@pytest.mark.parametrize("encoder", [lambda: layers(16, 12, 12, last=nn.Identity()), Heads])
def test_a_variational_pair_samples_in_training_only(encoder):
    pair = VariationalPair(encoder(), layers(6, 12, 16))
    with torch.no_grad():
        assert torch.equal(pair.eval()(X), pair(X))
        assert not torch.equal(pair.train()(X), pair(X))
        mean, log_variance = pair.moments(pair.encoder(X))
        assert mean.shape == log_variance.shape == (5, 6)
        draws = torch.stack([pair.draw(mean, log_variance) for _ in range(4000)])
    assert torch.allclose(draws.mean(0), mean, atol=0.12) and torch.allclose(
        draws.var(0).log(), log_variance, atol=0.2
    )
    space = PairSpace(pair, X, granularity="both")
    for genome in space.sample(3, np.random.default_rng(0)):
        assert space.difference(genome) < 1e-5


def test_a_variational_encoder_of_odd_width_is_refused():
    with pytest.raises(InputError, match="mean and log-variance"):
        PairSpace(VariationalPair(layers(16, 7), layers(3, 16)), X)


def test_a_copy_in_another_process_knows_all(case):
    space, x = case
    copied = pickle.loads(pickle.dumps(space))
    genome = space.sample(1, np.random.default_rng(0))[0]
    assert (copied.units_of == space.units_of).all() and (copied.encoder_loci == space.encoder_loci).all()
    assert all(torch.equal(copied.masks(genome)[name], mask) for name, mask in space.masks(genome).items())
    np.testing.assert_array_equal(
        copied.record(copied.model, [(x, None)]), space.record(space.model, [(x, None)])
    )
    assert copied.difference(genome) < 1e-5
