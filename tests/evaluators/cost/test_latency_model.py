"""Predicted latency, on a runtime whose times are known."""

import json
import logging

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Evaluators, Latency, LatencyModel
from evaluators.cost import latency_model
from evaluators.cost.predicted import calibration
from evaluators.cost.predicted.calibration import CannotPredict, calibrate, random_genomes
from evaluators.cost.predicted.eager import TorchRuntime
from evaluators.cost.predicted.onnx_runtime import OnnxRuntime
from evaluators.testing import EvaluatorContract
from spaces import ChannelSpace, InputError
from tests.evaluators.cost.known import Block, Known, data, known_ms

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(latency_model.RUNTIMES, "torch", Known)
    return tmp_path


@pytest.fixture(scope="module")
def space():
    return ChannelSpace(Block().eval(), data().example(), depth=("body",))


def bound(space, **settings):
    model = LatencyModel(**({"runtime": "torch"} | settings))
    model.bind(space, data())
    return model


def test_predictions_are_those_of_a_known_runtime(space):
    model = bound(space)
    genomes = random_genomes(space, 40, np.random.default_rng(5))
    expected = [known_ms(space.build(genome)) for genome in genomes]
    assert len({genome[-1] for genome in genomes}) == 2  # with and without the block
    np.testing.assert_allclose(model.screen(genomes)["latency_ms"], expected, rtol=0.04)
    assert model.prediction.error.median < 0.02


def test_a_calibration_is_kept_and_travels(space, tmp_path, monkeypatch, caplog):
    model = bound(space)
    genomes = random_genomes(space, 5, np.random.default_rng(5))
    before = model.screen(genomes)["latency_ms"]
    with caplog.at_level(logging.INFO, "secateur"):
        assert model.write_calibration(tmp_path / "file.json")
    liked = json.loads(caplog.messages[-1].split("'")[1])
    ChannelSpace(Block().eval(), data().example(), depth=("body",), round_to=liked)  # it can be pasted
    assert liked["*"] == 4
    monkeypatch.setattr(latency_model, "calibrate", None)  # not made once more
    np.testing.assert_array_equal(bound(space).screen(genomes)["latency_ms"], before)
    elsewhere = bound(space, calibration=str(tmp_path / "file.json"))
    np.testing.assert_array_equal(elsewhere.screen(genomes)["latency_ms"], before)
    assert elsewhere.private == ""
    assert Evaluators([Latency(), elsewhere]).write_calibration(tmp_path / "again.json")
    assert not Evaluators([Latency()]).write_calibration(tmp_path / "none.json")


def test_large_networks_are_measured_a_few_at_a_time(space, monkeypatch):
    held = []
    whole = Known.whole
    monkeypatch.setattr(Known, "whole", lambda self, calls: held.append(len(calls)) or whole(self, calls))
    monkeypatch.setattr(calibration, "_HELD_BYTES", 60_000)
    model = bound(space)
    genomes = random_genomes(space, 5, np.random.default_rng(5))
    expected = [known_ms(space.build(genome)) for genome in genomes]
    np.testing.assert_allclose(model.screen(genomes)["latency_ms"], expected, rtol=0.04)
    assert held[:5] == [1] * 5 and sum(held[5:]) == 16 and 2 < len(held[5:]) < 16


def test_a_cache_that_cannot_be_written_is_no_error(space, cache, caplog):
    (cache / "secateur").write_text("a file where the folder would be")
    with caplog.at_level(logging.INFO, "secateur"):
        assert bound(space).screen(space.base[None])["latency_ms"] > 0
    assert "not kept" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told | {"batch_size": 8}, "another batch_size"),
        (lambda told: told | {"model": "x"}, "another model"),
        (lambda told: told | {"runtime": "onnx"}, "another runtime"),
        (lambda told: told | {"format": 9}, "format 9"),
        (lambda told: {"model": told["model"]}, "calibrate"),
        (lambda told: [], "calibrate"),
    ],
)
def test_a_calibration_of_something_else_is_refused(space, tmp_path, change, message):
    file = tmp_path / "file.json"
    bound(space).write_calibration(file)
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(InputError, match=message):
        bound(space, calibration=str(file))


def test_where_predictions_are_far_off_candidates_are_measured(space, monkeypatch, caplog):
    monkeypatch.setattr(Known, "noise", 1.5)
    model = bound(space)
    with caplog.at_level(logging.INFO, "secateur"):
        (report,) = model.evaluate(space.build(space.base), None)
    assert model.prediction.error.median > latency_model.TRUSTED
    assert report.metrics["latency_ms"] > 0
    assert "every candidate is measured" in caplog.text


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_calibration_of_a_runtime_that_is_not_here_serves(space, tmp_path, no_gpu):
    with pytest.raises(InputError, match="LatencyModel: runtime cuda, and PyTorch sees no CUDA GPU"):
        LatencyModel(runtime="cuda")
    file, model = tmp_path / "file.json", bound(space)
    model.write_calibration(file)
    told = json.loads(file.read_text()) | {"runtime": "cuda"}
    file.write_text(json.dumps(told))
    elsewhere = bound(space, runtime="cuda", calibration=str(file))
    genomes = random_genomes(space, 5, np.random.default_rng(5))
    np.testing.assert_array_equal(
        elsewhere.screen(genomes)["latency_ms"], model.screen(genomes)["latency_ms"]
    )
    assert elsewhere.measured(space.build(space.base)) == {}
    told["error"]["median"] = 0.2  # so they would have to be measured
    file.write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"off by 20%.*sees no CUDA GPU"):
        bound(space, runtime="cuda", calibration=str(file))


def test_gpus_have_calibrations_of_their_own(space, monkeypatch):
    model, keys = bound(space), set()
    for name in ("one", "another", "another"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        keys.add(model._key(latency_model.RUNTIMES["cuda"](1)))
    assert len(keys) == 2
    assert model._key(latency_model.RUNTIMES["cuda"](1)) != model._key(TorchRuntime(1))


def test_an_operation_that_changes_with_widths_cannot_be_predicted():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 20), nn.Linear(20, 3)

        def forward(self, x):
            x = self.a(x)
            return self.b(x.relu() if x.shape[-1] % 2 else x.relu() + 0.0)

    space = ChannelSpace(Odd().eval(), (torch.randn(4, 6),))
    with pytest.raises(CannotPredict, match="different operations"):
        calibrate(space, (torch.randn(1, 6),), Known(1))
    with pytest.raises(InputError, match="Latency, which measures"):
        bound(space).screen(space.base[None])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "tvm"}, "expected torch, cuda, onnx or openvino"),
        ({"batch_size": 0}, "at least 1"),
        ({"networks": 2}, "8"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LatencyModel(**settings)


def test_a_file_that_is_not_there_is_named(space, tmp_path):
    with pytest.raises(InputError, match="none"):
        bound(space, calibration=str(tmp_path / "none.json"))


@pytest.mark.parametrize("runtime", [OnnxRuntime, TorchRuntime])
def test_real_runtimes_tell_what_they_do(runtime):
    model, inputs = Block().eval(), tuple(x[:1] for x in data().example())
    operations, call = runtime(1).prepared(model, inputs)
    call()
    assert sum("conv" in one.kind.lower() for one in operations) == 3
    took = runtime(1).alone(operations)
    assert all(one.work > 0 and one.layout >= 0 for one in took)
    assert all(8 in one.numbers for one in operations[:1])


class Placed(nn.Module):
    """Makes a tensor of its own where its input is."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x) + torch.arange(8, device=x.device)


def test_a_runtime_of_another_device_has_everything_there():
    """The meta device, which computes nothing, stands for a GPU."""
    here, there = TorchRuntime(1), TorchRuntime(1, "meta")
    model, inputs = Placed().eval(), (torch.randn(4, 8),)
    expected, _ = here.prepared(model, inputs)
    found, call = there.prepared(model, inputs)
    assert {one.kind for one in found} == {one.kind for one in expected} >= {"arange", "linear"}
    assert all(parameter.is_meta for parameter in model.parameters())
    call()
    for operation in found:
        (piece,) = there.pieces(operation)
        assert piece.copies >= 16 and there.alone([operation])[0].work > 0
    seen = []
    for operation in expected:
        for piece in here.pieces(operation):
            piece.call()
            seen.append(operation.kind)
    assert {"arange", "linear"} <= {*seen}


def test_onnxruntime_blocks_what_fits_its_blocks():
    """At a width that is no multiple of 4 another kernel runs, without reordering."""
    wide, odd = (nn.Conv2d(width, 16, 3).eval() for width in (16, 13))
    reordered = []
    for layer in (wide, odd):
        runtime = OnnxRuntime(1)
        (operation,), _ = runtime.prepared(layer, (torch.randn(1, layer.in_channels, 8, 8),))
        reordered.append(sum(piece.layout for piece in runtime.pieces(operation)))
    assert reordered[0] > 0 and reordered[1] == 0


class TestLatencyModel(EvaluatorContract):
    def evaluator(self):
        return LatencyModel(runtime="torch")

    def space(self):
        return ChannelSpace(Block().eval(), data().example())

    def data(self):
        return data()
