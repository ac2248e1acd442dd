from functools import cache

import numpy as np
import pytest
import torch

from evaluators import Candidate, Digits, Distillation, FineTuning, Training, assess, fit, unpack_weights
from evaluators.testing import EvaluatorContract
from evaluators.training import OwnTuning, TrainingSettings, Untuned
from operators.repair.batchnorm import recalibrate
from spaces import ChannelSpace
from spaces.errors import InputError
from spaces.models import ResidualNet

DIGITS = Digits()


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = ResidualNet((8, 16))
    list(fit(model, DIGITS, Training(epochs=5)))
    return ChannelSpace(model, DIGITS.example())


@cache
def residual_space():
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((4, 6)), DIGITS.example())


class TestFineTuningContract(EvaluatorContract):
    def evaluator(self):
        return FineTuning(Training(epochs=2, distillation=Distillation()))

    def space(self):
        return residual_space()

    def data(self):
        return Digits(train_samples=120)


def tune(space, evaluator, genome):
    evaluator.bind(space, DIGITS)
    model = space.build(genome)
    torch.manual_seed(0)
    return model, list(evaluator.evaluate(model, Candidate(0, genome)))


def test_before_and_after_are_what_the_test_split_says(trained):
    genome = trained.sample(20, np.random.default_rng(0))[3]
    model, reports = tune(trained, FineTuning(Training(epochs=3)), genome)
    last = reports[-1].metrics
    untuned = trained.build(genome)
    recalibrate(untuned, DIGITS.batches("calibration", 256))
    before, after = (assess(m, DIGITS, DIGITS.batches("test", 256)) for m in (untuned, model))
    assert {f"test_{name}_before": value for name, value in before.items()}.items() <= last.items()
    assert {f"test_{name}": value for name, value in after.items()}.items() <= last.items()
    assert after["loss"] < before["loss"], "tuning must help a pruned model"


def test_the_weights_are_the_tuned_models(trained):
    genome = trained.sample(1, np.random.default_rng(1))[0]
    model, reports = tune(trained, FineTuning(Training(epochs=1)), genome)
    assert [list(report.arrays) for report in reports] == [[]] * (len(reports) - 1) + [["weights"]]
    weights = reports[-1].arrays["weights"]
    assert weights.dtype == np.uint8 and weights.ndim == 1
    fresh = trained.build(genome)
    fresh.load_state_dict(unpack_weights(weights))
    images = DIGITS.example()
    assert torch.equal(fresh.eval()(*images), model.eval()(*images))


def test_steps_are_before_the_epochs_and_after(trained):
    _, reports = tune(trained, FineTuning(Training(epochs=2, keep_best=False)), trained.base)
    assert [report.step for report in reports] == [0, 1, 2, 3]
    assert "test_loss_before" in reports[0].metrics and "test_loss" not in reports[2].metrics


def test_the_choice_of_the_epoch_does_not_see_the_test_split(trained, monkeypatch):
    """With every test label wrong the tuned weights are the same."""
    genome = trained.sample(1, np.random.default_rng(2))[0]
    _, honest = tune(trained, FineTuning(Training(epochs=3, patience=1)), genome)
    spoiled = Digits()
    spoiled._targets = {**spoiled._targets, "test": (spoiled._targets["test"] + 1) % 10}
    evaluator = FineTuning(Training(epochs=3, patience=1))
    evaluator.bind(trained, spoiled)
    torch.manual_seed(0)
    *_, last = evaluator.evaluate(trained.build(genome), Candidate(0, genome))
    assert np.array_equal(last.arrays["weights"], honest[-1].arrays["weights"])
    assert last.metrics["test_error"] != honest[-1].metrics["test_error"]


def test_the_teacher_is_the_unpruned_model(trained):
    evaluator = FineTuning(Training(epochs=1, distillation=Distillation()))
    evaluator.bind(trained, DIGITS)
    teacher = evaluator.training.teacher()
    assert teacher is not None and teacher is not trained.model
    images = DIGITS.example()
    assert torch.equal(teacher.eval()(*images), trained.model.eval()(*images))


def test_it_needs_data_and_leaves_the_deciding_splits_alone(trained):
    with pytest.raises(InputError, match="no data"):
        FineTuning().bind(trained)
    with pytest.raises(InputError, match="recalibration 'test'"):
        FineTuning(recalibration="test")


# -- as it is, and tuned by a function of the user's ---------------------------------------------------------

SETTINGS = TrainingSettings(epochs=2, learning_rate=1e-2, batch_size=32)


def own(model, data, settings):
    """One step of plain descent a batch, with figures for people."""
    optimiser = torch.optim.SGD(model.train().parameters(), settings.learning_rate)
    for epoch in range(settings.epochs):
        for inputs, targets in data.batches(
            "train", settings.batch_size, torch.Generator().manual_seed(epoch)
        ):
            loss = data.loss(model(inputs), targets).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield {"my_loss": loss.item()}


def in_place(model, data, settings):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def wrapped(model, data, settings):
    in_place(model, data, settings)
    return torch.nn.DataParallel(model)


class TestUntunedContract(EvaluatorContract):
    def evaluator(self):
        return Untuned()

    def space(self):
        return residual_space()

    def data(self):
        return Digits(train_samples=120)


class TestOwnTuningContract(TestUntunedContract):
    def evaluator(self):
        return OwnTuning(own, SETTINGS)


def test_what_is_not_tuned_is_measured_with_the_repair_of_every_candidate(trained):
    genome = trained.sample(20, np.random.default_rng(0))[3]
    _, (report,) = tune(trained, Untuned(), genome)
    repaired = trained.build(genome)
    recalibrate(repaired, DIGITS.batches("calibration", 256))
    expected = assess(repaired, DIGITS, DIGITS.batches("test", 256))
    searched = assess(repaired, DIGITS, DIGITS.batches("search", 256))
    assert report.metrics == searched | {f"test_{name}": value for name, value in expected.items()}
    weights = unpack_weights(report.arrays["weights"])
    assert all(torch.equal(weights[name], tensor) for name, tensor in repaired.state_dict().items())


def test_a_function_of_the_users_tunes_in_its_own_way_and_is_measured_by_ours(trained):
    genome = trained.sample(20, np.random.default_rng(0))[3]
    with torch.no_grad():  # whatever the caller's mode
        _, reports = tune(trained, OwnTuning(own, SETTINGS), genome)
    assert [set(report.metrics) >= {"my_loss"} for report in reports] == [False, True, True, False]
    last = reports[-1]
    assert last.metrics["test_loss"] < last.metrics["test_loss_before"]
    again = trained.build(genome)
    again.load_state_dict(dict(unpack_weights(last.arrays["weights"])))
    measured = assess(again, DIGITS, DIGITS.batches("test", 256))
    assert last.metrics["test_error"] == measured["error"]


@pytest.mark.parametrize("function", [in_place, wrapped])
def test_the_model_may_come_back_as_it_was_given_or_wrapped(trained, function):
    _, reports = tune(trained, OwnTuning(function, SETTINGS), trained.base)
    weights = unpack_weights(reports[-1].arrays["weights"])
    assert weights.keys() == trained.model.state_dict().keys()
    assert all(not weights[name].any() for name, _ in trained.model.named_parameters())


def without_a_tensor(model, data, settings):
    return torch.nn.Sequential(torch.nn.Linear(2, 2))


def smaller(model, data, settings):
    return ResidualNet((4, 6))


def of_another_type(model, data, settings):
    return model.half()


def no_model(model, data, settings):
    return {"error": 0.0}


def with_more(model, data, settings):
    model.register_buffer("mine", torch.zeros(1))


def no_figures(model, data, settings):
    yield 3


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (without_a_tensor, "finish.tune: .*without_a_tensor returns a model without '.*'; expected"),
        (smaller, r"finish.tune: .*smaller returns '.*' as torch.float32 \(.*; expected"),
        (
            of_another_type,
            "finish.tune: .*of_another_type returns '.*' as torch.float16 .*expected torch.float32",
        ),
        (no_model, "finish.tune: .*no_model returns dict; expected the tuned model"),
        (with_more, "finish.tune: .*with_more returns a model with 'mine', which it was not given"),
        (no_figures, "finish.tune: .*no_figures yields int; expected figures by name"),
    ],
)
def test_what_is_not_the_same_compact_model_is_refused_by_name(trained, function, line):
    with pytest.raises(InputError, match=line):
        tune(trained, OwnTuning(function, SETTINGS), trained.base)
