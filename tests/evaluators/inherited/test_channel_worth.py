"""What the loss would be without a channel."""

from functools import cache

import numpy as np
import pytest
import torch

from evaluators import Candidate, Digits, InheritedTraining, assess, count
from evaluators.inherited.channel_worth import CriterionWorth, RemovalTrials
from operators.criteria import Magnitude, Taylor
from operators.mutation import RemovalPruning
from operators.repair.batchnorm import recalibrate
from spaces import ChannelSpace
from spaces.errors import InputError
from spaces.models import Perceptron, ResidualNet

DIGITS = Digits(train_samples=60)
CASES = 32


@cache
def residual(**limits):
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((3, 4)), DIGITS.example(), **limits)


@cache
def dense():
    torch.manual_seed(0)
    return ChannelSpace(Perceptron((64, 5, 4, 10)), DIGITS.example())


def some(space, seed=0):
    return space.repair((np.random.default_rng(seed).random((1, space.length)) < 0.7).astype(np.uint8))[0]


def loss(model):
    inputs, targets = next(DIGITS.batches("calibration", CASES))
    return assess(model, DIGITS, [(inputs, targets)])["loss"]


@pytest.mark.parametrize("space", [residual, dense])
def test_it_is_the_rise_of_the_child_that_lacks_the_channel(space):
    space = space()
    genome = some(space)
    model = space.build(genome)
    recalibrate(model, DIGITS.batches("calibration", CASES))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found, passes = RemovalTrials(CASES)(space, genome, model, DIGITS, 1e9)
    full = space.scatter(genome, model.state_dict())
    alone = np.flatnonzero(np.isfinite(found["removal"]))
    for locus in alone:
        child = genome.copy()
        child[locus] = 0
        lacking = space.build(child)
        lacking.load_state_dict(space.gather(child, full))
        recalibrate(lacking, [next(DIGITS.batches("calibration", CASES))])
        assert found["removal"][locus] == pytest.approx(loss(lacking) - loss(model), abs=1e-5)
        whole, less = (count(m, DIGITS.example())["macs"] for m in (model, lacking))
        assert found["cost"][locus] == pytest.approx(1 - less / whole)
    assert len(alone) > 4
    assert passes == len(alone) * CASES * (2 if space is residual() else 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_channels_that_are_gone_or_have_to_stay_are_not_tried():
    last = dense().repair(np.zeros((1, dense().length), dtype=np.uint8))[0]
    found, passes = RemovalTrials(CASES)(dense(), last, dense().build(last), DIGITS, 1e9)
    assert np.isnan(found["removal"]).all()
    assert passes == 0


def test_channels_that_go_together_have_their_part_and_an_estimate():
    space = residual(round_to=2)
    genome = space.repair(np.ones((1, space.length), dtype=np.uint8))[0]
    found, passes = RemovalTrials(CASES)(space, genome, space.build(genome), DIGITS, 1e9)
    whole = count(space.build(genome), DIGITS.example())["macs"]
    for part in space.slices.values():
        less = 1 if part.stop - part.start == 3 else 2  # 2 of 3 are a multiple of 2
        child = genome.copy()
        child[part.start : part.start + less] = 0
        cost = 1 - count(space.build(child), DIGITS.example())["macs"] / whole
        np.testing.assert_allclose(found["cost"][part], cost / less)
        assert np.isfinite(found["removal"][part]).all()
    assert passes == 3 * CASES
    (pruned,) = RemovalPruning(0.4)(space, genome[None], found, np.random.default_rng(0))
    assert pruned.sum() < genome.sum() and (space.repair(pruned[None]) == pruned).all()


def test_taylor_stands_in_where_trying_is_too_dear():
    space = dense()
    genome = space.base.copy()
    model = space.build(genome)
    found, passes = RemovalTrials(CASES, share=0.1)(space, genome, model, DIGITS, 100.0)
    assert passes == 3 * CASES
    scores = Taylor().score(model, [next(DIGITS.batches("calibration", CASES))], space.plan, DIGITS.loss)
    np.testing.assert_allclose(
        found["removal"], np.concatenate([scores[name] for name in space.slices]), rtol=1e-5
    )


def test_taylor_of_a_pruned_model_is_that_of_the_model_itself():
    """The silent channels of the full model change nothing."""
    space = residual()
    genome = some(space, 1)
    model = space.build(genome)
    found, _ = RemovalTrials(CASES, share=0.0)(space, genome, model, DIGITS, 1.0)
    kept = np.isfinite(found["removal"])
    assert (genome[kept] == 1).all()
    own = ChannelSpace(model, DIGITS.example())
    scores = Taylor().score(model, [next(DIGITS.batches("calibration", CASES))], own.plan, DIGITS.loss)
    expected = np.full(space.length, np.nan)
    expected[genome == 1] = np.concatenate([scores[name] for name in own.slices])
    np.testing.assert_allclose(found["removal"][kept], expected[kept], rtol=1e-4, atol=1e-7)


def test_a_criterion_is_that_of_the_compact_model_over_its_groups_mean():
    space = residual()
    genome = some(space, 1)
    model = space.build(genome)
    found, passes = CriterionWorth()(space, genome, model, DIGITS, 1.0)
    assert passes == 0
    own = ChannelSpace(model, DIGITS.example())
    scores = Magnitude().score(model, [], own.plan, DIGITS.loss)
    expected = np.full(space.length, np.nan)
    expected[genome == 1] = np.concatenate([scores[name] / scores[name].mean() for name in own.slices])
    kept = np.isfinite(found["removal"])
    np.testing.assert_allclose(found["removal"][kept], expected[kept], rtol=1e-5)
    np.testing.assert_array_equal(np.isfinite(found["cost"]), kept)
    assert CriterionWorth(Taylor())(space, genome, model, DIGITS, 1.0)[1] == 3 * DIGITS.size("calibration")


def test_a_candidate_tells_what_its_channels_are_worth_and_what_it_took(tmp_path):
    evaluator = InheritedTraining(4, 16, worth=RemovalTrials(CASES, share=100.0), recalibration=None)
    evaluator.bind(dense(), DIGITS)
    evaluator.state = tmp_path
    candidate = Candidate(0, some(dense()), seed=1)
    model = dense().build(candidate.genome)
    (report,) = evaluator.evaluate(model, candidate)
    found, passes = RemovalTrials(CASES)(dense(), candidate.genome, model, DIGITS, 1e9)
    np.testing.assert_allclose(report.arrays["removal"], found["removal"])
    macs = count(model, DIGITS.example())["macs"]
    assert report.metrics["training_macs"] == macs * (3 * 4 * 16 + DIGITS.size("search") + passes)
    (again,) = evaluator.evaluate(dense().build(candidate.genome), candidate)
    assert again.metrics == report.metrics
    np.testing.assert_array_equal(again.arrays["removal"], report.arrays["removal"])


def test_smaller_models_take_more_steps(tmp_path):
    evaluator = InheritedTraining(8, 16, stretch=0.5)
    evaluator.bind(dense(), DIGITS)
    evaluator.state = tmp_path
    small = some(dense())
    for id, genome in enumerate((dense().base, small)):
        (report,) = evaluator.evaluate(dense().build(genome), Candidate(id, genome, seed=id))
        share = (
            count(dense().build(genome), DIGITS.example())["macs"]
            / count(dense().model, DIGITS.example())["macs"]
        )
        assert report.metrics["lineage_steps"] == round(8 * share**-0.5)
    assert report.metrics["lineage_steps"] > 8


def test_who_has_no_parents_goes_on_from_a_base_model_that_had_to_be_trained(tmp_path):
    evaluator = InheritedTraining(2, 16, first_steps=20)
    evaluator.bind(dense(), DIGITS)
    evaluator.state = tmp_path
    base = dense().base
    (first,) = evaluator.evaluate(dense().build(base), Candidate(-1, base, seed=9))
    (copy,) = evaluator.evaluate(dense().build(base), Candidate(0, base, seed=1))
    (drawn,) = evaluator.evaluate(dense().build(some(dense())), Candidate(1, some(dense()), seed=2))
    (child,) = evaluator.evaluate(dense().build(some(dense())), Candidate(2, some(dense()), (0,), seed=3))
    assert [r.metrics["lineage_steps"] for r in (first, copy, drawn, child)] == [20, 20, 22, 22]
    assert copy.metrics["loss"] == first.metrics["loss"]
    assert copy.metrics["training_macs"] < first.metrics["training_macs"]
    evaluator.state = None
    (alone,) = evaluator.evaluate(dense().build(base), Candidate(0, base, seed=1))
    assert alone.metrics["lineage_steps"] == 20


def test_the_base_model_may_have_a_learning_rate_of_its_own(tmp_path):
    losses = {}
    for name, rate, first in (("one", 1e-3, None), ("own", 1e-3, 1e-2), ("high", 1e-2, None)):
        evaluator = InheritedTraining(4, 16, rate, first_steps=20, first_learning_rate=first)
        evaluator.bind(dense(), DIGITS)
        evaluator.state = tmp_path / name
        base, child = dense().base, some(dense())
        found = [
            next(iter(evaluator.evaluate(dense().build(genome), candidate))).metrics["train_loss"]
            for genome, candidate in (
                (base, Candidate(-1, base, seed=9)),
                (child, Candidate(1, child, (-1,), seed=3)),
            )
        ]
        losses[name] = found
    assert losses["own"][0] == losses["high"][0] < losses["one"][0]
    assert losses["own"][1] != losses["high"][1]
    with pytest.raises(InputError, match="learning_rate"):
        InheritedTraining(first_learning_rate=-1.0)


def test_bad_settings_are_refused_in_one_line():
    with pytest.raises(InputError, match="cases 1; expected at least 2"):
        RemovalTrials(cases=1)
    with pytest.raises(InputError, match="share -1; expected at least 0"):
        RemovalTrials(share=-1)
    with pytest.raises(InputError, match="stretch -1"):
        InheritedTraining(stretch=-1)
    with pytest.raises(InputError, match="mixtures 8, which have no labels; expected a distillation"):
        InheritedTraining(mixtures=8)
    with pytest.raises(InputError, match="first_steps -1"):
        InheritedTraining(first_steps=-1)
