import sys
from functools import cache

import pytest
import torch
from torch import nn

from evaluators import Digits, Latency, measure
from evaluators.latency import export, median_ms, onnx_call
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
        return Latency(repeats=2, warmup=1, threads=2)

    def space(self):
        return perceptron_space()

    def data(self):
        return DIGITS


@cache
def perceptron_space():
    return ChannelSpace(Perceptron((64, 8, 10)), DIGITS.example())


def test_it_runs_in_eval_mode_with_the_threads_and_batch_asked_for():
    latency, model = Latency(batch_size=3, repeats=4, warmup=2, threads=2), Watched().train()
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


def test_it_is_the_median_and_warm_up_does_not_count(monkeypatch):
    clock = iter([0.0, 0.001, 1.0, 1.5, 2.0, 2.003])  # three calls of 1, 500 and 3 ms
    monkeypatch.setattr("evaluators.latency.time.perf_counter", lambda: next(clock))
    calls = []
    assert median_ms(lambda: calls.append(0), repeats=3, warmup=4) == pytest.approx(3)
    assert len(calls) == 7


def test_onnx_runs_the_same_model():
    torch.manual_seed(0)
    model = Perceptron((64, 8, 10)).eval()
    (outputs,) = onnx_call(export(model, IMAGE), IMAGE)()
    assert torch.allclose(torch.from_numpy(outputs), model(*IMAGE), atol=1e-5)
    assert measure(model, IMAGE, repeats=2, warmup=0, runtime="onnx") > 0


def test_a_missing_package_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("evaluators.onnx_extra.find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(InputError, match=r"onnxruntime not installed.*pip install secateur\[export\]"):
        Latency(runtime="onnx")


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"repeats": 0}, {"threads": 0}, {"warmup": -1}, {"runtime": "tensorrt"}])
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(InputError, match=r"evaluator Latency: .*expected"):
        Latency(**arguments)
