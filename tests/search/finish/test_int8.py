"""int8 files of finished models: what they are made of, what stays float, what is not done twice."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")

from evaluators import Cost, Evaluators, FineTuning, Quality
from evaluators.base import Candidate, Evaluation, State
from evaluators.cost.onnx_extra import onnx_session
from evaluators.data import Arrays
from search.executors import InlineExecutor
from search.finish import int8
from search.finish.export import INT8, ONNX, ModelSource
from search.finish.finish import Finish
from search.finish.finished_models import is_finished
from search.finish.int8 import Goal
from search.finish.onnx_model import OnnxModel
from search.finish.quantiser import Quantiser
from search.problem import Objective, Problem
from search.record.about import About
from search.record.finals import Final
from search.record.ledger import Ledger
from search.report import write_report
from search.report.table import int8_words, text
from spaces.channels import ChannelSpace
from spaces.errors import InputError
from spaces.models import Perceptron

ORIGIN = ModelSource({"class_path": "spaces.models.Perceptron", "init_args": {"widths": [8, 16, 12, 3]}})


@pytest.fixture(scope="module")
def problem() -> Problem:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(240, 8)).astype(np.float32)
    data = Arrays(inputs, (inputs @ rng.normal(size=(8, 3))).argmax(axis=1))
    torch.manual_seed(0)
    space = ChannelSpace(Perceptron((8, 16, 12, 3)).eval(), data.example())
    evaluator = Evaluators([Cost(), Quality(record_activations=False)])
    evaluator.bind(space, data)
    return Problem(space, evaluator, (Objective("error"), Objective("macs")), (), {"error": 0.5, "macs": 400})


@pytest.fixture(scope="module")
def run(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, Path, Final]]:
    """A run of one candidate, finished with an int8 file."""
    folder = tmp_path_factory.mktemp("run")
    ledger = Ledger(folder / "ledger.db", problem.space)
    About.of("toy", problem).save(ledger)
    candidate = Candidate(0, np.ones(problem.space.length, np.uint8))
    ledger.add_candidates([candidate])
    metrics = {"error": 0.5, "macs": 350.0, "loss": 1.0}
    ledger.add_evaluation(Evaluation(candidate, State.COMPLETE, metrics))
    ledger.commit()
    (final,) = finish(problem, ledger, folder)
    yield ledger, folder, final
    ledger.close()


def finish(problem: Problem, ledger: Ledger, folder: Path, **settings: Any) -> list[Final]:
    given = {"members": 1, "epochs": 4, "base": False, "latency_repeats": 2, "latency_seconds": 0.0}
    given |= {"quantise": "int8", "tolerance": 0.05} | settings
    return Finish(**given).run(problem, InlineExecutor(), ledger, folder, origin=ORIGIN)


def test_the_file_is_what_was_measured(problem: Problem, run: tuple[Ledger, Path, Final]) -> None:
    _, folder, final = run
    file, known = folder / final.folder / INT8, final.int8
    assert known["bytes"] == file.stat().st_size and known["kept_float"] == [] and known["layers"] == 3
    assert known["reduce_range"] is not known["vnni"] and known["processor"]
    assert known["latency_ms"] > 0 and known["float_latency_ms"] > 0 and 0 < known["difference"] < 0.1
    inputs, targets = next(problem.evaluator.data.batches("test", 1000))
    (logits,) = onnx_session(file.read_bytes()).run(None, {"x": inputs.numpy()})
    assert known["test"]["test_error"] == pytest.approx(np.mean(logits.argmax(1) != targets.numpy()))
    assert known["test"]["test_error"] <= final.test["test_error"] + 0.1


def test_weights_are_int8_a_channel_each_and_activations_uint8(run: tuple[Ledger, Path, Final]) -> None:
    import onnx
    from onnx import numpy_helper

    _, folder, final = run
    held = [numpy_helper.to_array(one) for one in onnx.load(folder / final.folder / INT8).graph.initializer]
    weights = [array for array in held if array.dtype == np.int8 and array.ndim == 2]
    assert sorted(array.shape for array in weights) == [(3, 12), (12, 16), (16, 8)]
    assert {array.shape for array in held if array.dtype == np.float32 and array.ndim == 1} >= {(16,), (12,)}
    assert any(array.dtype == np.uint8 for array in held), "zero points of activations"
    if final.int8["reduce_range"]:
        assert max(int(np.abs(array.astype(int)).max()) for array in weights) <= 64


def test_ranges_are_of_the_calibration_split_and_layers_of_the_search_split(
    problem: Problem, run: tuple[Ledger, Path, Final], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, folder, _ = run
    read: list[str] = []
    batches = Arrays.batches
    monkeypatch.setattr(
        Arrays, "batches", lambda self, split, *a, **k: (read.append(split), batches(self, split, *a, **k))[1]
    )
    within = int8._within

    def witness(*given: Any) -> Any:
        assert "calibration" in read and "test" not in read
        found = within(*given)
        assert "test" not in read
        return found

    monkeypatch.setattr(int8, "_within", witness)
    (final,) = finish(problem, ledger, folder, tolerance=0.06)
    assert read.count("calibration") == 1 and read.count("test") == 1 and "settings" in final.int8


def test_what_is_done_is_not_done_again_and_what_is_lost_is(
    problem: Problem, run: tuple[Ledger, Path, Final], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, folder, first = run
    (first,) = finish(problem, ledger, folder)
    made: list[int] = []
    init = Quantiser.__init__
    monkeypatch.setattr(Quantiser, "__init__", lambda self, *a, **k: (made.append(1), init(self, *a, **k))[1])
    monkeypatch.setattr(FineTuning, "evaluate", None)  # nothing is tuned for it
    file, whole = folder / first.folder / INT8, folder / first.folder / ONNX
    held, float_file = file.read_bytes(), whole.read_bytes()
    assert finish(problem, ledger, folder) == [first] and made == []
    assert is_finished(ledger, folder)
    file.write_bytes(b"something else")
    assert not is_finished(ledger, folder)
    finish(problem, ledger, folder)
    assert file.read_bytes() == held and made == [1] and whole.read_bytes() == float_file
    (off,) = finish(problem, ledger, folder, quantise=None)
    assert off.int8["sha256"] == first.int8["sha256"] and made == [1]


def test_layers_that_lose_too_much_stay_float_by_name(
    problem: Problem, run: tuple[Ledger, Path, Final], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, folder, _ = run
    quantised = Quantiser.quantised

    def bad(self: Quantiser, layers: Any) -> bytes:
        """The second layer in int8 is a broken one."""
        content = quantised(self, layers)
        if self.layers[1] in layers:
            import onnx

            model = onnx.load_from_string(content)
            for one in model.graph.initializer:
                if one.data_type == onnx.TensorProto.INT8 and list(one.dims) == [12, 16]:
                    one.raw_data = bytes(len(one.raw_data))
            content = model.SerializeToString()
        return content

    monkeypatch.setattr(Quantiser, "quantised", bad)
    (final,) = finish(problem, ledger, folder, tolerance=0.04)
    assert final.int8["kept_float"] == ["layers.2"]
    shown = text([final], About.load(ledger))
    assert "stay float: layers.2" in shown
    monkeypatch.setattr(Quantiser, "quantised", lambda self, layers: b"no such model")
    (broken,) = finish(problem, ledger, folder, tolerance=0.03)
    assert "missing" in broken.int8 and not (folder / final.folder / INT8).exists()
    assert "no int8 file: " in text([broken], About.load(ledger))
    assert broken.folder and broken.test == final.test, "the float model stays"


def test_table_report_index_and_csv_have_its_figures(
    problem: Problem, run: tuple[Ledger, Path, Final]
) -> None:
    ledger, folder, _ = run
    (final,) = finish(problem, ledger, folder)
    shown = text([final], About.load(ledger))
    row = next(line for line in shown.splitlines() if line.startswith(" candidate 0, int8"))
    assert f"{final.int8['test']['test_error']:.4f}" in row and f"{final.int8['latency_ms']:.3f}" in row
    assert len(row) <= 80
    for took, slower in ((2.0, True), (0.5, False)):
        told = int8_words(replace(final, int8=final.int8 | {"latency_ms": took, "float_latency_ms": 1.0}))
        assert ("slower than the float file" in told) == slower
    page = write_report(folder).read_text()
    assert f"{final.folder}/{INT8}" in page and "int8" in page
    (model,) = json.loads((folder / "models" / "index.json").read_text())["models"]
    assert model["int8"]["test"] == final.int8["test"] and model["int8"]["bytes"] == final.int8["bytes"]
    header, line = (folder / "front.csv").read_text().splitlines()[:2]
    found = dict(zip(header.split(","), line.split(","), strict=True))
    assert float(found["int8_test_error"]) == final.int8["test"]["test_error"]
    assert float(found["int8_bytes"]) == final.int8["bytes"]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"quantise": "int4"}, "finish: quantise 'int4'; expected int8 or null"),
        ({"quantise": "int8", "onnx": False}, "finish: quantise with onnx false"),
        ({"tolerance": -0.1}, "finish: tolerance -0.1; expected"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        Finish(**settings)


def graph(*nodes: tuple[str, str, list[str], list[str]], outputs: list[str]) -> bytes:
    """An ONNX model of nodes ``(operation, name, inputs, outputs)`` over ``x``; ``w...`` are weights."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {name for _, _, inputs, _ in nodes for name in inputs if name.startswith("w")}
    made = helper.make_graph(
        [helper.make_node(kind, inputs, given, name=name) for kind, name, inputs, given in nodes],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), name) for name in sorted(weights)],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()


def test_what_hands_int8_on_is_quantised_where_all_readers_are() -> None:
    content = graph(
        ("MatMul", "first", ["x", "w1"], ["a"]),
        ("Relu", "between", ["a"], ["b"]),
        ("MatMul", "second", ["b", "w2"], ["c"]),
        ("Add", "sum", ["c", "b"], ["d"]),
        ("MatMul", "third", ["d", "w3"], ["e"]),
        ("Relu", "before softmax", ["e"], ["f"]),
        ("Softmax", "softmax", ["f"], ["g"]),
        ("MatMul", "of activations", ["g", "e"], ["h"]),
        ("Add", "bias", ["d", "w4"], ["i"]),
        outputs=["h", "i"],
    )
    with Quantiser(content, [{"x": np.ones((2, 4), np.float32)}], reduce_range=True) as quantiser:
        assert quantiser.layers == ["first", "second", "third"]
        # the bias reads the sum and stays float: the sum is not worth rounding
        assert quantiser._graph.carrying(["first", "second", "third"]) == []
        assert quantiser._graph.carrying([]) == []
    content = graph(
        ("MatMul", "first", ["x", "w1"], ["a"]),
        ("Relu", "between", ["a"], ["b"]),
        ("MatMul", "second", ["b", "w2"], ["c"]),
        ("Add", "sum", ["c", "b"], ["d"]),
        ("MatMul", "third", ["d", "w3"], ["e"]),
        outputs=["e"],
    )
    with Quantiser(content, [{"x": np.ones((2, 4), np.float32)}], reduce_range=True) as quantiser:
        assert quantiser._graph.carrying(["first", "second", "third"]) == ["between", "sum"]
        assert quantiser._graph.carrying(["first", "second"]) == []
        assert quantiser._graph.carrying(["second", "third"]) == ["sum"]


def test_outputs_have_the_structure_that_the_model_gives() -> None:
    content = graph(("Relu", "a", ["x"], ["y"]), ("Neg", "b", ["x"], ["z"]), outputs=["y", "z"])
    like = {"pair": (torch.zeros(1), None), "logits": torch.zeros(3)}
    found = OnnxModel(content, like)(torch.tensor([[1.0, -2.0, 3.0, 0.0]]))
    assert found["pair"][0].tolist() == [[1.0, 0.0, 3.0, 0.0]] and found["pair"][1] is None
    assert found["logits"].tolist() == [[-1.0, 2.0, -3.0, 0.0]]
    with pytest.raises(InputError, match="2 outputs; expected 1"):
        OnnxModel(content, torch.zeros(1))


@pytest.mark.parametrize(
    ("goal", "found", "met"),
    [
        (Goal("error", False, 0.01), 0.059, True),
        (Goal("error", False, 0.01), 0.061, False),
        (Goal("loss", False, 0.1), 0.054, True),
        (Goal("loss", False, 0.1), 0.056, False),
        (Goal("accuracy", True, 0.1), 0.046, True),
        (Goal("accuracy", True, 0.1), 0.044, False),
        (Goal("loss", False, 0.1), float("nan"), False),
    ],
)
def test_a_tolerance_is_of_errors_absolute_and_else_relative(goal: Goal, found: float, met: bool) -> None:
    assert goal.is_met({goal.metric: found}, {goal.metric: 0.05}) == met
