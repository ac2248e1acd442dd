from functools import cache

import numpy as np
import pytest
import torch

from evaluators import Candidate, Digits, Distillation, FineTuning, Training, assess, fit, unpack_weights
from evaluators.testing import EvaluatorContract
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
