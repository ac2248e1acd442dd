"""Settings of a lineage's training that its candidates' genomes hold, and where their weights come from."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Candidate, Digits, Distillation, InheritedTraining, count
from evaluators.inherited.files import InheritedFiles
from evaluators.tic import TIC
from search import Objective, Problem
from search.strategies.ladder import PROMOTED, Ladder
from spaces import ChannelSpace, JointSpace
from spaces.choices import Categorical, Choice, ChoiceSpace, Float, HyperParameters, Integer
from spaces.errors import InputError
from spaces.models import Perceptron, ResidualNet

DIGITS = Digits(train_samples=200)


@cache
def mask():
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((4, 6)), DIGITS.example())


class Rates(HyperParameters):
    learning_rate = Choice([1e-3, 1e-2])
    batch_size = Choice([16, 32])
    default = {"learning_rate": 1e-3, "batch_size": 16}  # noqa: RUF012


class Origins(HyperParameters):
    origin = Categorical(["inherited", "original", "fresh"])
    default = {"origin": "inherited"}  # noqa: RUF012


def made(space, state, **settings):
    evaluator = InheritedTraining(**({"steps": 3, "batch_size": 16} | settings))
    evaluator.bind(space, DIGITS)
    evaluator.state = state
    return evaluator


def joint(kind):
    return JointSpace({"net": mask(), "tuning": kind()})


def genome(space, share=1.0, **tuning):
    rng = np.random.default_rng(0)
    kept = mask().repair((rng.random((1, mask().length)) < share).astype(np.uint8))[0]
    return space.join(net=kept, tuning=space.spaces["tuning"].encode(**tuning))


def run(evaluator, candidate):
    model = evaluator.space.build(candidate.genome)
    (report,) = evaluator.evaluate(model, candidate)
    return report, model


def test_a_candidate_is_trained_by_its_own_settings(tmp_path):
    space = joint(Rates)
    for rate, batch in [(1e-3, 32), (1e-2, 16)]:
        own, _ = run(
            made(space, None), Candidate(0, genome(space, 0.6, learning_rate=rate, batch_size=batch), seed=4)
        )
        plain, _ = run(
            made(mask(), None, learning_rate=rate, batch_size=batch),
            Candidate(0, genome(space, 0.6, learning_rate=rate, batch_size=batch)[: mask().length], seed=4),
        )
        assert own.metrics == {name: plain.metrics[name] for name in own.metrics}


def begin(tmp_path, origin, id=2, seed=9, parents=(1,)):
    """Train the base model and a parent, then evaluate a child that takes no steps; return their weights and
    the child's report.
    """
    space = joint(Origins)
    trained, still = (
        made(space, tmp_path, steps=4, recalibration=None),
        made(space, tmp_path, steps=0, recalibration=None),
    )
    still._runs = trained._runs
    _, base = run(trained, Candidate(-1, space.base, seed=1))
    _, parent = run(trained, Candidate(1, space.base, (-1,), seed=2))
    report, child = run(still, Candidate(id, genome(space, origin=origin), parents, seed=seed))
    return base.state_dict(), parent.state_dict(), child.state_dict(), report


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_weights_come_from_where_the_genome_says(tmp_path):
    base, parent, child, report = begin(tmp_path / "a", "inherited")
    assert same(child, parent) and not same(child, base) and report.metrics["generation"] == 2
    base, parent, child, report = begin(tmp_path / "b", "original")
    assert same(child, base) and report.metrics["generation"] == 1
    base, parent, child, report = begin(tmp_path / "c", "fresh")
    weights = [name for name, _ in mask().model.named_parameters() if "conv" in name]
    assert weights and not any(
        torch.equal(child[name], other[name])
        for name in weights
        for other in (base, parent, mask().model.state_dict())
    )
    assert report.metrics["generation"] == 0


def test_fresh_weights_follow_from_the_candidates_seed_alone(tmp_path):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    _, _, one, _ = begin(tmp_path / "a", "fresh")
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(4)
    _, _, again, _ = begin(tmp_path / "b", "fresh", id=7)
    _, _, other, _ = begin(tmp_path / "c", "fresh", seed=10)
    assert same(one, again) and not same(one, other)


def test_who_is_trained_on_goes_on_from_itself_whatever_its_origin(tmp_path):
    space = joint(Origins)
    evaluator = made(space, tmp_path, steps=[3, 5])
    fresh = genome(space, origin="fresh")
    run(evaluator, Candidate(-1, space.base, seed=1))
    run(evaluator, Candidate(0, fresh, (-1,), seed=2))
    report, _ = run(evaluator, Candidate(1, fresh, (0,), PROMOTED, seed=3))
    assert (report.metrics["rung"], report.metrics["lineage_steps"]) == (1.0, 8.0)


def test_a_fresh_candidate_may_be_distilled_and_takes_the_first_steps(tmp_path):
    space = joint(Origins)
    plain, taught = (
        made(space, tmp_path / name, steps=2, first_steps=6, distillation=distillation)
        for name, distillation in (("plain", None), ("taught", Distillation(1.0, 1.0)))
    )
    losses = []
    for evaluator in (plain, taught):
        run(evaluator, Candidate(-1, space.base, seed=1))
        report, _ = run(evaluator, Candidate(0, genome(space, origin="fresh"), (-1,), seed=2))
        assert report.metrics["lineage_steps"] == 6
        losses.append(report.metrics["train_loss"])
    assert losses[0] != losses[1]


def test_a_resumed_candidate_is_the_same(tmp_path):
    space, evaluator = joint(Origins), made(joint(Origins), tmp_path)
    candidate = Candidate(3, genome(space, 0.5, origin="fresh"), seed=5)
    report, model = run(evaluator, candidate)
    again, loaded = run(made(joint(Origins), tmp_path), candidate)
    assert report.metrics == again.metrics and same(model.state_dict(), loaded.state_dict())


def test_the_share_of_the_teacher_may_be_a_gene(tmp_path):
    class Taught(HyperParameters):
        distillation_weight = Choice([0.0, 1.0])
        default = {"distillation_weight": 0.0}  # noqa: RUF012

    space = joint(Taught)
    for weight in (0.0, 1.0):
        own, _ = run(
            made(space, None, distillation=Distillation(2.0, 0.5)),
            Candidate(0, genome(space, distillation_weight=weight), seed=4),
        )
        plain, _ = run(
            made(mask(), None, distillation=Distillation(2.0, weight)), Candidate(0, mask().base, seed=4)
        )
        assert own.metrics["train_loss"] == plain.metrics["train_loss"]
    with pytest.raises(
        InputError, match="nothing takes the parameter 'distillation_weight' here; expected a distillation"
    ):
        made(space, None)


def test_architectures_begin_fresh_as_they_are_built(tmp_path):
    class Widths(ChoiceSpace):
        width = Integer(2, 4)
        default = {"width": 4}  # noqa: RUF012

        def build_from(self, width):
            return Perceptron((64, width, 10))

    space = JointSpace({"net": Widths(), "tuning": Origins()})
    evaluator = made(space, tmp_path, steps=0, recalibration=None)
    run(evaluator, Candidate(0, space.base, seed=1))
    child = space.join(net=Widths().encode(width=3), tuning=Origins().encode(origin="fresh"))
    model = space.build(child)
    built = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (report,) = evaluator.evaluate(model, Candidate(1, child, (0,), seed=2))
    assert same(built, model.state_dict()) and report.metrics["generation"] == 0
    assert InheritedFiles(tmp_path).read(1) is not None


def test_tic_tells_of_a_candidate_what_its_training_hides(tmp_path):
    plain, told = (
        made(mask(), tmp_path / "a"),
        made(mask(), tmp_path / "b", tic=TIC("trace"), bias_samples=32),
    )
    candidate = Candidate(0, mask().base, seed=4)
    without, _ = run(plain, candidate)
    report, model = run(told, candidate)
    batch = next(DIGITS.batches("search", 32))
    expected = TIC("trace")(model, "cross_entropy", batch, train_loss=0.0, n=200)
    assert report.metrics["tic_bias"] == pytest.approx(expected.bias) and report.metrics[
        "tic_error"
    ] == pytest.approx(expected.error)
    macs = count(mask().model, DIGITS.example())["macs"]
    assert report.metrics["training_macs"] - without.metrics["training_macs"] == 32 * 5 * macs
    assert {**report.metrics, **without.metrics} == report.metrics | {
        "training_macs": without.metrics["training_macs"]
    }
    assert {"tic_bias", "tic_error"} <= set(told.metrics)
    Ladder(monitor="loss + tic_bias").start(
        problem_of(made(mask(), None, steps=[1, 2], tic=TIC("trace"))), np.random.default_rng(0)
    )
    with pytest.raises(InputError, match="bias_samples 3; expected at least 4"):
        InheritedTraining(bias_samples=3)
    with pytest.raises(InputError, match="InheritedTraining: bias_samples 4000; expected at most"):
        made(mask(), None, tic=TIC(), bias_samples=4000)


def problem_of(evaluator):
    return Problem(mask(), evaluator, (Objective("loss"),))


class Scaled(nn.Module):
    """Has a parameter of its own that nobody can draw."""

    def __init__(self):
        super().__init__()
        self.net, self.scale = Perceptron((64, 8, 10)), nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * self.net(x)


def test_what_nobody_takes_is_refused_before_anything_starts():
    class Momentum(HyperParameters):
        momentum = Float(0.1, 0.9)

    class Nowhere(HyperParameters):
        origin = Categorical(["inherited", "stolen"])

    class Lion(HyperParameters):
        optimiser = Categorical(["adamw", "lion"])

    for kind, text in [
        (
            Momentum,
            r"InheritedTraining: nothing takes the parameter 'momentum'; expected model.\* or one of origin, "
            r"optimiser, learning_rate",
        ),
        (Nowhere, "origin 'stolen'; expected one of inherited, original, fresh"),
        (Lion, "optimiser 'lion'; expected adamw or sgd"),
    ]:
        with pytest.raises(InputError, match=text):
            made(joint(kind), None)
    space = JointSpace({"net": ChannelSpace(Scaled(), DIGITS.example()), "tuning": Origins()})
    with pytest.raises(
        InputError, match=r"origin 'fresh', but the model \(Scaled\) cannot draw its parameters anew"
    ):
        made(space, None)


def test_steps_in_parts_are_the_same_and_bfloat16_is_almost_the_same(tmp_path):
    torch.manual_seed(0)
    space = ChannelSpace(nn.Sequential(nn.Flatten(), Perceptron()), DIGITS.example())

    def weights(**settings):
        _, model = run(made(space, None, **settings), Candidate(0, space.base, seed=4))
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    plain, parts, rough = weights(), weights(accumulation=3), weights(precision="bf16")
    assert torch.allclose(plain, parts, atol=1e-5) and not torch.equal(plain, parts)  # another rounding
    assert not torch.equal(plain, rough) and torch.allclose(plain, rough, atol=0.02)
    with pytest.raises(InputError, match="accumulation 17; expected 1 to the batch_size 16"):
        made(mask(), None, accumulation=17)
    with pytest.raises(InputError, match="checkpointing 'nothing' matches no module"):
        weights(checkpointing=["nothing"])
