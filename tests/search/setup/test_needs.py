"""What finishing, measuring and training need is refused in one line, before anything of the run is there."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluators import Cost, Quality, Training
from evaluators.data import Arrays, Data, Loaders
from evaluators.data.task import Task
from evaluators.rehearsal import check_data
from search import Evolution, Finish, Search
from spaces import ChannelSpace
from spaces.errors import InputError
from spaces.models import Perceptron


class Detached(Perceptron):
    def forward(self, x):
        return super().forward(x).detach()


class WithoutGradients(Perceptron):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class Measures(Task):
    """A task whose loss and metrics are given."""

    metric_names = ("error",)

    def __init__(self, loss=None, error=None):
        self._loss, self._error = loss, error

    def loss(self, outputs, targets):
        per_sample = F.cross_entropy(outputs, targets, reduction="none")
        return per_sample if self._loss is None else self._loss(outputs, targets, per_sample)

    def metrics(self, outputs, targets):
        wrong = outputs.argmax(1) != targets
        return {"error": wrong if self._error is None else self._error(outputs, targets, wrong)}


def arguments():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(160, 6))
    return inputs, (inputs @ rng.normal(size=(6, 3))).argmax(1)


def arrays(task=None):
    return Arrays(*arguments(), task=task)


def network(kind=Perceptron, frozen=()):
    torch.manual_seed(0)
    model = kind((6, 8, 3))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(name.startswith(prefix) for prefix in frozen))
    return model.eval()


def search(folder, model=None, data=None, finish=None, **more):
    finish = finish or Finish(members=1, epochs=1, onnx=False, latency_repeats=2, latency_seconds=0.0)
    given = {"data": arrays() if data is None else data, "study": False, "lag": 4, "chunk": 2} | more
    model = network() if model is None else model
    return Search(model, directory=folder, finish=finish, strategy=Evolution(population=4), **given)


def refused(folder, *args, **more):
    """Return the line of a refusal that leaves nothing of the run behind."""
    with pytest.raises(InputError) as told:
        search(folder, *args, **more).run(evaluations=4)
    assert "\n" not in str(told.value)
    assert not (folder / "ledger.db").exists()
    return str(told.value)


def inference(kind=Perceptron):
    with torch.inference_mode():
        return network(kind)


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (lambda: network(frozen=("",)), "training: no parameter of Perceptron .*finish.epochs 0"),
        (lambda: network(Detached), "training: the loss requires no gradient; expected"),
        (lambda: network(WithoutGradients), "training: the loss requires no gradient; expected"),
        (inference, r"model: '.*weight' was made inside torch.inference_mode\(\); expected"),
    ],
)
def test_a_model_that_cannot_be_tuned_is_refused_before_the_search(tmp_path, model, line):
    with pytest.raises(InputError, match=line):
        search(tmp_path / "run", model()).run(evaluations=4)
    assert not (tmp_path / "run" / "ledger.db").exists()


def test_it_is_refused_before_the_base_model_is_trained(tmp_path):
    told = refused(tmp_path / "run", network(frozen=("",)), training=Training(epochs=1))
    assert told.startswith("training: no parameter") and "finish.epochs" not in told


def test_int8_without_samples_to_calibrate_with_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")

    class WithoutCalibration(Arrays):
        def batches(self, split, size, generator=None):
            return iter(()) if split == "calibration" else super().batches(split, size, generator)

    finish = Finish(members=1, quantise="int8")
    with pytest.raises(InputError, match=r"^finish.quantise: the calibration split is empty; expected"):
        search(tmp_path / "run", data=WithoutCalibration(*arguments()), finish=finish).run(evaluations=4)
    assert not (tmp_path / "run" / "ledger.db").exists()


@pytest.mark.parametrize("finish", [Finish(members=0), Finish(epochs=0, onnx=False, latency_seconds=0.0)])
def test_what_will_not_be_tuned_may_be_frozen(tmp_path, finish):
    result = search(tmp_path / "run", network(frozen=("",)), finish=finish).run(evaluations=4)
    assert not [final.reason for final in result.finals if final.reason]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_changes_nothing_and_comes_back(tmp_path, context):
    model, data = network(), arrays()
    with context():
        result = search(tmp_path / "inside", model, data).run(evaluations=6)
        assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled() == (
            context is torch.inference_mode
        )
    plain = search(tmp_path / "outside").run(evaluations=6)
    assert [final.test for final in result.finals] == [final.test for final in plain.finals]
    assert all(final.folder or final.id < 0 for final in result.finals)


def test_a_frozen_part_stays_as_it_is_in_tuning(tmp_path):
    model = network(frozen=("layers.0", "0"))
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen and len(frozen) < len(list(model.parameters()))
    result = search(tmp_path / "run", model, finish=Finish(members=1, epochs=2, onnx=False)).run(4)
    final = result.finals[1]
    tuned, untuned = result.tuned(1).state_dict(), result.build(result.front[0])
    member = next(e for e in result.front if e.candidate.id == final.id)
    untuned = result.build(member).state_dict()
    assert all(torch.equal(tuned[name], untuned[name]) for name in frozen)
    assert any(not torch.equal(tuned[name], untuned[name]) for name in tuned)


def test_finishing_without_data_is_refused_and_a_search_of_costs_is_not(tmp_path):
    space = ChannelSpace(network(), (torch.randn(2, 6),))

    def over_costs(finish):
        return Search(
            space=space, evaluators=[Cost()], objectives=["params"], directory=tmp_path / "run",
            finish=finish, study=False, lag=4, chunk=2,
        )  # fmt: skip

    with pytest.raises(InputError, match=r"^data: missing; .*finish.members 0$"):
        over_costs(Finish()).run(evaluations=4)
    assert not (tmp_path / "run" / "ledger.db").exists()
    assert over_costs(Finish(members=0)).run(evaluations=4).front


@pytest.mark.parametrize(
    ("task", "line"),
    [
        (Measures(lambda o, t, loss: F.cross_entropy(o, t)), r"data: the loss of 5 samples has shape \(\);"),
        (Measures(lambda o, t, loss: loss[:, None].expand(-1, 5)), r"data: the loss .*shape \(5, 5\)"),
        (Measures(lambda o, t, loss: loss[:1]), r"data: the loss of 5 samples has shape \(1,\)"),
        (Measures(lambda o, t, loss: loss * torch.nan), "data: the loss .* is not finite .*: nan"),
        (Measures(lambda o, t, loss: None), "data: the loss of 5 samples is a NoneType"),
        (Measures(lambda o, t, loss: loss.detach()), "training: the loss requires no gradient"),
        (Measures(lambda o, t, loss: o.argmax(1) - t), "data: the loss is of type torch.int64"),
        (Measures(lambda o, t, loss: o.new_ones(len(o), requires_grad=True)), "does not depend on any"),
        (Measures(lambda o, t, loss: 1 / 0), r"data: loss\(\) fails on the first batch: ZeroDivisionError"),
        (Measures(error=lambda o, t, wrong: 0.9), r"data: metric 'error' .* a float; .*split_metrics$"),
        (Measures(error=lambda o, t, wrong: wrong.float().mean()), r"shape \(\); .*Data.split_metrics$"),
        (Measures(error=lambda o, t, wrong: wrong.float().mean()[None]), r"shape \(1,\); .*split_metrics$"),
        (Measures(error=lambda o, t, wrong: o.softmax(1)), r"data: metric 'error' .*shape \(5, 3\)"),
        (Measures(error=lambda o, t, wrong: o.mean(0)), r"data: metric 'error' .*shape \(3,\)"),
        (Measures(error=lambda o, t, wrong: wrong.numpy()), "data: metric 'error' .* is a ndarray"),
        (Measures(error=lambda o, t, wrong: wrong / 0.0), "data: metric 'error' .* is not finite"),
    ],
)
def test_loss_and_metrics_of_another_shape_are_refused_on_the_first_batch(tmp_path, task, line):
    with pytest.raises(InputError, match=line):
        search(tmp_path / "run", data=arrays(task)).run(evaluations=4)
    assert not (tmp_path / "run" / "ledger.db").exists()


class ThreeClasses(Measures):
    """A metric of every class: with three samples it has the shape of a metric of every sample."""

    def metrics(self, outputs, targets):
        return {"error": outputs.softmax(1).mean(0)}


def test_a_shape_that_fits_by_chance_is_refused():
    with pytest.raises(InputError, match=r"metric 'error' of 5 samples has shape \(3,\)"):
        check_data(network(), arrays(ThreeClasses()), known=True, trained=False)


class Wrongly(Measures):
    metric_names = ("accuracy",)


def test_metrics_under_other_names_than_promised_are_refused(tmp_path):
    told = refused(tmp_path / "run", data=arrays(Wrongly()), objectives=["accuracy", "macs"])
    assert told == "data: metrics() returns error; expected accuracy, as metric_names has it"


@pytest.mark.parametrize(
    "error",
    [lambda o, t, w: w, lambda o, t, w: w.int(), lambda o, t, w: w.half(), lambda o, t, w: w.double()],
)
def test_metrics_of_every_real_type_are_taken(error):
    result = Search(network(), arrays(Measures(error=error)), lag=4, chunk=2).run(evaluations=4)
    inputs, targets = next(iter(arrays().batches("search", 999)))
    for member in result.front:
        wrong = (result.build(member)(inputs).argmax(1) != targets).double().mean().item()
        assert member.metrics["error"] == pytest.approx(wrong, abs=1e-6)


class Worded(Arrays):
    """Targets in words."""

    def batches(self, split, size, generator=None):
        return ((inputs, "two classes") for inputs, targets in super().batches(split, size, generator))


def test_targets_and_data_of_another_kind_are_refused_by_name():
    data = Worded(*arguments())
    with pytest.raises(InputError, match=r"^data: targets of a batch are a str; expected a tensor"):
        Search(network(), data).run(evaluations=2)
    with pytest.raises(InputError, match=r"^data: a list; expected an evaluators.data.Data"):
        Search(network(), [1, 2])


class Silent(Data):
    """Data without a loss, for an evaluator of the user's that needs none."""

    metric_names = ()
    fingerprint = "silent"

    def batches(self, split, size, generator=None):
        yield torch.zeros(min(size, 8), 6), torch.zeros(min(size, 8))

    def loss(self, outputs, targets):
        raise NotImplementedError

    def metrics(self, outputs, targets):
        return {}


def test_nobody_asks_for_a_loss_that_nobody_uses(tmp_path):
    alone = Search(
        network(), Silent(), evaluators=[Cost()], objectives=["params"], criteria=[], lag=4, chunk=2
    )
    assert alone.run(evaluations=4).front
    with pytest.raises(InputError, match=r"data: loss\(\) fails on the first batch: NotImplementedError"):
        Search(network(), Silent(), evaluators=[Cost(), Quality()], objectives=["loss"]).run(evaluations=4)


def test_looking_at_the_first_batch_changes_no_result_and_draws_no_number():
    model, state = network(), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_data(model, arrays(), known=True, trained=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_without_values_are_refused_by_name():
    lazy = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"^model: '0.weight' has no shape before the first call"):
        Search(lazy, arrays())
    with pytest.raises(InputError, match=r"^model: '.*weight' is on the device meta"):
        Search(network().to("meta"), arrays())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda y: y[:, None], r"data: loss\(\) .*\(5, 1\), labels would be targets.squeeze\(1\)"),
        (lambda y: F.one_hot(y), r"data: loss\(\) .*\(5, 3\), .* targets.argmax\(1\)"),
        (lambda y: y + 1, r"data: loss\(\) .*; the model has 3 outputs, for labels from 0, and a label is 3"),
        (lambda y: y.float(), "objectives: .*; targets are floats, classes would be integers"),
    ],
)
def test_targets_that_are_no_labels_are_told_what_labels_would_be(change, told):
    inputs, targets = (torch.as_tensor(one) for one in arguments())
    with pytest.raises(InputError, match=f"^{told}"):
        Search(network(), (inputs, change(targets))).run(evaluations=2)


class Odd(torch.utils.data.Dataset):
    """A sample cannot be read, or has a label that the model has no output for."""

    def __init__(self, label=None):
        self.label = label

    def __len__(self):
        return 64

    def __getitem__(self, place):
        if place == 40 and self.label is None:
            raise OSError("file 40 is gone")
        return torch.zeros(6), self.label if place == 40 else place % 2


def test_what_a_dataset_and_a_training_raise_is_one_line():
    with pytest.raises(InputError, match=r"^data: split '\w+' cannot be read: OSError: file 40 is gone; exp"):
        assert Loaders(Odd()).fingerprint
    data = Loaders(Odd(7), calibration=Odd(1), search=Odd(1), test=Odd(1))
    with pytest.raises(
        InputError, match=r"^training: the base model cannot be trained: IndexError: Target 7"
    ):
        Search(network(), data, training=Training(epochs=1)).run(evaluations=2)
