from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Arrays, Candidate, Digits, Evaluators, Quality, Training, TrialTraining, assess, fit
from evaluators.data.task import Classification, Regression
from evaluators.testing import EvaluatorContract
from evaluators.tic import TIC, CrossEntropy, RegimeGauge, SquaredError
from evaluators.tic.bias import likelihood_of
from evaluators.training.trials import STEADY
from search.record.identity import describe
from spaces import Float, HyperParameters, InputError, JointSpace, TrialSpace
from spaces.models import Perceptron

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from trial_case import EPOCHS, evaluator, genome, net, space, start, stopped, told  # noqa: E402

PREDICTED = {"tic_bias", "tic_error", "predicted_loss", "movement"}


class TestContract(EvaluatorContract):
    def evaluator(self):
        return TrialTraining(epochs=2, tic=TIC("gram"), bias_samples=16)

    def space(self):
        return space()

    def data(self):
        return Digits(train_samples=120)


class TestContractWithoutTic(TestContract):
    def evaluator(self):
        return TrialTraining(epochs=2)


def as_fitted(reports):
    """Reports without what fit does not know of."""
    return [
        (step, {name: value for name, value in metrics.items() if name != STEADY})
        for step, metrics in reports
    ]


# -- what is reported ----------------------------------------------------------------------------------------


def test_one_report_an_epoch_with_everything_that_was_promised():
    made = evaluator(keep_best=False)
    reports, _, _ = told(made, Candidate(0, genome(), seed=1))
    assert [step for step, _ in reports] == list(range(1, EPOCHS + 1))
    assert all(set(metrics) == set(made.metrics) for _, metrics in reports)
    assert set(made.metrics) >= {"train_loss", "loss", "error", *PREDICTED}
    assert not PREDICTED & set(evaluator(tic=None).metrics)


def test_the_prediction_is_that_of_the_weights_after_the_epoch():
    data = Digits(train_samples=120)
    made = evaluator(data, keep_best=False, tic=TIC("gram"))
    torch.manual_seed(3)
    beginning = RegimeGauge(net(dropout=0.25))
    *reports, model = start(made, Candidate(0, genome(), seed=3))
    last = reports[-1].metrics
    measured = assess(model, data, data.batches("train", 50))
    batch = next(data.batches("search", 32))
    expected = TIC("gram")(model, "cross_entropy", batch, train_loss=measured["loss"], n=120, gauge=beginning)
    assert last["train_loss"] == pytest.approx(measured["loss"], rel=1e-5)
    assert {name: last[name] for name in PREDICTED} == pytest.approx(expected.metrics(), rel=1e-5)
    assert last["predicted_loss"] == pytest.approx(last["train_loss"] + last["tic_bias"], rel=1e-12)
    assert 0 < reports[0].metrics["movement"] < last["movement"] and last["tic_bias"] > 0


def test_the_trace_is_told_beside_another_estimate_where_tic_is_asked_for_it():
    given = Candidate(0, genome(), seed=1)
    both, gram, trace = (
        told(evaluator(tic=tic), given)[0]
        for tic in (TIC("gram", trace=True), TIC("gram"), TIC("trace", scale="1"))
    )
    assert [metrics["tic_trace"] for _, metrics in both] == pytest.approx(
        [metrics["tic_bias"] for _, metrics in trace], rel=1e-6
    )  # products of all rows give the norms with another rounding
    rest = [{name: value for name, value in metrics.items() if name != "tic_trace"} for _, metrics in both]
    assert rest == [metrics for _, metrics in gram]


def test_a_tic_of_before_there_was_a_trace_is_that_without():
    assert describe("tic", TIC()) == describe("tic", TIC(trace=None)) != describe("tic", TIC(trace=True))
    assert not any("trace" in key for key in describe("tic", TIC()))
    plain, asked = (evaluator(tic=tic)._key()[1][-1] for tic in (TIC(), TIC(trace=True)))
    assert asked == sorted([*plain, ("trace", True)]) and "trace" not in dict(plain)


def test_the_running_loss_is_what_training_says():
    given = Candidate(0, genome(), seed=1)
    running, plain = (
        told(evaluator(**settings), given)[0] for settings in ({"train_loss": "running"}, {"tic": None})
    )
    assert [metrics["train_loss"] for _, metrics in running] == [
        metrics["train_loss"] for _, metrics in plain
    ]
    measured = told(evaluator(), given)[0]
    assert all(a["train_loss"] != b["train_loss"] for (_, a), (_, b) in zip(measured, plain, strict=True))


class Drawing(TIC):
    """A criterion that draws random numbers and leaves gradients behind."""

    def __call__(self, model, loss, batch, **rest):
        torch.rand(7)
        nn.functional.cross_entropy(model.eval()(batch[0]), batch[1]).backward()
        model.train()
        return super().__call__(model, loss, batch, **rest)


@pytest.mark.parametrize(
    "tic", [TIC("gram"), TIC("trace"), TIC("diagonal", path="functional"), Drawing("trace")]
)
def test_tic_does_not_touch_the_training(tic):
    for optimiser in ("adamw", "sgd"):
        given = Candidate(0, genome(optimiser), seed=1)
        on, off = told(evaluator(tic=tic), given), told(evaluator(tic=None), given)
        assert [{n: m[n] for n in ("loss", "error")} for _, m in on[0]] == [
            {n: m[n] for n in ("loss", "error")} for _, m in off[0]
        ]
        assert all(torch.equal(on[1][name], off[1][name]) for name in off[1]) and on[2] == off[2]


class Recording(TIC):
    seen: list

    def __call__(self, model, loss, batch, **rest):
        self.seen.append((type(loss).__name__, batch[0].clone(), batch[1].clone(), rest["n"], model.training))
        return super().__call__(model, loss, batch, **rest)


@pytest.mark.parametrize("split", ["search", "calibration", "train"])
def test_all_candidates_see_the_same_first_samples_of_the_split(split):
    Recording.seen = []
    data = Digits(train_samples=120)
    made = evaluator(data, tic=Recording("trace"), bias_split=split, bias_samples=24, epochs=2)
    for id, optimiser in enumerate(("adamw", "sgd")):
        told(made, Candidate(id, genome(optimiser), seed=id))
    told(pickle.loads(pickle.dumps(made)), Candidate(2, genome(), seed=5))
    inputs, targets = next(data.batches(split, 24))
    assert len(Recording.seen) == 6
    for kind, images, labels, n, _ in Recording.seen:
        assert (
            kind == "CrossEntropy"
            and n == 120
            and torch.equal(images, inputs)
            and torch.equal(labels, targets)
        )


# -- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_genome_stands_over_the_defaults_and_what_it_lacks_is_theirs(optimiser):
    made = evaluator(tic=None, weight_decay=0.2, clip=1.0)
    reports, ended, _ = told(made, Candidate(0, genome(optimiser), seed=2))
    settings = {
        "optimiser": optimiser,
        "learning_rate": 0.02,
        "weight_decay": 0.2 if optimiser == "adamw" else 1e-3,
    }
    torch.manual_seed(2)
    model = net(dropout=0.25)
    by_hand = [
        (r.step, r.metrics)
        for r in fit(model, made.data, Training(epochs=EPOCHS, batch_size=32, clip=1.0, **settings))
    ]
    assert as_fitted(reports) == by_hand
    assert all(torch.equal(ended[name], tensor) for name, tensor in model.state_dict().items())


def test_the_schedule_spans_the_maximum_however_early_a_trial_ends(monkeypatch):
    rates = []
    original = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or original(self)
    )
    stopped(evaluator(tic=None), Candidate(0, genome(), seed=1), 2)
    early, rates[:] = list(rates), []
    told(evaluator(tic=None), Candidate(0, genome(), seed=1))
    assert early == rates[: len(early)] and len(early) == 8 and len(rates) == 4 * EPOCHS


class Rates(HyperParameters):
    learning_rate = Float(1e-3, 1e-1, log=True)


def test_settings_come_from_the_parts_of_a_joint_space():
    joint = JointSpace(
        {"net": TrialSpace({"model.width": {"low": 4, "high": 8}}, model=narrow), "rates": Rates()}
    )
    made = TrialTraining(epochs=2)
    data = Digits(train_samples=120)
    made.bind(joint, data)
    chosen = joint.join(
        net=joint.spaces["net"].encode({"model.width": 8}), rates=Rates().encode(learning_rate=0.1)
    )
    reports, _, _ = told(made, Candidate(0, chosen, seed=1))
    torch.manual_seed(1)
    assert as_fitted(reports) == [
        (r.step, r.metrics) for r in fit(narrow(8), data, Training(epochs=2, learning_rate=0.1))
    ]


def narrow(width):
    return Perceptron((64, width, 10))


def test_trials_take_their_batches_in_parts_and_in_bfloat16():
    def losses(**settings):
        made, data = TrialTraining(epochs=2, **settings), Digits(train_samples=120)
        space = TrialSpace({"model.width": {"low": 4, "high": 8}}, model=narrow)
        made.bind(space, data)
        reports, _, _ = told(made, Candidate(0, space.encode({"model.width": 8}), seed=1))
        return [metrics["train_loss"] for _, metrics in as_fitted(reports)]

    plain = losses()
    assert losses(accumulation=3) == pytest.approx(plain, abs=1e-5) and losses(accumulation=3) != plain
    with pytest.raises(InputError, match="checkpointing 'nothing' matches no module"):
        losses(checkpointing=["nothing"])
    assert losses(precision="bf16") == pytest.approx(plain, abs=0.05) and losses(precision="bf16") != plain


# -- what goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tic", [None, TIC("gram"), TIC("trace"), TIC("gram", trace=True)])
def test_a_diverging_training_ends_with_a_report_that_says_so(tmp_path, tic):
    wild = TrialSpace({"training.learning_rate": {"low": 1e3, "high": 1e30, "log": True}}, model=plain)
    made = TrialTraining(epochs=20, optimiser="sgd", schedule="constant", tic=tic, bias_samples=16)
    made.bind(wild, Digits(train_samples=120))
    made.state = tmp_path
    given = Candidate(0, wild.encode({"training.learning_rate": 1e18}), seed=1)
    *reports, _ = start(made, given)
    assert 1 <= len(reports) < 20
    last = reports[-1].metrics
    assert set(last) == set(made.metrics) and not all(map(math.isfinite, last.values()))
    *again, _ = start(made, given)
    assert [r.step for r in again] == [r.step for r in reports], "it has ended, and is not trained on"


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def zeros():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def test_weights_that_begin_at_zero_give_finite_reports():
    made = TrialTraining(epochs=2, tic=TIC("trace"))
    made.bind(
        TrialSpace({"training.learning_rate": {"low": 1e-3, "high": 1e-2}}, model=zeros),
        Digits(train_samples=120),
    )
    *reports, _ = start(made, Candidate(0, made.space.sample(1, np.random.default_rng(0))[0], seed=1))
    assert all(math.isfinite(value) for report in reports for value in report.metrics.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs 0; expected at least 1"),
        ({"bias_split": "test"}, "bias_split 'test'; expected search"),
        ({"bias_samples": 3}, "bias_samples 3; expected at least 4"),
        ({"train_loss": "eval"}, "train_loss 'eval'; expected measured or running"),
        ({"checkpoint_every": 0}, "checkpoint_every 0; expected at least 1"),
        ({"optimiser": "lion"}, "optimiser 'lion'; expected"),
        ({"monitor": "test"}, "monitor 'test'; expected"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(InputError, match=message):
        TrialTraining(**settings)


def test_what_does_not_go_together_is_refused_before_anything_starts():
    data = Digits(train_samples=120)
    with pytest.raises(InputError, match="TrialTraining: no data"):
        TrialTraining().bind(space())
    for name in ("training.momentum", "epochs", "tic.damping"):
        with pytest.raises(
            InputError,
            match=f"nothing takes the parameter '{name.removeprefix('training.')}'; expected model",
        ):
            TrialTraining().bind(TrialSpace({name: {"low": 1, "high": 2}}), data)
    with pytest.raises(
        InputError, match="bias_samples 400; expected at most 360, the size of split 'search'"
    ):
        TrialTraining(tic=TIC(), bias_samples=400).bind(space(), data)
    TrialTraining(bias_samples=400).bind(space(), data)  # nobody asks for them


class Halved(Regression):
    def loss(self, outputs, targets):
        return super().loss(outputs, targets) / 2


class Own(Digits):
    def likelihood(self):
        return "cross_entropy"


def test_the_likelihood_is_that_of_the_task():
    inputs, values = np.random.default_rng(0).normal(size=(2, 40, 3))
    assert isinstance(likelihood_of(Digits()), CrossEntropy)
    assert isinstance(likelihood_of(Arrays(inputs, values)), SquaredError)
    assert likelihood_of(Own()) == "cross_entropy"
    with pytest.raises(InputError, match=r"loss of Arrays; expected the task .*likelihood\(\)"):
        likelihood_of(Arrays(inputs, values, task=Halved()))


@pytest.mark.parametrize("task", [Classification(), Regression()])
def test_tics_losses_are_the_tasks(task):
    torch.manual_seed(0)
    outputs = torch.randn(6, 3, 4)
    targets = torch.randint(3, (6, 4)) if isinstance(task, Classification) else torch.randn(6, 3, 4)
    likelihood = CrossEntropy() if isinstance(task, Classification) else SquaredError()
    assert torch.allclose(likelihood.losses(outputs, targets), task.loss(outputs, targets), atol=1e-6)


def test_a_regression_is_predicted_too():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 64))
    data = Arrays(inputs, inputs[:, 0] + 0.1 * rng.normal(size=200))
    made = TrialTraining(epochs=2, tic=TIC("gram"), bias_samples=16)
    made.bind(TrialSpace({"training.learning_rate": {"low": 1e-3, "high": 1e-2}}, model=line), data)
    *reports, _ = start(made, Candidate(0, made.space.sample(1, rng)[0], seed=1))
    assert reports[-1].metrics["tic_bias"] > 0 and set(reports[-1].metrics) == set(made.metrics)


def line():
    return nn.Linear(64, 1)


def test_a_folder_reaches_every_part_of_a_row_of_evaluators(tmp_path):
    trial, other = evaluator(), Quality()
    row = Evaluators([other, trial])
    assert row.state is None
    row.state = tmp_path
    assert trial.state == other.state == row.state == tmp_path
    assert TrialTraining.state is None and Evaluators([Quality()]).state is None
