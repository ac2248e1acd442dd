from __future__ import annotations

import math
import os
import pickle
import random
import signal
import subprocess
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
from evaluators.trial_training import STEADY, likelihood_of
from search.study.goals import repeats
from spaces import Float, HyperParameters, InputError, JointSpace, TrialSpace
from spaces.models import Perceptron

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from trial_case import EPOCHS, evaluator, genome, net, space, start  # noqa: E402

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


def told(made, candidate):
    """All reports as plain values, the weights at the end, and what torch draws next."""
    *reports, model = start(made, candidate)
    return [(r.step, r.metrics) for r in reports], weights(model), torch.rand(3).tolist()


def as_fitted(reports):
    """Reports without what fit does not know of."""
    return [(step, {name: value for name, value in metrics.items() if name != STEADY}) for step, metrics in reports]


def weights(model):
    return {name: tensor.clone() for name, tensor in [*model.state_dict().items(), *model.named_buffers()]}


def same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys() and all(torch.equal(one[1][name], other[1][name]) for name in one[1])
    assert one[2] == other[2], "what torch draws afterwards differs"


def stopped(made, candidate, epochs):
    """Evaluate until a strategy has seen so many reports."""
    reports = start(made, candidate)
    for _ in range(epochs):
        next(reports)
    reports.close()


def with_state(folder, **settings):
    made = evaluator(**settings)
    made.state = folder
    return made


# -- what is reported --------------------------------------------------------------------------------------------------


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


def test_the_running_loss_is_what_training_says():
    given = Candidate(0, genome(), seed=1)
    running, plain = (told(evaluator(**settings), given)[0] for settings in ({"train_loss": "running"}, {"tic": None}))
    assert [metrics["train_loss"] for _, metrics in running] == [metrics["train_loss"] for _, metrics in plain]
    measured = told(evaluator(), given)[0]
    assert all(a["train_loss"] != b["train_loss"] for (_, a), (_, b) in zip(measured, plain, strict=True))


class Drawing(TIC):
    """A criterion that draws random numbers and leaves gradients behind."""

    def __call__(self, model, loss, batch, **rest):
        torch.rand(7)
        nn.functional.cross_entropy(model.eval()(batch[0]), batch[1]).backward()
        model.train()
        return super().__call__(model, loss, batch, **rest)


@pytest.mark.parametrize("tic", [TIC("gram"), TIC("trace"), TIC("diagonal", path="functional"), Drawing("trace")])
def test_tic_does_not_touch_the_training(tic):
    for optimiser in ("adamw", "sgd"):
        given = Candidate(0, genome(optimiser), seed=1)
        on, off = told(evaluator(tic=tic), given), told(evaluator(tic=None), given)
        assert [{n: m[n] for n in ("loss", "error")} for _, m in on[0]] == [{n: m[n] for n in ("loss", "error")} for _, m in off[0]]
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
        assert kind == "CrossEntropy" and n == 120 and torch.equal(images, inputs) and torch.equal(labels, targets)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_genome_stands_over_the_defaults_and_what_it_lacks_is_theirs(optimiser):
    made = evaluator(tic=None, weight_decay=0.2, clip=1.0)
    reports, ended, _ = told(made, Candidate(0, genome(optimiser), seed=2))
    settings = {"optimiser": optimiser, "learning_rate": 0.02, "weight_decay": 0.2 if optimiser == "adamw" else 1e-3}
    torch.manual_seed(2)
    model = net(dropout=0.25)
    by_hand = [(r.step, r.metrics) for r in fit(model, made.data, Training(epochs=EPOCHS, batch_size=32, clip=1.0, **settings))]
    assert as_fitted(reports) == by_hand
    assert all(torch.equal(ended[name], tensor) for name, tensor in model.state_dict().items())


def test_the_schedule_spans_the_maximum_however_early_a_trial_ends(monkeypatch):
    rates = []
    original = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or original(self))
    stopped(evaluator(tic=None), Candidate(0, genome(), seed=1), 2)
    early, rates[:] = list(rates), []
    told(evaluator(tic=None), Candidate(0, genome(), seed=1))
    assert early == rates[: len(early)] and len(early) == 8 and len(rates) == 4 * EPOCHS


class Rates(HyperParameters):
    learning_rate = Float(1e-3, 1e-1, log=True)


def test_settings_come_from_the_parts_of_a_joint_space():
    joint = JointSpace({"net": TrialSpace({"model.width": {"low": 4, "high": 8}}, model=narrow), "rates": Rates()})
    made = TrialTraining(epochs=2)
    data = Digits(train_samples=120)
    made.bind(joint, data)
    chosen = joint.join(net=joint.spaces["net"].encode({"model.width": 8}), rates=Rates().encode(learning_rate=0.1))
    reports, _, _ = told(made, Candidate(0, chosen, seed=1))
    torch.manual_seed(1)
    assert as_fitted(reports) == [(r.step, r.metrics) for r in fit(narrow(8), data, Training(epochs=2, learning_rate=0.1))]


def narrow(width):
    return Perceptron((64, width, 10))


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("epochs", range(1, EPOCHS + 1))
def test_what_is_resumed_is_as_if_it_had_never_stopped(tmp_path, optimiser, epochs):
    whole = told(evaluator(), Candidate(4, genome(optimiser), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(optimiser), seed=7), epochs)
    same(told(with_state(tmp_path), Candidate(9, genome(optimiser), (4,), "resume", seed=123)), whole)
    same(told(with_state(tmp_path), Candidate(4, genome(optimiser), seed=7)), whole)
    same(told(with_state(tmp_path), Candidate(11, genome(optimiser), (4, 9), "resume", seed=5)), whole)  # all is there: nothing is trained


def test_a_chain_of_rungs_is_one_training(tmp_path):
    whole = told(evaluator(), Candidate(0, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(0, genome(), seed=7), 1)
    stopped(with_state(tmp_path), Candidate(5, genome(), (0,), "resume", seed=8), 3)
    (tmp_path / "trials" / "0.pt").unlink()
    same(told(with_state(tmp_path), Candidate(6, genome(), (5,), "resume", seed=9)), whole)


def test_who_is_stopped_among_the_reports_of_the_parent_can_be_resumed(tmp_path):
    """A worker trains ahead until word of a pause reaches it."""
    whole = told(evaluator(), Candidate(0, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(0, genome(), seed=7), 4)
    stopped(with_state(tmp_path), Candidate(1, genome(), (0,), "resume", seed=8), 2)
    (tmp_path / "trials" / "0.pt").unlink()
    same(told(with_state(tmp_path), Candidate(2, genome(), (1,), "resume", seed=9)), whole)


def test_a_killed_process_loses_no_more_than_its_epoch(tmp_path):
    script = f"from trial_case import wait_to_be_killed; wait_to_be_killed({str(tmp_path)!r})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=HERE) as process:
        assert process.stdout is not None
        lines = []
        while (line := process.stdout.readline().strip()) not in ("waiting", ""):
            lines.append(line)
        process.send_signal(signal.SIGKILL)
    assert lines == ["1", "2"] and process.returncode == -signal.SIGKILL
    trained = []
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    same(told(counting(tmp_path, trained), Candidate(4, genome(), seed=7)), whole)
    assert len(trained) == EPOCHS - 2


class Counted(Digits):
    def batches(self, split, size, generator=None):
        if generator is not None:
            self.trained.append(split)
        return super().batches(split, size, generator)


def counting(folder, trained, **settings):
    """An evaluator that notes every epoch it trains."""
    data = Counted(train_samples=120)
    data.trained = trained
    return with_state(folder, data=data, **settings)


def test_checkpoints_may_be_rarer_than_epochs(tmp_path):
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    trained: list = []
    stopped(with_state(tmp_path, checkpoint_every=2), Candidate(4, genome(), seed=7), 3)
    same(told(counting(tmp_path, trained, checkpoint_every=2), Candidate(4, genome(), seed=7)), whole)
    assert len(trained) == EPOCHS - 2
    trained.clear()
    same(told(counting(tmp_path, trained, checkpoint_every=2), Candidate(4, genome(), seed=7)), whole)
    assert not trained, "the last epoch is written, whatever its number"


def test_only_an_operator_that_resumes_looks_at_the_parent(tmp_path):
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), 2)
    same(told(with_state(tmp_path), Candidate(9, genome(), (4,), "mutation", seed=1)), told(evaluator(), Candidate(9, genome(), seed=1)))


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told(evaluator(), Candidate(0, genome(), seed=1))
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_file_a_trial_that_executes_nothing(tmp_path):
    told(with_state(tmp_path), Candidate(4, genome(), seed=7))
    assert [file.name for file in (tmp_path / "trials").iterdir()] == ["4.pt"]
    assert torch.load(tmp_path / "trials" / "4.pt", weights_only=True)["state"]["ended"]


class Boom:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOOM"],)


def _truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty(file):
    file.write_bytes(b"")


def _executable(file):
    torch.save({"key": "", "state": Boom()}, file)


def _pickled(file):
    file.write_bytes(pickle.dumps(Boom()))


def _folder(file):
    file.unlink()
    file.mkdir()


def _of_another_setting(file):
    file.unlink()
    other = with_state(file.parents[1], batch_size=16)
    stopped(other, Candidate(4, genome(), seed=7), 2)


def _of_another_genome(file):
    file.unlink()
    stopped(with_state(file.parents[1]), Candidate(4, genome("sgd"), seed=7), 2)


@pytest.mark.parametrize("damage", [_truncated, _empty, _executable, _pickled, _of_another_setting, _of_another_genome])
def test_a_file_that_is_damaged_or_foreign_counts_as_none(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("BOOM", str(tmp_path / "boom"))
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), 2)
    damage(tmp_path / "trials" / "4.pt")
    trained: list = []
    same(told(counting(tmp_path, trained), Candidate(4, genome(), seed=7)), whole)
    assert len(trained) == EPOCHS and not (tmp_path / "boom").exists()


def test_one_wrong_bit_anywhere_is_noticed_or_harmless(tmp_path):
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), EPOCHS - 1)
    file = tmp_path / "trials" / "4.pt"
    sound = file.read_bytes()
    state = torch.load(file, weights_only=True)["state"]
    tensors = [state["model"]["1.weight"], state["optimiser"]["state"][0]["exp_avg"], state["random"], state["watch"]["1.weight"]]
    places = [sound.index(tensor.numpy().tobytes()) + 33 for tensor in tensors]
    anywhere = random.Random(0)
    for place in [*places, *(anywhere.randrange(len(sound)) for _ in range(16))]:
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 64]) + sound[place + 1 :])
        same(told(with_state(tmp_path), Candidate(4, genome(), seed=7)), whole)


def test_a_damaged_file_of_ones_own_leaves_the_parents(tmp_path):
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), 3)
    (tmp_path / "trials" / "9.pt").write_bytes(b"half a fi")
    trained: list = []
    same(told(counting(tmp_path, trained), Candidate(9, genome(), (4,), "resume", seed=1)), whole)
    assert len(trained) == EPOCHS - 3


def test_the_kept_weights_are_those_of_the_best_epoch_resumed_or_not(tmp_path):
    settings = {"epochs": 12, "schedule": "constant", "tic": None}
    params = {"training.learning_rate": 0.1, "training.optimiser": "adamw", "model.dropout": 0.0}
    given = space().encode(params)
    *reports, model = start(with_state(tmp_path, **settings), Candidate(4, given, seed=7))
    losses = [report.metrics["loss"] for report in reports[:12]]
    assert losses.index(min(losses)) < 11 and reports[-1].step == 13, "the example must overfit"
    data = Digits(train_samples=120)
    for again in (model, list(start(with_state(tmp_path, **settings), Candidate(4, given, seed=7)))[-1]):
        assert assess(again, data, data.batches("search", 256))["loss"] == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("stops", [0, 4])
def test_the_steady_loss_is_the_lowest_mean_of_five_epochs_and_outlives_the_weights_put_back(tmp_path, stops):
    settings = {"epochs": 12, "schedule": "constant", "tic": TIC("trace"), "bias_share": 0.5}
    given = space().encode({"training.learning_rate": 0.1, "training.optimiser": "adamw", "model.dropout": 0.0})
    if stops:
        stopped(with_state(tmp_path, **settings), Candidate(4, given, seed=7), stops)
    *reports, _ = start(with_state(tmp_path, **settings), Candidate(4, given, seed=7))
    values = [report.metrics["loss"] + 0.5 * report.metrics["tic_bias"] for report in reports[:12]]
    means = [sum(values[max(0, i - 4) : i + 1]) / min(5, i + 1) for i in range(12)]
    assert [report.metrics["steady_loss"] for report in reports[:12]] == pytest.approx([min(means[: i + 1]) for i in range(12)])
    assert reports[-1].step == 13 and reports[-1].metrics["steady_loss"] == reports[11].metrics["steady_loss"]
    earlier = [report.metrics for report in reports]
    assert [repeats(earlier[i], earlier[:i]) for i in range(13)] == [False] * 12 + [True], "the view and the pruners must see it"


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tic", [None, TIC("gram"), TIC("trace")])
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
    made.bind(TrialSpace({"training.learning_rate": {"low": 1e-3, "high": 1e-2}}, model=zeros), Digits(train_samples=120))
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
        with pytest.raises(InputError, match=f"nothing takes the parameter '{name.removeprefix('training.')}'; expected model"):
            TrialTraining().bind(TrialSpace({name: {"low": 1, "high": 2}}), data)
    with pytest.raises(InputError, match="bias_samples 400; expected at most 360, the size of split 'search'"):
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
