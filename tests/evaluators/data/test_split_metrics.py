"""Metrics of a whole split: what scikit-learn says of all samples at once, whatever the batches."""

import pickle

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn

import secateur
from evaluators import (
    Arrays,
    Augmented,
    Candidate,
    Cost,
    Data,
    Digits,
    FineTuning,
    Quality,
    Training,
    TrialTraining,
    WithSplitMetrics,
    assess,
)
from evaluators.assessment import assessed
from evaluators.testing import DataContract
from search import Evolution, Finish, Search
from search.config.settings import Settings
from spaces import ChannelSpace
from spaces.errors import InputError
from spaces.models import Perceptron


def f1(outputs, targets):
    return f1_score(targets, outputs.argmax(1), average="macro")


def auc(outputs, targets):
    return roc_auc_score(targets, outputs.softmax(1)[:, 1])


def largest(outputs, targets, of=1.0):
    return outputs.max() * of


class Scores(nn.Module):
    """Gives back its inputs, so that what is measured is known."""

    def forward(self, x):
        return x


def scored(samples=200):
    """Scores of two classes whose AUC is .9 in the search split, by how they are made, and the targets."""
    rng = np.random.default_rng(0)
    targets = rng.integers(2, size=samples)
    return np.stack([np.zeros(samples), targets + rng.normal(0, 1, samples)], 1), targets


@pytest.mark.parametrize("size", [1, 7, 32, 1000])
def test_f1_and_auc_are_those_of_the_whole_split_at_every_batch_size(size):
    scores, targets = scored()
    data = Arrays(scores, targets, split_metrics={"f1": f1, "auc": auc})
    rows = data.rows("search")
    found = assess(Scores(), data, data.batches("search", size))
    picked, wanted = torch.tensor(scores[rows]).float(), targets[rows]
    assert found["f1"] == f1_score(wanted, picked.argmax(1), average="macro")
    assert found["auc"] == pytest.approx(roc_auc_score(wanted, picked[:, 1].numpy()), abs=1e-12)
    assert list(found) == list(assessed(data))


def test_an_auc_of_nine_tenths_is_told_as_that():
    # of ten positives and ten negatives, in any order, 90 of 100 pairs are in the right order
    positive, negative = np.arange(10) + 9.5, np.arange(10.0)
    positive[0] = -1.0
    scores = np.concatenate([positive, negative])
    order = np.random.default_rng(1).permutation(20)
    inputs = np.stack([np.zeros(20), scores], 1)[order]
    targets = np.repeat([1, 0], 10)[order]
    rows = {
        split: np.arange(20) + 20 * i for i, split in enumerate(("train", "calibration", "search", "test"))
    }
    data = Arrays(np.tile(inputs, (4, 1)) / 20, np.tile(targets, 4), rows, split_metrics={"auc": auc})
    for size in (3, 8, 20):
        assert assess(Scores(), data, data.batches("search", size))["auc"] == pytest.approx(0.9, abs=1e-12)


class Boxes(Data):
    """Toy detection: every image has boxes, more or fewer, in a list; a score and a class for each."""

    metric_names = ()
    fingerprint = "boxes"

    def batches(self, split, size, generator=None):
        for start in range(0, 10, size):
            rows = range(start, min(start + size, 10))
            yield torch.tensor([[float(i)] for i in rows]), torch.tensor([i % 4 for i in rows])

    def loss(self, outputs, targets):
        return outputs["scores"][:, 0]

    def metrics(self, outputs, targets):
        return {}

    @property
    def split_metrics(self):
        return {"map": self.precision}

    @staticmethod
    def precision(outputs, targets):
        """Mean share of the boxes that an image has, of those found; an image in three has none."""
        assert len(outputs["boxes"]) == len(outputs["scores"]) == len(targets)
        shares = [min(len(b) / max(int(n), 1), 1.0) for b, n in zip(outputs["boxes"], targets, strict=True)]
        return np.mean(shares)


class Detector(nn.Module):
    def forward(self, x):
        return {"scores": x, "boxes": [torch.zeros(int(i) % 3, 4) for i in x[:, 0]]}


@pytest.mark.parametrize("size", [2, 3, 10])
def test_lists_of_one_item_a_sample_are_joined_in_order(size):
    wanted = np.mean([min((i % 3) / max(i % 4, 1), 1.0) for i in range(10)])
    found = assess(Detector(), Boxes(), Boxes().batches("search", size))
    assert found["map"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (lambda o, t: o, r"split metric 'mine' gives Tensor of shape \(40, 2\); expected one number"),
        (lambda o, t: None, "split metric 'mine' gives NoneType; expected one number"),
        (lambda o, t: {"a": 1.0}, "split metric 'mine' gives dict; expected one number"),
        (lambda o, t: 1 / 0, "split_metrics fail on the search split: ZeroDivisionError"),
        (lambda o, t: float("nan"), "split metric 'mine' of the base model is nan on the search split"),
    ],
)
def test_what_is_no_number_is_refused_before_the_search(tmp_path, function, line):
    data = Arrays(*scored(), split_metrics={"mine": function})
    with pytest.raises(InputError, match=f"^data: {line}"):
        Search(Perceptron((2, 4, 2)), data, directory=tmp_path / "run", study=False).run(evaluations=2)
    assert not (tmp_path / "run" / "ledger.db").exists()


def test_one_name_for_two_metrics_is_refused():
    data = Arrays(*scored(), split_metrics={"error": auc})
    with pytest.raises(InputError, match="data: two metrics are called 'error'"):
        Search(Perceptron((2, 4, 2)), data).run(evaluations=2)


def test_batches_that_do_not_join_are_refused():
    class Ragged(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), len(x))

    data = Arrays(*scored(), split_metrics={"auc": auc})
    data.task = type(data.task)(300)
    with pytest.raises(InputError, match=r"split_metrics of batches whose samples have shapes \(\d+,\), "):
        assess(Ragged(), data, data.batches("search", 33))


def network():
    torch.manual_seed(0)
    return Perceptron((2, 8, 2)).eval()


def test_a_search_maximises_it_and_finishing_tests_it(tmp_path):
    data = Arrays(*scored(400), split_metrics={"auc": auc})
    finish = Finish(members=1, epochs=2, onnx=False, latency_repeats=2, latency_seconds=0.0)
    search = Search(
        network(), data, objectives=["max auc", "params"], constraints=["auc >= 0.2"], finish=finish,
        strategy=Evolution(population=4), directory=tmp_path / "run", study=False, lag=4, chunk=2,
    )  # fmt: skip
    result = search.run(evaluations=8)
    told = [member.metrics["auc"] for member in result.front]
    assert told == sorted(told, reverse=True)
    inputs, targets = next(iter(data.batches("search", 1000)))
    with torch.no_grad():
        assert told == [auc(result.build(member)(inputs), targets) for member in result.front]
        inputs, targets = next(iter(data.batches("test", 1000)))
        assert result.finals[1].test["test_auc"] == auc(result.tuned(1)(inputs), targets)
    assert "test auc" in result.table()


@pytest.mark.parametrize(
    "evaluator", [Training(epochs=1), TrialTraining(epochs=1), FineTuning(Training(epochs=1))]
)
def test_every_evaluator_that_measures_has_it(evaluator):
    data = Arrays(*scored(), split_metrics={"f1": f1})
    space = ChannelSpace(network(), data.example())
    evaluator.bind(space, data)
    *_, report = evaluator.evaluate(space.build(space.base), Candidate(0, space.base))
    assert set(report.metrics) == set(evaluator.metrics) and "f1" in report.metrics | {
        name.removeprefix("test_"): value for name, value in report.metrics.items()
    }


def test_other_data_get_them_by_a_wrapper():
    digits = Digits()
    data = WithSplitMetrics(digits, {"f1": f"{__name__}.f1"})
    assert data.split_metrics == {"f1": f1}
    assert data.fingerprint != digits.fingerprint
    assert data.fingerprint == WithSplitMetrics(digits, {"f1": f1}).fingerprint
    assert data.fingerprint != WithSplitMetrics(digits, {"f1": auc}).fingerprint
    assert (data.task, data.size("test")) == (digits.task, digits.size("test"))
    assert Augmented(data).split_metrics == data.split_metrics


class TestWithSplitMetrics(DataContract):
    def data(self):
        return WithSplitMetrics(Digits(), {"f1": f1})

    def model(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_without_them_arrays_are_what_they_were():
    scores, targets = scored()
    assert Arrays(scores, targets).fingerprint == Arrays(scores, targets, split_metrics={}).fingerprint
    with_them = Arrays(scores, targets, split_metrics={"f1": f1})
    assert with_them.fingerprint != Arrays(scores, targets).fingerprint
    assert pickle.loads(pickle.dumps(with_them)).split_metrics == {"f1": f1}


def test_a_configuration_names_the_functions(tmp_path):
    path = tmp_path / "split.yaml"
    of = {"class_path": f"{__name__}.largest", "init_args": {"of": 2.0}}
    metrics = {"f1": f"{__name__}.f1", "largest": of}
    path.write_text(
        yaml.safe_dump(
            {
                "model": {"class_path": "Perceptron", "init_args": {"widths": [64, 8, 10]}},
                "data": {
                    "class_path": "WithSplitMetrics",
                    "init_args": {"data": {"class_path": "Digits"}, "split_metrics": metrics},
                },
            }
        )
    )
    data = Settings.parse([str(path)], secateur.HOMES).make("data")
    assert data.split_metrics["f1"] is f1
    assert data.split_metrics["largest"](torch.ones(3), None) == 2.0
    again = Settings.parse([str(path)], secateur.HOMES)
    (tmp_path / "dumped.yaml").write_text(again.dump())
    dumped = Settings.parse([str(tmp_path / "dumped.yaml")], secateur.HOMES).make("data")
    assert dumped.fingerprint == data.fingerprint


def test_quality_and_cost_name_all_that_they_give():
    data = Arrays(*scored(), split_metrics={"f1": f1})
    space = ChannelSpace(network(), data.example())
    for evaluator, names in ((Quality(), {"loss", "error", "f1"}), (Cost(), set())):
        evaluator.bind(space, data)
        assert names <= set(evaluator.metrics)
