"""What a teacher says, and who learns from it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from evaluators import Arrays, Candidate, Digits, Distillation, InheritedTraining
from evaluators.inherited.steps import BriefTraining
from evaluators.inherited.teaching import Teacher
from evaluators.training.settings import TrainingSettings
from spaces import ChannelSpace
from spaces.models import Perceptron

DIGITS = Digits(train_samples=60)


@cache
def dense():
    torch.manual_seed(0)
    return ChannelSpace(Perceptron((64, 5, 4, 10)), DIGITS.example())


def some(space):
    return space.repair((np.random.default_rng(0).random((1, space.length)) < 0.7).astype(np.uint8))[0]


def test_children_learn_from_the_base_model_what_it_says_of_the_same_samples(tmp_path):
    evaluator = InheritedTraining(
        3, 16, weight_decay=0.0, first_steps=10, distillation=Distillation(1.0, 1.0), recalibration=None
    )
    evaluator.bind(dense(), DIGITS)
    evaluator.state = tmp_path
    base = dense().base
    model = dense().build(base)
    list(evaluator.evaluate(model, Candidate(-1, base, seed=9)))
    teacher = evaluator._taught_by(evaluator._parentage, torch.device("cpu"))
    for batch, taught, _ in teacher.batches(16, torch.Generator().manual_seed(3)):
        with torch.no_grad():
            torch.testing.assert_close(model(batch[0]), taught, rtol=1e-4, atol=1e-5)
    child = some(dense())
    reports = {}
    for name, distillation in (("taught", Distillation(1.0, 1.0)), ("alone", None)):
        evaluator.settings = replace(evaluator.settings, distillation=distillation)
        pupil = dense().build(child)
        (reports[name],) = evaluator.evaluate(
            pupil, Candidate(1 if distillation else 2, child, (-1,), seed=1)
        )
    assert reports["taught"].metrics["loss"] != reports["alone"].metrics["loss"]


class Anew(Digits):
    """Makes its batches itself."""

    def batches(self, split, size, generator=None):
        yield from super().batches(split, size, generator)


def test_a_teacher_is_asked_once_where_samples_stay_and_else_every_time():
    model = dense().model
    kept, asked = Teacher(model, DIGITS), Teacher(model, Anew(train_samples=60))
    assert kept.kept
    assert not asked.kept
    pairs = zip(*(t.batches(16, torch.Generator().manual_seed(1)) for t in (kept, asked)), strict=True)
    for ((one, targets), said, _), ((other, others), again, _) in pairs:
        assert torch.equal(one, other)
        assert torch.equal(targets, others)
        torch.testing.assert_close(said, again)


def test_mixtures_lie_between_two_samples_and_are_labelled_by_the_teacher():
    model = dense().model
    teacher = Teacher(model, DIGITS, mixtures=40)
    inputs, _ = next(DIGITS.batches("train", 60))
    seen = 0
    for (given, _), said, labelled in teacher.batches(16, torch.Generator().manual_seed(1)):
        seen += len(given)
        own = (given.flatten(1)[:, None] == inputs.flatten(1)[None]).all(2).any(1)
        assert torch.equal(labelled, own)
        with torch.no_grad():
            torch.testing.assert_close(model(given), said)
        assert (given >= inputs.amin(0) - 1e-6).all()
        assert (given <= inputs.amax(0) + 1e-6).all()
    assert seen == 60 + 40
    first, again, other = (
        torch.cat([said for _, said, _ in teacher.batches(16, torch.Generator().manual_seed(seed))])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mixtures_of_tokens_begin_with_the_one_and_end_with_the_other():
    tokens = np.stack([np.full(10, 3), np.full(10, 7)] * 10)
    data = Arrays(tokens, np.arange(20) % 2)
    teacher = Teacher(torch.nn.Embedding(8, 2), data, mixtures=50)
    for (given, _), _, _ in teacher.batches(16, torch.Generator()):
        assert ((given == 3) | (given == 7)).all()
        assert ((given.diff(dim=1) != 0).sum(1) <= 1).all()


def test_children_learn_from_mixtures(tmp_path):
    losses = {}
    for mixtures in (0, 200):
        evaluator = InheritedTraining(
            30, 16, 1e-2, distillation=Distillation(1.0, 1.0), mixtures=mixtures, recalibration=None
        )
        evaluator.bind(dense(), DIGITS)
        evaluator.state = tmp_path / str(mixtures)
        (report,) = evaluator.evaluate(dense().build(some(dense())), Candidate(0, some(dense()), seed=1))
        losses[mixtures] = report.metrics["loss"]
    assert losses[0] != losses[200]


def test_what_passes_in_training_is_counted_mixtures_too(tmp_path):
    evaluator = InheritedTraining(7, 16, distillation=Distillation(1.0, 0.3), mixtures=40, recalibration=None)
    evaluator.bind(dense(), DIGITS)
    evaluator.state = tmp_path
    (report,) = evaluator.evaluate(dense().build(some(dense())), Candidate(0, some(dense()), seed=1))
    macs = float(evaluator._planned(some(dense())[None])["macs"][0])
    assert report.metrics["training_macs"] == macs * (3 * 7 * 16 + DIGITS.size("search"))


@pytest.mark.parametrize(
    ("size", "mixtures", "passed"), [(16, 0, 5 * 16), (16, 40, 5 * 16), (64, 0, 5 * 60), (64, 40, 5 * 64)]
)
def test_steps_are_of_full_batches_where_there_are_any(size, mixtures, passed):
    space = dense()
    teacher = Teacher(space.model, DIGITS, mixtures=mixtures) if mixtures else None
    training = BriefTraining(TrainingSettings(batch_size=size, distillation=Distillation(1.0, 0.3)))
    assert training(space.build(some(space)), DIGITS, 0, 5, teacher)[1] == passed  # of 60 samples
