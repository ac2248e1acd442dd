import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import BinaryClusters, Denoising, Digits, PairTraining, Reconstruction, Variational
from evaluators.assessment import assess
from evaluators.pairs.evaluator import kept
from evaluators.pairs.optimisers import TailAverage, one_cycle
from evaluators.testing import EvaluatorContract
from spaces import ChannelSpace, InputError, Pair, PairSpace, VariationalPair
from spaces.models import Perceptron

RATE = 3e-3


class Encoder(nn.Sequential):
    def __init__(self, size=64, hidden=16, latent=6):
        super().__init__(nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, latent))


class Decoder(nn.Sequential):
    def __init__(self, size=64, hidden=16, latent=6):
        super().__init__(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, size), nn.Sigmoid())


def pair(seed=0, kind=Pair, latent=6):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(Encoder(latent=latent * (2 if kind is VariationalPair else 1)), Decoder(latent=latent))


@pytest.fixture(scope="module")
def data():
    return Reconstruction(Digits(train_samples=200), "mse", unit=True)


@pytest.fixture(scope="module")
def space(data):
    return PairSpace(pair(), data.example(), granularity="both")


def bound(space, data, **settings):
    training = PairTraining(**settings)
    training.bind(space, data)
    return training


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class TestPairTraining(EvaluatorContract):
    def evaluator(self):
        return PairTraining()

    def space(self):
        return PairSpace(pair(), self.data().example(), granularity="both")

    def data(self):
        return Reconstruction(Digits(train_samples=100), unit=True)


def test_every_encoder_meets_every_decoder(space, data):
    training = bound(space, data)
    pairs = [pair(seed).train() for seed in range(3)]
    inputs, targets = training.draw(generator())
    assert len(targets) == 200  # the split has no more
    table = training.losses([p.encoder for p in pairs], [p.decoder for p in pairs[:2]], inputs, targets)
    assert table.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            mixed = Pair(pairs[i].encoder, pairs[j].decoder)
            assert table[i, j].item() == pytest.approx(
                assess(mixed, data, [(inputs, targets)])["loss"], rel=1e-5
            )
    assert all(module.training for p in pairs for module in p.modules())


def test_encoders_run_once(space, data):
    calls = []
    encoder = Encoder()
    encoder.register_forward_hook(lambda *a: calls.append(1))
    training = bound(space, data)
    training.losses([encoder], [Decoder(), Decoder(), Decoder()], *training.draw(generator()))
    assert len(calls) == 1


def test_draws_follow_from_the_generator(space, data):
    training = bound(space, data, match_batch=10, match_split="calibration")
    one, same, other = (training.draw(generator(s))[0] for s in (1, 1, 2))
    assert len(one) == 10 and torch.equal(one, same) and not torch.equal(one, other)


def reference(model, masks, kind, data, settings, steps=None):
    """Train with torch's optimiser as a user would, zeroing weights and moments after every step."""
    optimiser = kind(model.parameters(), **settings)
    names = {p: n for n, p in model.named_parameters()}
    order, total, count = generator(), 0.0, 0
    torch.randint(2**62, (), generator=order)  # the seed of dropout and the like
    with torch.no_grad():
        for p, n in names.items():
            if n in masks:
                p.mul_(masks[n])
    for inputs, targets in data.batches("train", 32, order):
        losses = data.loss(model(inputs), targets)
        optimiser.zero_grad()
        losses.mean().backward()
        optimiser.step()
        with torch.no_grad():
            for p, n in names.items():
                if n in masks:
                    p.mul_(masks[n])
                    for moment in optimiser.state[p].values():
                        if isinstance(moment, torch.Tensor) and moment.ndim:
                            moment.mul_(masks[n])
        total, count = total + losses.sum().item(), count + len(targets)
    return total / count


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adam", torch.optim.Adam, {"lr": RATE, "betas": (0.5, 0.999), "weight_decay": 0.01}),
        ("adamw", torch.optim.AdamW, {"lr": RATE, "betas": (0.5, 0.999), "weight_decay": 0.01}),
        ("sgd", torch.optim.SGD, {"lr": RATE, "momentum": 0.5, "nesterov": True, "weight_decay": 0.01}),
    ],
)
def test_training_is_that_of_torch_with_zeros_held(space, data, name, kind, settings):
    masks = space.masks(space.sample(1, np.random.default_rng(1))[0])
    training = bound(space, data, optimiser=name, betas=(0.5, 0.999), weight_decay=0.01)
    ours, theirs = pair(), pair()
    loss, _ = training.train(ours, masks, {}, RATE, generator())
    assert loss == pytest.approx(reference(theirs, masks, kind, data, settings), rel=1e-5)
    assert torch.allclose(flat(ours), flat(theirs), atol=1e-6)
    assert not torch.equal(flat(ours), flat(pair()))


def test_a_fresh_adam_a_batch_in_closed_form(space, data):
    training = bound(space, data, fresh_optimiser=True)
    ours, theirs, order = pair(), pair(), generator()
    _, moments = training.train(ours, {}, {}, RATE, generator())
    assert moments == {}
    torch.randint(2**62, (), generator=order)
    for inputs, targets in data.batches("train", 32, order):
        optimiser = torch.optim.Adam(theirs.parameters(), RATE, (0.5, 0.999))
        optimiser.zero_grad()
        data.loss(theirs(inputs), targets).mean().backward()
        optimiser.step()
    assert torch.allclose(flat(ours), flat(theirs), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{}, {"fresh_optimiser": True}, {"optimiser": "sgd"}, {"optimiser": "adamw", "weight_decay": 0.1}],
)
def test_what_is_dead_stays_dead_though_the_moments_push(space, data, settings):
    training = bound(space, data, **settings)
    ours = pair()
    _, moments = training.train(ours, {}, {}, RATE, generator())
    masks = space.masks(space.sample(1, np.random.default_rng(1))[0])
    _, later = training.train(ours, masks, moments, RATE, generator(1))
    parameters = dict(ours.named_parameters())
    for name, mask in masks.items():
        assert (parameters[name][~mask] == 0).all() and (parameters[name][mask] != 0).any()
        for kind in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            if f"{name}/{kind}" in later:
                assert (later[f"{name}/{kind}"][~mask] == 0).all()
    training.train(ours, {}, later, RATE, generator(2))
    assert (parameters["decoder.2.weight"][~masks["decoder.2.weight"]] != 0).any()  # without masks it regrows


def test_moments_travel_with_their_half_and_stay_as_they_were(space, data):
    """Two trainings with moments handed on are one training of two epochs."""
    once, twice = pair(), pair()
    order = generator()
    long = bound(space, data, batches=14)
    short = bound(space, data, batches=7)  # an epoch of 200 samples
    long.train(once, {}, {}, RATE, generator())
    _, moments = short.train(twice, {}, {}, RATE, order)
    before = {name: tensor.clone() for name, tensor in moments.items()}
    assert {name.split(".")[0] for name in moments} == {"encoder", "decoder"}
    assert moments["encoder.1.weight/step"] == 7
    forgetful = copy.deepcopy(twice)
    torch.manual_seed(0)
    state = order.get_state()
    seeded = torch.Generator()
    seeded.set_state(state)
    _, after = short.train(twice, {}, moments, RATE, order)
    assert all(torch.equal(moments[name], tensor) for name, tensor in before.items())
    assert after["encoder.1.weight/step"] == 14
    short.train(forgetful, {}, {}, RATE, seeded)
    assert not torch.allclose(flat(twice), flat(forgetful))
    half = {name: tensor for name, tensor in moments.items() if name.startswith("decoder.")}
    _, mixed = short.train(pair(), {}, half, RATE, generator())
    assert mixed["encoder.1.weight/step"] == 7 and mixed["decoder.0.weight/step"] == 14


def test_results_follow_from_the_generator_alone(space, data):
    training = bound(space, data, corruption=Denoising(0.3))
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(results))
        model = Pair(nn.Sequential(*Encoder(), nn.Dropout(0.5)), pair().decoder)
        model.encoder.load_state_dict(pair().encoder.state_dict())
        results.append((training.train(model, {}, {}, RATE, generator(seed))[0], flat(model)))
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][1], results[2][1])
    before = torch.get_rng_state()
    training.train(pair(), {}, {}, RATE, generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_so_many_batches(space, data):
    for settings, steps in (
        ({}, 7),
        ({"epochs": 2}, 14),
        ({"batches": 3}, 3),
        ({"batches": 10}, 10),
        ({"batch_size": 200}, 1),
    ):
        _, moments = bound(space, data, **settings).train(pair(), {}, {}, RATE, generator())
        assert moments["decoder.0.weight/step"] == steps


def test_training_helps(space, data):
    training = bound(space, data, epochs=5)
    model = pair()
    before = training.measure(model)
    loss, _ = training.train(model, {}, {}, RATE, generator())
    after = training.measure(model)
    assert after["loss"] < 0.8 * before["loss"] and loss < before["loss"]
    assert set(after) == set(training.metrics) - {"train_loss"}


def test_a_loss_that_is_not_finite_is_nan(space, data):
    loss, _ = bound(space, data, optimiser="sgd").train(pair(), {}, {}, 1e30, generator())
    assert math.isnan(loss)


def test_a_last_batch_of_one_sample_is_left_out_where_it_has_no_statistics():
    data = Reconstruction(Digits(train_samples=33), unit=True)
    model = Pair(nn.Sequential(*Encoder(), nn.BatchNorm1d(6)), Decoder())
    _, moments = bound(PairSpace(model, data.example()), data).train(model, {}, {}, RATE, generator())
    assert moments["decoder.0.weight/step"] == 1
    _, moments = bound(PairSpace(pair(), data.example()), data).train(pair(), {}, {}, RATE, generator())
    assert moments["decoder.0.weight/step"] == 2


def test_a_diverged_pair_has_a_cross_entropy_too():
    data = Reconstruction(Digits(train_samples=50), "bce", unit=True)
    training = bound(PairSpace(pair(), data.example()), data, optimiser="sgd", epochs=3)
    model = pair()
    assert math.isnan(training.train(model, {}, {}, 1e30, generator())[0])
    assert math.isnan(training.measure(model)["loss"])
    linear = Pair(Encoder(), nn.Linear(6, 64))
    with pytest.raises(InputError, match="expected probabilities"):
        training.train(linear, {}, {}, 1e-3, generator())


def test_kept_is_the_share_that_is_alive(space, data):
    genome = space.sample(1, np.random.default_rng(1))[0]
    training, model = bound(space, data), pair()
    masks = space.masks(genome)
    share = space.parameters(genome[None])[0] / space.parameters(space.base[None])[0]
    assert training.measure(model, masks)["kept"] == pytest.approx(share)
    assert kept(model) == 1
    training.train(model, masks, {}, RATE, generator())
    assert kept(model) == pytest.approx(share)


def test_modes_and_gradients_are_left_behind(space, data):
    model = pair().eval()
    bound(space, data).train(model, {}, {}, RATE, generator())
    assert not any(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_corrupted_inputs_whole_targets():
    x = torch.rand(50, 40)
    assert torch.equal(Denoising(0.0).corrupt(x, generator()), x)
    zeroed = Denoising(0.25).corrupt(x, generator())
    assert abs((zeroed == 0).float().mean() - 0.25) < 0.04 and torch.equal(
        zeroed[zeroed != 0], x[zeroed != 0]
    )
    flipped = Denoising(0.25, "flip").corrupt(x, generator())
    assert (
        torch.equal(flipped[flipped != x], (1 - x)[flipped != x])
        and abs((flipped != x).float().mean() - 0.25) < 0.04
    )
    noise = Denoising(0.5, "gaussian").corrupt(x, generator()) - x
    assert abs(noise.std() - 0.5) < 0.03
    assert torch.equal(Denoising(1.0).corrupt((torch.arange(3), x), generator())[0], torch.arange(3))


def test_denoising_teaches_from_corrupted_inputs_only(data):
    class Spy(Denoising):
        def corrupt(self, inputs, generator):
            return torch.zeros_like(inputs)

    space = PairSpace(pair(), data.example())
    training = bound(space, data, corruption=Spy(0.5), epochs=20)
    model = pair()
    training.train(model, {}, {}, RATE, generator())
    mean = torch.cat([y for _, y in data.batches("train", 1000)]).mean(0).flatten()
    assert (
        model.eval()(torch.zeros(1, 64)) - mean
    ).abs().mean() < 0.05  # all that can be learned without inputs


def test_variational_loss_is_reconstruction_and_divergence(data):
    model = pair(kind=VariationalPair).eval()
    inputs, targets = next(iter(data.batches("train", 5)))
    mean, log_variance = model.moments(model.encoder(inputs))
    normal = torch.distributions.Normal(0, 1)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), normal
    ).sum(1)
    losses = Variational(2.0).losses(model, data, inputs, targets, generator())
    assert torch.allclose(losses, data.loss(model(inputs), targets) + 2.0 * divergence / 64)


def test_beta_draws_the_latent_to_a_standard_normal(data):
    space = PairSpace(pair(kind=VariationalPair), data.example(), granularity="both")
    model = pair(kind=VariationalPair)
    bound(space, data, corruption=Variational(10.0, Denoising(0.1)), epochs=40).train(
        model, {}, {}, 1e-2, generator()
    )
    mean, log_variance = model.moments(model.encoder(next(iter(data.batches("test", 100)))[0]))
    assert mean.abs().mean() < 0.1 and log_variance.abs().mean() < 0.1


def test_means_are_handed_on_where_encoders_meet_decoders(data):
    models = [pair(seed, VariationalPair).train() for seed in range(2)]
    training = bound(PairSpace(models[0], data.example(), granularity="weights"), data)
    batch = training.draw(generator())
    table = training.losses([m.encoder for m in models], [m.decoder for m in models], *batch)
    assert table[1, 1].item() == pytest.approx(assess(models[1], data, [batch])["loss"], rel=1e-5)


def test_it_travels(space, data):
    training = pickle.loads(pickle.dumps(bound(space, data, corruption=Denoising())))
    assert math.isfinite(training.train(pair(), {}, {}, RATE, generator())[0])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PairTraining(epochs=0), "epochs 0"),
        (lambda: PairTraining(batches=0), "batches 0"),
        (lambda: PairTraining(optimiser="adagrad"), "expected adam, adamw, sgd"),
        (lambda: PairTraining(betas=(0.5, 1.0)), "betas"),
        (lambda: PairTraining(fresh_optimiser=True, optimiser="sgd"), "fresh_optimiser with sgd"),
        (lambda: PairTraining(match_split="test"), "match_split 'test'"),
        (lambda: Denoising(1.5), "share 1.5"),
        (lambda: Denoising(kind="salt"), "zero, gaussian, flip"),
        (lambda: Variational(-1), "beta -1"),
        (lambda: PairTraining().bind(ChannelSpace(Perceptron((64, 8, 3)), torch.rand(2, 64))), "no data"),
    ],
)
def test_settings_out_of_range_are_named(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_a_plain_pair_is_no_variational_one(space, data):
    with pytest.raises(InputError, match="Variational of a Pair"):
        bound(space, data, corruption=Variational())


def test_published_clusters_are_learned():
    data = Reconstruction(BinaryClusters(clusters=4, samples=50, size=64), "bce")
    model = pair()
    training = bound(PairSpace(model, data.example()), data, epochs=150, optimiser="adam")
    training.train(model, {}, {}, 1e-2, generator())
    assert training.measure(model)["l1"] < 0.14  # the floor is .05, the average of all .3


def test_the_tail_average_is_the_mean_of_the_last_iterates() -> None:
    parameter = torch.zeros(2, requires_grad=True)
    tail = TailAverage([parameter], steps=10, share=0.4)
    for value in range(1, 11):
        with torch.no_grad():
            parameter.fill_(float(value))
        tail()
    tail.settle()
    assert parameter.tolist() == [8.5, 8.5]  # of 7, 8, 9, 10


def test_without_a_share_the_last_iterate_stays(space, data):
    parameter = torch.ones(2)
    tail = TailAverage([parameter], steps=3, share=0.0)
    for _ in range(3):
        tail()
    tail.settle()
    assert parameter.tolist() == [1.0, 1.0]


def test_one_cycle_rises_and_falls_to_zero():
    assert one_cycle(0.2) == pytest.approx(1.0)
    assert one_cycle(0.1) == pytest.approx(0.5) and one_cycle(0.6) == pytest.approx(0.5)
    assert one_cycle(1.0) == pytest.approx(0.0)


@pytest.mark.parametrize("settings", [{"fresh_optimiser": True}, {"optimiser": "sgd", "betas": (0.0, 0.0)}])
def test_the_last_batch_of_a_cycle_moves_nothing_and_the_first_a_little(space, data, settings):
    """One batch, the last of its cycle, leaves the weights; of a constant rate it does not."""
    for schedule, moves in (("one-cycle", False), ("constant", True)):
        training = PairTraining(batches=1, learning_rate=0.1, schedule=schedule, **settings)
        training.bind(space, data)
        model = copy.deepcopy(space.model)
        training.train(model, {}, {}, 0.1, torch.Generator().manual_seed(0))
        same = all(
            torch.equal(a, b) for a, b in zip(model.parameters(), space.model.parameters(), strict=True)
        )
        assert same is not moves
