"""The published experiment again: steps, events and selection against plain references."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.coevolution import events, faithful
from benchmarks.coevolution.clusters import clusters
from benchmarks.coevolution.nets import PARAMETERS, Layers, Trainer, alive, initial, l1, outputs


def reference(net):
    """The same autoencoder as modules."""
    layers, modules = Layers(net), []
    for i, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data, linear.bias.data = weight[0].T.clone(), bias[0].clone()
        modules += [linear, nn.ReLU() if i < 3 else nn.Sigmoid()]
    return nn.Sequential(*modules)


def flattened(model, grad=False):
    rows = [(p.grad if grad else p.data) for p in model.parameters()]
    return torch.cat([t.T.flatten() if t.ndim == 2 else t for t in rows])


def rows_of(data, nets, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, len(data), 5 * nets))


def test_the_written_out_gradient_is_autograds():
    data, nets = clusters(0).train, initial(3, torch.Generator().manual_seed(1))
    trainer, rows = Trainer(nets), rows_of(data, 3)
    trainer.backward(data, rows)
    for i in range(3):
        model, batch = reference(nets[i : i + 1]), data[rows[5 * i : 5 * i + 5]]
        nn.functional.l1_loss(model(batch), batch).backward()
        expected = flattened(model, grad=True)
        assert (expected != 0).float().mean() > 0.4
        torch.testing.assert_close(trainer.gradient.flat[i], expected, atol=1e-9, rtol=1e-4)


def test_the_closed_form_is_the_first_step_of_adam():
    data, nets = clusters(0).train, initial(2, torch.Generator().manual_seed(1))
    models, rates = [reference(nets[i : i + 1]) for i in range(2)], [1e-5, 3e-4]
    trainer, start = Trainer(nets), nets.clone()
    for step in range(3):
        rows = rows_of(data, 2, step)
        trainer.backward(data, rows)
        trainer.fresh(rates)
        for i, model in enumerate(models):
            adam = torch.optim.Adam(
                model.parameters(), rates[i], (0.5, 0.999)
            )  # a new one for every batch, as published
            batch = data[rows[5 * i : 5 * i + 5]]
            adam.zero_grad()
            nn.functional.l1_loss(model(batch), batch).backward()
            adam.step()
    for i, model in enumerate(models):
        moved = (nets[i] - start[i]).abs().max()
        assert 2 * rates[i] < moved < 4 * rates[i]
        difference = (nets[i] - flattened(model)).abs()
        assert difference.quantile(0.999) < 0.01 * rates[i]  # a gradient of 1e-9 may differ in sign


def test_initial_weights_are_those_of_linear_layers():
    layers, linear = Layers(initial(1, torch.Generator().manual_seed(0))), nn.Linear(1000, 30)
    assert layers.weights[0].abs().max() <= 1000**-0.5
    assert float(layers.weights[0].std()) == pytest.approx(float(linear.weight.detach().std()), rel=0.02)
    assert layers.flat.shape == (1, PARAMETERS) and PARAMETERS == 30340 + 31330


def test_clusters_are_centroids_behind_noise():
    data = clusters(3)
    assert float(data.centroids.mean()) == pytest.approx(0.75, abs=0.02)
    for split in (data.train, data.test):
        noise = (split != data.centroids.repeat(len(split) // 10, 1)).float()
        assert (
            float(noise.mean()) == pytest.approx(0.05, abs=0.005) and noise.unique(dim=0).shape == noise.shape
        )
    assert not torch.equal(clusters(4).centroids, data.centroids)


def test_schedules():
    assert events.exponential(0.5, 0, 399, 3) == 0 and events.exponential(0.5, 399, 399, 3) == pytest.approx(
        0.5 * (1 - np.exp(-2))
    )
    assert events.population(0.1, 399, 399, 3) == pytest.approx(0.1 / 3) and events.population(
        0.1, 200, 400, 1
    ) == pytest.approx(0.05)
    assert [events.final_quarter(0.5, t, 400, 3) for t in (0, 299, 300, 400)] == [0, 0, 0.5, 0.5]


def test_random_zeroes_a_tenth_of_every_tensor():
    net = initial(1, torch.Generator().manual_seed(0))
    events.random(net, *(torch.empty(0),) * 2, np.random.default_rng(0))
    assert [int((t == 0).sum()) for t in Layers(net).tensors()] == [3000, 3, 30, 1, 30, 3, 3000, 100]


def test_variance_drops_the_liveliest_unit_whole_and_keeps_the_quietest():
    data, net = clusters(0), initial(1, torch.Generator().manual_seed(0))
    lively = [out[0].std(0) for out in outputs(net, data.train)]
    events.variance(net, data.train, data.test, np.random.default_rng(0))
    for weight, bias, s in zip(Layers(net).weights, Layers(net).biases, lively, strict=True):
        assert (weight[0][:, s.argmax()] == 0).all() and bias[0][s.argmax()] == 0
        assert (weight[0][:, s.argmin()] != 0).all() and bias[0][s.argmin()] != 0
        share = (weight[0] == 0).float().mean(0)
        assert np.corrcoef(share, s)[0, 1] > 0.5


def test_revived_units_speak_again_and_the_others_stay_as_they_are():
    data, net = clusters(0), initial(1, torch.Generator().manual_seed(0))
    layers = Layers(net)
    layers.weights[1][0, :, 3] = layers.biases[1][0, 3] = -1.0
    before, silent = net.clone(), [(out <= 0).all(1)[0] for out in outputs(net, data.train)[:3]]
    assert silent[1][3]
    for seed in range(10):  # a draw may be silent, too
        events.revive(net, data.train, data.test, np.random.default_rng(seed))
    assert (
        alive(net, data.train).sum() > alive(before, data.train).sum()
        and outputs(net, data.train)[1][0, :, 3].max() > 0
    )
    for i, gone in enumerate(silent):
        assert torch.equal(layers.weights[i][0][:, ~gone], Layers(before).weights[i][0][:, ~gone]) or i > 0
    assert torch.equal(layers.weights[3], Layers(before).weights[3])


def test_conjunctive_zeroes_what_is_quiet_in_every_example():
    data, net = clusters(0), initial(1, torch.Generator().manual_seed(0))
    layers = Layers(net)
    layers.weights[0][0, :, 4] = layers.weights[0][0, :, 9] = -1.0  # never active
    before = net.clone()
    events.conjunctive(net, data.train, data.test, np.random.default_rng(0))
    gone = (layers.weights[0][0] == 0).all(0)
    assert gone[4] and gone[9] and gone.sum() < 20
    quiet = outputs(before, data.test)[0][0]
    assert (quiet[:, gone] < 0.1 * quiet.amax(1, keepdim=True)).float().mean() > 0.9
    assert ((net == 0) | (net == before)).all() and int((layers.biases[3] == 0).sum()) <= 5


def test_alive_units_are_counted():
    net = initial(2, torch.Generator().manual_seed(0))
    layers = Layers(net)
    layers.weights[1][0][:, :7], layers.biases[1][0, :7] = 0.0, -1.0
    data = clusters(0).train
    assert alive(net, data)[0, 1] == (outputs(net, data)[1][0, :, 7:] > 0).any(0).sum() <= 3
    assert alive(net, data).shape == (2, 3) and alive(net, data)[1, 1] > 3


def test_pairs_are_judged_by_their_best_partner_and_never_mixed():
    trial = faithful.Trial(0)
    grid = trial.initial(3)
    losses = faithful.pair_losses(grid, trial.data.train[:5])
    for i in range(3):
        mixed = grid[i].clone()
        mixed[30340:] = grid[(i + 1) % 3][30340:]
        assert float(losses[i, (i + 1) % 3]) == pytest.approx(
            float(l1(mixed[None], trial.data.train[:5])), rel=1e-5
        )
    grid[2] = 0.0
    Layers(grid[2:3]).biases[3][:] = torch.where(
        trial.data.train.mean(0) > 0.5, 8.0, -8.0
    )  # far better than a fresh net
    picked = [faithful._select(trial, grid, [0, 1, 2]) for _ in range(300)]
    # its decoder serves every encoder, so all do as well as it does: a tournament between equals takes the
    # second
    assert min(np.bincount(picked, minlength=3)) > 60


def test_a_trial_does_not_depend_on_its_companions():
    arm = faithful.Arm(events.random, lambda *_: 0.5)
    alone = faithful.coevolve(arm, [7], epochs=1, cells=3)[0]
    together = faithful.coevolve(arm, [3, 7], epochs=1, cells=3)[1]
    assert (
        together["train"] == pytest.approx(alone["train"], abs=1e-5) and together["rates"] == alone["rates"]
    )
    assert together["lineage_epochs"] == alone["lineage_epochs"] and together["events"] == alone["events"]


def test_training_lowers_the_loss_and_lineages_are_trained_more_than_once_an_epoch():
    start = float(l1(faithful.Trial(0).initial(10), faithful.Trial(0).data.train).mean())
    found = faithful.coevolve(faithful.Arm(), [0], epochs=3, cells=4)[0]
    assert found["train"] < start - 0.01 and found["events"] == 0 and found["zeros"] == 0
    assert max(found["lineage_epochs"]) > 3


def test_pairs_move_on_to_their_neighbours(monkeypatch):
    drawn = faithful.Trial.initial

    def marked(trial, nets):
        flat = drawn(trial, nets)
        Layers(flat).biases[3][:, 0] = (
            torch.arange(nets) * 10.0
        )  # steps are far too small to blur whose descendant a net is
        return flat

    monkeypatch.setattr(faithful.Trial, "initial", marked)
    seen = []
    monkeypatch.setattr(
        faithful.Record,
        "look",
        lambda self, epoch, nets, data: seen.append(Layers(nets).biases[3][:, 0] / 10),
    )
    monkeypatch.setattr(faithful, "EVERY", 1)
    found = faithful.coevolve(faithful.Arm(), [1], epochs=3, cells=6)[0]
    origins = [nets.round().int().tolist() for nets in seen]
    assert origins[0] != list(range(6)) and len(set(origins[-1])) < 6
    assert (
        max(found["lineage_epochs"]) > 3
    )  # a pair taken over by a cell that is visited later is trained again


@pytest.mark.parametrize("setting", ["canonical", "ring"])
def test_pruned_weights_grow_back_unless_masks_persist(setting):
    def run(persistent):
        arm = faithful.Arm(events.random, lambda *_: 1.0, persistent=persistent)
        return (
            faithful.canonical(arm, [0], epochs=4)[0]
            if setting == "canonical"
            else faithful.coevolve(arm, [0], 4, 1, 0)[0]
        )

    assert run(True)["zeros"] == pytest.approx(1 - 0.9**4, abs=0.01)
    found = run(False)
    assert found["events"] == 4 and found["zeros_of_last_event"] == pytest.approx(found["zeros"])
    assert (
        0.09 < found["zeros"] < 0.2 < 1 - 0.9**4
    )  # what earlier events took has grown back where a gradient reaches it


def test_shards_are_recorded_once(tmp_path):
    faithful.record(tmp_path, "canonical", "none", [0], epochs=1)
    file = faithful.shard_file(tmp_path, "canonical", "none", 0)
    first = file.read_text()
    faithful.record(tmp_path, "canonical", "none", [0, 1], epochs=1)
    assert file.read_text() == first and json.loads(first)["seed"] == 0
    assert faithful.shard_file(tmp_path, "canonical", "none", 1).exists() and not list(
        tmp_path.glob("*.part")
    )
