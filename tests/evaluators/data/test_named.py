"""Inputs by name and targets of any structure, through a whole search."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators import Arrays, Latency
from evaluators.cost import count
from evaluators.data import Data
from evaluators.inherited.teaching import Teacher
from evaluators.testing import DataContract
from evaluators.tic import TIC
from operators.criteria import Taylor
from operators.criteria.scoring import score_all
from search import Search, load
from spaces import ChannelSpace
from spaces.calling import call

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
MASK = np.ones(120, dtype=np.float32)
CLASSES = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


class Net(nn.Module):
    """Needs its mask, which comes by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor, *, mask: Tensor, scale: Tensor | None = None) -> Tensor:
        return self.last(self.norm(self.first(x)).relu() * mask[:, None])


class Boxed(Data):
    """Arrays whose targets are a mapping and a list of tables."""

    metric_names = ("error",)
    fingerprint = "boxed"

    def __init__(self) -> None:
        self.data = Arrays({"mask": MASK, "x": X}, CLASSES)

    def batches(self, split: Any, size: int, generator: Any = None) -> Iterator[Any]:
        for inputs, targets in self.data.batches(split, size, generator):
            yield inputs, {"tables": [torch.ones(int(y), 4) for y in targets], "classes": targets}

    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        assert all(table.shape[1] == 4 for table in targets["tables"])
        return self.data.loss(outputs, targets["classes"])

    def metrics(self, outputs: Tensor, targets: Any) -> dict[str, Tensor]:
        return {"error": self.data.metrics(outputs, targets["classes"])["error"]}


class TestNamedArrays(DataContract):
    def data(self) -> Data:
        return Arrays({"mask": MASK, "x": X}, CLASSES)

    def model(self) -> nn.Module:
        return Net()


class TestTargetsOfAnyStructure(DataContract):
    def data(self) -> Data:
        return Boxed()

    def model(self) -> nn.Module:
        return Net()


def test_names_belong_to_the_fingerprint() -> None:
    assert Arrays({"a": X, "b": MASK}, CLASSES).fingerprint != Arrays((X, MASK), CLASSES).fingerprint


def test_a_space_traces_slices_and_verifies_a_model_called_by_name() -> None:
    example = Boxed().example()
    space = ChannelSpace(Net(), example)
    genome = np.ones(space.length, dtype=np.uint8)
    genome[:4] = 0
    assert [segment.size for segment in space.segments] == [8]
    assert space.difference(genome) < 1e-6
    swapped = {name: example[name] for name in ("x", "mask")}
    assert torch.equal(call(space.reference(genome), swapped), call(space.reference(genome), example))
    assert count(space.build(genome), example)["params"] == 6 * 4 + 4 + 8 + 4 * 3 + 3


def test_criteria_teachers_and_tic_take_inputs_by_name() -> None:
    data, model = Arrays({"mask": MASK, "x": X}, CLASSES), Net()
    space = ChannelSpace(model, data.example())
    batches = list(data.batches("calibration", 8))
    assert np.isfinite(score_all([Taylor()], model, batches, space.plan, data.loss)["taylor"]).all()
    teacher = Teacher(model, data, mixtures=5)
    lessons = list(teacher.batches(16, torch.Generator().manual_seed(0)))
    assert sum(len(lesson.batch[0]["x"]) for lesson in lessons) == data.size("train") + 5
    for path in ("hooks", "functional"):
        tic = TIC(path=path)
        found = tic(model, "cross_entropy", next(data.batches("train", 12)), train_loss=1.0, n=60)
        assert np.isfinite(found.bias)


def test_latency_of_a_model_called_by_name() -> None:
    data = Boxed()
    evaluator = Latency(repeats=1, warmup=0, seconds=0)
    evaluator.bind(ChannelSpace(Net(), data.example()), data)
    (report,) = evaluator.evaluate(Net(), None)
    assert report.metrics["latency_ms"] > 0


def test_a_search_of_a_model_called_by_name_exports_what_loads_again(tmp_path: Any) -> None:
    result = Search(Net(), Boxed(), lag=4, chunk=2, finish=None).run(evaluations=4)
    recipe = result.export(tmp_path, 0)
    again = load(tmp_path, Net())
    example = Boxed().example()
    assert torch.allclose(call(again, example), call(result.build(0), example), atol=1e-5)
    assert recipe.onnx.get("dynamic_batch") in (True, None)
