import logging
import sys
from functools import cache

import pytest
import torch
from torch import nn

from evaluators import Digits, Latency, measure
from evaluators.cost.latency import export, fastest_ms, onnx_call
from evaluators.cost.onnx_extra import quiet_exporter
from evaluators.testing import EvaluatorContract
from spaces import ChannelSpace
from spaces.errors import InputError
from spaces.models import Perceptron

DIGITS = Digits()
IMAGE = (torch.randn(1, 1, 8, 8),)


class Watched(nn.Module):
    """Remembers under which conditions it ran."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append((tuple(x.shape), torch.get_num_threads(), torch.is_grad_enabled(), self.training))
        return x


class TestLatencyContract(EvaluatorContract):
    deterministic = False

    def evaluator(self):
        return Latency(repeats=2, warmup=1, threads=2, seconds=0.0)

    def space(self):
        return perceptron_space()

    def data(self):
        return DIGITS


@cache
def perceptron_space():
    return ChannelSpace(Perceptron((64, 8, 10)), DIGITS.example())


def test_it_runs_in_eval_mode_with_the_threads_and_batch_asked_for():
    latency, model = Latency(batch_size=3, repeats=4, warmup=2, threads=2, seconds=0.0), Watched().train()
    latency.bind(perceptron_space(), DIGITS)
    before = torch.get_num_threads()
    (report,) = latency.evaluate(model, None)
    assert model.calls == [((3, 1, 8, 8), 2, False, False)] * 6
    assert torch.get_num_threads() == before and model.training
    assert report.metrics["latency_ms"] > 0


def test_threads_come_back_when_the_model_fails():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        measure(nn.Linear(3, 3), IMAGE, threads=before + 1)
    assert torch.get_num_threads() == before


class Clock:
    """Moves on while calls run: they take these milliseconds, and the last one ever after."""

    def __init__(self, monkeypatch, *milliseconds):
        self.now, self.runs, self.left = 0.0, 0, list(milliseconds)
        monkeypatch.setattr("evaluators.cost.latency.time.perf_counter", lambda: self.now)

    def __call__(self):
        self.runs += 1
        self.now += (self.left.pop(0) if len(self.left) > 1 else self.left[0]) / 1e3


def test_the_fastest_call_counts_and_warm_up_does_not(monkeypatch):
    clock = Clock(monkeypatch, 0.1, 0.2, 500.0, 3.0, 4.0)
    assert fastest_ms(clock, repeats=3, warmup=2, seconds=0.0) == pytest.approx(3)
    assert clock.runs == 5


def test_calls_go_on_for_the_seconds_asked_for(monkeypatch):
    clock = Clock(monkeypatch, *[8.0] * 40, 5.0, 8.0)  # a third of a second slow throughout
    assert fastest_ms(clock, repeats=3, warmup=0, seconds=0.5) == pytest.approx(5)
    assert clock.runs == 63  # one of 5 ms and 62 of 8 are the first beyond half a second


def test_onnx_runs_the_same_model():
    torch.manual_seed(0)
    model = Perceptron((64, 8, 10)).eval()
    (outputs,) = onnx_call(export(model, IMAGE), IMAGE)()
    assert torch.allclose(torch.from_numpy(outputs), model(*IMAGE), atol=1e-5)
    assert measure(model, IMAGE, repeats=2, warmup=0, runtime="onnx", seconds=0.0) > 0


def test_onnx_is_measured_as_it_is_deployed_for_batches_of_any_size():
    model = Perceptron((64, 8, 10)).eval()
    five = (torch.randn(5, 1, 8, 8),)
    (outputs,) = onnx_call(export(model, IMAGE), five)()
    assert torch.allclose(torch.from_numpy(outputs), model(*five), atol=1e-5)


def test_an_onnx_file_holds_no_paths_of_the_machine():
    content = export(Perceptron((64, 8, 10)), IMAGE)
    assert b".py" not in content and b"Perceptron" not in content, "stack traces of the exporter"


class Fixed(nn.Module):
    """Takes three samples, no more and no less."""

    def forward(self, x):
        return x.reshape(3, 64).cumsum(0)


def test_the_exporter_says_nothing_and_its_loggers_come_back(caplog):
    logger = logging.getLogger("onnxscript.optimizer._constant_folding")
    with quiet_exporter():
        logger.warning("Evaluation failed")
    assert not caplog.records
    logger.warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def test_a_model_that_fixes_its_batch_is_measured_with_it():
    three = (torch.randn(3, 1, 8, 8),)
    (outputs,) = onnx_call(export(Fixed(), three), three)()
    assert torch.allclose(torch.from_numpy(outputs), Fixed()(*three), atol=1e-5)


class Travelling(Watched):
    """Notes where it is sent."""

    def __init__(self):
        super().__init__()
        self.layer, self.places = nn.Linear(3, 3), []

    def to(self, device):
        self.places.append(str(device))
        return self


def test_cuda_measures_on_the_gpu_and_brings_the_model_back(monkeypatch):
    model = Travelling().eval()
    with pytest.raises(InputError, match=r"latency: runtime cuda.*ray\.gpus_per_task"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        measure(model, IMAGE, runtime="cuda")
    with pytest.raises(InputError, match="evaluator Latency: runtime cuda"):
        Latency(runtime="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert measure(model, IMAGE, repeats=2, warmup=0, seconds=0.0, runtime="cuda") > 0
    assert model.places == ["cuda", "cpu"] and len(model.calls) == 2


def test_a_missing_package_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(
        "evaluators.cost.onnx_extra.find_spec", lambda name: None if name == "onnxruntime" else object()
    )
    with pytest.raises(InputError, match=r"onnxruntime not installed.*pip install secateur\[export\]"):
        Latency(runtime="onnx")
    monkeypatch.setattr(
        "evaluators.cost.openvino_extra.find_spec", lambda name: None if name == "openvino" else object()
    )
    monkeypatch.setattr("evaluators.cost.onnx_extra.find_spec", lambda name: object())
    with pytest.raises(InputError, match=r"openvino not installed.*pip install secateur\[openvino\]"):
        Latency(runtime="openvino")


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"repeats": 0},
        {"threads": 0},
        {"warmup": -1},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"runtime": "tensorrt"},
    ],
)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(InputError, match=r"evaluator Latency: .*expected"):
        Latency(**arguments)
