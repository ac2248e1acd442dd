import copy
import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Arrays, Digits, Distillation, Training, assess, fit
from evaluators.testing import EvaluatorContract
from evaluators.training.optimisation import make_optimiser, parameter_groups
from spaces import ChannelSpace
from spaces.choices import ChoiceSpace, Integer
from spaces.errors import InputError
from spaces.models import Perceptron, ResidualNet

DIGITS = Digits()


def perceptron(seed=0):
    torch.manual_seed(seed)
    return Perceptron((64, 16, 10))


@cache
def residual_space():
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((4, 6)), DIGITS.example())


@cache
def few():
    return Digits(train_samples=120)


class TestTrainingContract(EvaluatorContract):
    def evaluator(self):
        return Training(epochs=2, distillation=Distillation())

    def space(self):
        return residual_space()

    def data(self):
        return few()


@pytest.mark.parametrize("settings", [{}, {"optimiser": "sgd", "learning_rate": 0.1, "weight_decay": 5e-4}])
def test_digits_are_learned(settings):
    torch.manual_seed(0)
    model = ResidualNet((16, 32))
    *_, last = fit(model, DIGITS, Training(epochs=6, batch_size=32, **settings))
    assert last.metrics["error"] < 0.05
    assert assess(model, DIGITS, DIGITS.batches("test", 256))["error"] < 0.08


def test_the_last_report_tells_of_the_weights_that_stay():
    for keep_best in (True, False):
        model = perceptron()
        reports = list(
            fit(
                model,
                few(),
                Training(epochs=12, learning_rate=0.05, schedule="constant", keep_best=keep_best),
            )
        )
        measured = assess(model, DIGITS, DIGITS.batches("search", 256))
        assert reports[-1].metrics["loss"] == pytest.approx(measured["loss"], rel=1e-6)
        losses = [report.metrics["loss"] for report in reports[:12]]
        assert losses.index(min(losses)) < 11, "the example must overfit"
        assert reports[-1].metrics["loss"] == (min(losses) if keep_best else losses[-1])
        assert [report.step for report in reports] == list(range(1, 14 if keep_best else 13))


def test_the_test_split_decides_nothing(monkeypatch):
    read = set()
    original = Digits.batches
    monkeypatch.setattr(
        Digits, "batches", lambda self, split, *rest: read.add(split) or original(self, split, *rest)
    )
    list(fit(perceptron(), DIGITS, Training(epochs=2, patience=1)))
    assert read == {"train", "search"}
    with pytest.raises(InputError, match="monitor 'test'"):
        Training(monitor="test")


def test_patience_ends_training_early():
    training = Training(epochs=40, learning_rate=0.05, schedule="constant", patience=3, keep_best=False)
    losses = [report.metrics["loss"] for report in fit(perceptron(), few(), training)]
    assert len(losses) < 40
    assert min(losses) == losses[-4] and losses[-4] < min(losses[:-4])


def test_the_seed_alone_decides():
    def weights(seed, drawn):
        model = perceptron()
        torch.manual_seed(seed)
        torch.rand(drawn)
        list(fit(model, few(), Training(epochs=2)))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(1, 0), weights(1, 5)), "what was drawn before changed the order of the samples"
    assert not torch.equal(weights(1, 0), weights(2, 0))


def test_a_full_batch_step_is_gradient_descent():
    """One epoch in one batch, by hand."""
    data = Arrays(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2)
    model = nn.Linear(3, 2)
    by_hand = copy.deepcopy(model)
    optimiser = make_optimiser("sgd", by_hand, 0.1, 0.01)
    inputs, targets = next(data.batches("train", 100))
    nn.functional.cross_entropy(by_hand(inputs), targets).backward()
    optimiser.step()
    list(
        fit(
            model,
            data,
            Training(epochs=1, optimiser="sgd", learning_rate=0.1, schedule="constant", batch_size=100),
        )
    )
    assert torch.allclose(model.weight, by_hand.weight, atol=1e-6)


def test_frozen_parameters_and_their_statistics_stay():
    torch.manual_seed(0)
    model = ResidualNet((4, 6))
    for parameter in model.stem.parameters():
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(fit(model, few(), Training(epochs=1)))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("stem.") for name in changed)
    assert {
        "head.weight",
        "head.bias",
        "blocks.0.conv1.weight",
        "blocks.0.bn1.weight",
        "blocks.0.bn1.running_mean",
    } <= changed


def test_norms_and_biases_do_not_decay():
    model = ResidualNet((4, 6))
    decayed, undecayed = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {n for n, m in model.named_parameters() if m.ndim > 1}
    assert len(decayed["params"]) + len(undecayed["params"]) == len(names)


def test_a_lone_last_sample_does_not_stop_batch_normalisation():
    data = Arrays(
        np.random.default_rng(0).normal(size=(66, 3)), np.arange(66) % 2
    )  # 33 to train: 4 batches of 8, and one sample
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    reports = list(fit(model, data, Training(epochs=3, batch_size=8, keep_best=False)))
    assert len(reports) == 3
    assert model[1].num_batches_tracked == 12


def test_a_lone_last_sample_is_learned_from_where_nothing_forbids_it():
    data = Arrays(np.random.default_rng(0).normal(size=(66, 3)), np.arange(66) % 2)
    seen = []
    model = nn.Linear(3, 2)
    model.register_forward_hook(
        lambda module, inputs, output: seen.append(len(output)) if torch.is_grad_enabled() else None
    )
    list(fit(model, data, Training(epochs=1, batch_size=8)))
    assert seen == [8, 8, 8, 8, 1]


def test_fewer_samples_than_a_batch_are_a_batch():
    model = perceptron()
    before = model.layers[0].weight.clone()
    list(fit(model, Digits(train_samples=5), Training(epochs=1, batch_size=64, keep_best=False)))
    assert not torch.equal(model.layers[0].weight, before)


def test_one_cycle_rises_and_falls_over_the_whole_training(monkeypatch):
    rates = []
    original = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or original(self)
    )
    list(fit(perceptron(), few(), Training(epochs=5, batch_size=30, learning_rate=0.01)))
    assert len(rates) == 20
    assert max(rates) == pytest.approx(0.01, rel=0.05) and 3 <= rates.index(max(rates)) <= 8
    assert rates[-1] < 1e-5 < rates[0] < 0.001


def test_clipping_bounds_the_step():
    def moved(clip):
        model = perceptron()
        before = model.layers[0].weight.detach().clone()
        settings = {
            "optimiser": "sgd",
            "learning_rate": 1.0,
            "weight_decay": 0.0,
            "schedule": "constant",
            "keep_best": False,
        }
        list(fit(model, Digits(train_samples=8), Training(epochs=1, clip=clip, **settings)))
        return (model.layers[0].weight - before).norm().item()

    assert 0 < moved(1e-3) <= 1e-3 * 1.91  # Nesterov momentum: the first step is 1.9 gradients
    assert moved(None) > 0.01


def test_divergence_is_reported_and_ends_training():
    reports = list(
        fit(
            perceptron(), few(), Training(epochs=20, optimiser="sgd", learning_rate=1e12, schedule="constant")
        )
    )
    assert len(reports) < 20
    assert not math.isfinite(reports[-1].metrics["train_loss"])


def test_the_teacher_teaches_and_stays_as_it_is():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    pupil = Perceptron((64, 64, 10))
    list(fit(teacher, DIGITS, Training(epochs=6)))
    teacher.train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    images, labels = next(DIGITS.batches("train", 1000))
    wrong = Arrays(images, (labels + 1) % 10)
    list(
        fit(
            pupil,
            wrong,
            Training(
                epochs=10, learning_rate=0.01, keep_best=False, distillation=Distillation(2, weight=1.0)
            ),
            teacher,
        )
    )
    assert assess(pupil, DIGITS, DIGITS.batches("calibration", 256))["error"] < 0.2, (
        "it learned the labels, not the teacher"
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert teacher.training and all(p.grad is None or p.requires_grad for p in teacher.parameters())


def test_distillation_needs_a_teacher():
    with pytest.raises(InputError, match="without a teacher"):
        next(fit(perceptron(), few(), Training(distillation=Distillation())))


def test_a_teacher_without_distillation_changes_nothing():
    results = []
    for teacher in (None, perceptron(5)):
        model = perceptron()
        torch.manual_seed(3)
        *_, last = fit(model, few(), Training(epochs=2), teacher)
        results.append(last.metrics)
    assert results[0] == results[1]


def test_nothing_to_train_is_refused():
    model = perceptron().requires_grad_(False)
    with pytest.raises(InputError, match="no parameter of Perceptron requires a gradient"):
        next(fit(model, few(), Training()))


class Depths(ChoiceSpace):
    depth = Integer(1, 3)

    def build_from(self, depth):
        return Perceptron((64, *[5] * depth, 10))


def test_distillation_from_a_space_without_a_base_is_refused():
    with pytest.raises(InputError, match="Depths has no base model"):
        Training(distillation=Distillation()).bind(Depths(), DIGITS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("optimiser", "adam"),
        ("schedule", "step"),
        ("clip", 0.0),
        ("patience", 0),
        ("monitor", "tset"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting, value):
    with pytest.raises(InputError, match=f"training: {setting} .*expected"):
        Training(**{setting: value})
