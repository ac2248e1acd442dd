"""DataLoaders, Datasets and Hugging Face datasets as data."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from evaluators import Arrays, Classification, Loaders, Regression, TokenClassification
from evaluators.data.given import data_of
from evaluators.data.sources import divided
from evaluators.data.task import prediction
from evaluators.testing import DataContract
from search import Search
from spaces.errors import InputError

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(120, 6)).astype(np.float32))
CLASSES = (X[:, 0] > 0.8).long() + (X[:, 1] > 0)
SET = TensorDataset(X, CLASSES)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Named(Dataset[dict[str, Any]]):
    """Samples by name, with something that is no tensor, and their labels at hand."""

    targets = CLASSES.tolist()

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"input": X[place], "label": self.targets[place], "text": "sample"}


class Flow(IterableDataset[tuple[Tensor, Tensor]]):
    """Samples one after another."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((X[i], CLASSES[i]) for i in range(self.first, self.last))


class TestOneDataset(DataContract):
    def data(self) -> Loaders:
        return Loaders(SET)

    def model(self) -> nn.Module:
        return net()


class TestBatchesByName(DataContract):
    def data(self) -> Loaders:
        return Loaders(Named())

    def model(self) -> nn.Module:
        return net()


class TestFlows(DataContract):
    """Their order is their own."""

    def data(self) -> Loaders:
        parts = [DataLoader(Flow(0, 60), 16), Flow(60, 80), Flow(80, 100), Flow(100, 120)]
        return Loaders(*parts)

    def model(self) -> nn.Module:
        return net()

    def test_a_generator_shuffles_and_its_seed_decides(self) -> None:
        """Nothing shuffles what flows."""


def all_of(data: Loaders, split: Any, size: int = 16) -> Tensor:
    return torch.cat([inputs for inputs, _ in data.batches(split, size)])


def test_missing_splits_are_divided_off_class_by_class() -> None:
    data = Loaders(SET)
    sizes = [data.size(split) for split in ("train", "calibration", "search", "test")]
    assert sum(sizes) == 120 and abs(sizes[0] - 60) <= 3
    counts = torch.bincount(CLASSES).double()
    for split in ("calibration", "search", "test"):
        labels = torch.cat([targets for _, targets in data.batches(split, 64)])
        share = torch.bincount(labels, minlength=3) - counts * {"calibration": 0.1}.get(split, 0.2)
        assert share.abs().max() <= 1
    assert Loaders(SET, seed=1).fingerprint != data.fingerprint == Loaders(SET).fingerprint


def test_a_given_split_stays_whole_and_the_others_are_divided_off_train() -> None:
    held = TensorDataset(X[:30] + 9, CLASSES[:30])
    data = Loaders(SET, test=held)
    assert torch.equal(all_of(data, "test"), X[:30] + 9)
    assert data.size("train") + data.size("calibration") + data.size("search") == 120


def test_labels_that_are_not_at_hand_divide_at_random() -> None:
    places = divided(None, np.arange(100), {"train": 0.7, "search": 0.3}, 0)
    assert len(places["train"]) == 70 and sorted(np.concatenate([*places.values()])) == [*range(100)]


def test_what_a_sampler_draws_is_what_there_is() -> None:
    data = Loaders(
        DataLoader(SET, 8, sampler=SubsetRandomSampler(range(40))),
        shares={"test": 0.2, "search": 0.2, "calibration": 0.2},
    )
    read = torch.cat([all_of(data, split) for split in ("train", "calibration", "search", "test")])
    assert sorted(read[:, 0].tolist()) == sorted(X[:40, 0].tolist())
    weights = torch.zeros(120).index_fill(0, torch.arange(10), 1.0)
    drawn = Loaders(DataLoader(SET, 8, sampler=WeightedRandomSampler(weights.tolist(), 50)), SET, SET, SET)
    batches = list(drawn.batches("train", 16, torch.Generator().manual_seed(0)))
    assert sum(len(inputs) for inputs, _ in batches) == 50
    assert {*torch.cat([inputs for inputs, _ in batches])[:, 0].tolist()} <= {*X[:10, 0].tolist()}


def test_measured_batches_are_no_larger_than_the_loaders() -> None:
    data = Loaders(DataLoader(SET, 4))
    assert {len(y) for _, y in data.batches("search", 256)} <= {1, 2, 3, 4}
    assert len(next(data.batches("train", 32))[1]) == 32


def test_calibration_is_bounded() -> None:
    for train in (SET, DataLoader(Flow(0, 120), 50)):
        data = Loaders(
            train, SET if train is SET else DataLoader(Flow(0, 120), 50), SET, SET, calibration_samples=70
        )
        assert len(all_of(data, "calibration", 32)) == data.size("calibration") == 70


def test_only_what_is_asked_for_is_read_of_what_flows() -> None:
    read: list[int] = []

    class Endless(IterableDataset[tuple[Tensor, int]]):
        def __iter__(self) -> Iterator[tuple[Tensor, int]]:
            while True:
                read.append(1)
                yield X[0], 0

    data = Loaders(Endless(), Endless(), SET, SET, calibration_samples=20, version="endless")
    assert data.size("calibration") == 20 and data.fingerprint
    assert len(read) < 60


def test_batches_that_a_flow_makes_itself_are_cut() -> None:
    class Whole(IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return ((X[i : i + 40], CLASSES[i : i + 40]) for i in (0, 40, 80))

    loader = DataLoader(Whole(), batch_size=None)
    data = Loaders(loader, loader, loader, loader)
    assert [len(y) for _, y in data.batches("train", 30)] == [30, 10] * 3


def test_names_of_a_batch() -> None:
    inputs, targets = next(Loaders(Named()).batches("train", 2))
    assert inputs.keys() == {"input"} and targets.dtype == torch.int64
    inputs, _ = next(Loaders(Named(), inputs="input").batches("train", 2))
    assert isinstance(inputs, Tensor)
    with pytest.raises(InputError, match=r"^data: a batch with input, label, text has no 'mask'"):
        next(Loaders(Named(), inputs=["input", "mask"]).batches("train", 2))
    inputs, _ = next(
        Loaders(Named(), unpack=lambda batch: ((batch["input"],), batch["label"])).batches("train", 2)
    )
    assert isinstance(inputs, tuple)


def test_the_task_is_told_by_the_targets() -> None:
    assert isinstance(Loaders(SET).task, Classification)
    assert isinstance(Loaders(TensorDataset(X, X[:, 0])).task, Regression)
    tokens = torch.zeros(120, 4, dtype=torch.long).index_fill(1, torch.tensor([3]), -100)
    assert isinstance(Loaders(TensorDataset(X, tokens)).task, TokenClassification)
    with pytest.raises(InputError, match=r"^data: targets are a dict.*; expected loss= and metrics="):
        Loaders([(X[i], {"box": X[i]}) for i in range(40)])


def test_a_loss_of_the_users_may_be_a_mean() -> None:
    data = Loaders(
        SET, loss=nn.CrossEntropyLoss(), metrics={"error": lambda o, y: (o.argmax(1) != y).float()}
    )
    inputs, targets = next(data.batches("train", 8))
    outputs = net()(inputs)
    assert torch.allclose(
        data.loss(outputs, targets), nn.functional.cross_entropy(outputs, targets).expand(8)
    )
    assert data.metric_names == ("error",) and data.metrics(outputs, targets)["error"].shape == (8,)


def test_tokens_that_do_not_count_are_left_out() -> None:
    logits = torch.zeros(1, 3, 2)
    logits[0, :, 1] = 9.0
    labels = torch.tensor([[1, 0, -100]])
    metrics = TokenClassification().metrics(logits, labels)
    assert metrics["error"].tolist() == [0.5]
    assert TokenClassification(shift=True).metrics(logits, labels)["error"].tolist() == [1.0]
    assert TokenClassification().loss(logits, labels) == pytest.approx(4.5, abs=0.01)


def test_logits_are_found_in_any_outputs() -> None:
    logits = torch.zeros(2, 3)
    for outputs in (logits, {"loss": torch.ones(()), "logits": logits}, (logits, torch.ones(1))):
        assert prediction(outputs) is logits


def test_class_weights_weigh_the_loss_alone() -> None:
    plain, weighted = Loaders(SET), Loaders(SET, class_weights="balanced")
    inputs, targets = next(plain.batches("train", 16))
    outputs = net()(inputs)
    counts = torch.bincount(torch.cat([y for _, y in plain.batches("train", 64)]))
    expected = plain.loss(outputs, targets) * (counts.sum() / 3 / counts)[targets]
    assert torch.allclose(weighted.loss(outputs, targets), expected, rtol=1e-4)
    assert torch.equal(weighted.metrics(outputs, targets)["error"], plain.metrics(outputs, targets)["error"])
    with pytest.raises(InputError, match="class_weights need the task classification"):
        Loaders(TensorDataset(X, X), class_weights=[1.0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": X}, "data: train is a Tensor; expected a torch DataLoader"),
        (
            {"train": Flow(0, 60)},
            "data: train flows and cannot be divided; expected calibration, search, test",
        ),
        ({"train": []}, "data: split 'train' is empty"),
        ({"train": SET, "task": "detection"}, "data: task 'detection'; expected classification, regression"),
        ({"train": SET, "shares": {"train": 1.0}}, "data: shares"),
        ({"train": TensorDataset(X[:3], CLASSES[:3])}, "data: 3 samples leave split"),
        ({"train": TensorDataset(X)}, "data: a batch is a list; expected inputs and targets"),
        ({"train": DataLoader(SET, batch_size=None)}, "data: train is a DataLoader with batch_size None"),
        ({"train": TensorDataset(X, CLASSES - 1)}, "data: sample .* has the label -1"),
    ],
)
def test_bad_input_gives_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}") as error:
        Loaders(**given).validate()
    assert "\n" not in str(error.value)


def test_hugging_face_datasets_give_tensors_by_name() -> None:
    datasets = pytest.importorskip("datasets")
    columns = {"input": X.tolist(), "label": CLASSES.tolist(), "text": ["a"] * 120}
    whole = datasets.Dataset.from_dict(columns)
    data = Loaders(whole)
    assert data.size("train") == Loaders(SET).size("train")  # by the column of labels
    inputs, targets = next(data.batches("train", 4))
    assert inputs["input"].shape == (4, 6) and targets.shape == (4,)
    flow = whole.to_iterable_dataset()
    assert next(Loaders(flow, whole, whole, whole).batches("train", 4))[0]["input"].shape == (4, 6)


def test_every_process_opens_its_own() -> None:
    loader = DataLoader(SET, 8, num_workers=1, persistent_workers=True)
    next(iter(loader))
    data = Loaders(loader)
    again = pickle.loads(pickle.dumps(data))
    assert again.fingerprint == data.fingerprint
    assert torch.equal(all_of(again, "search"), all_of(data, "search"))


class Flipping(Dataset[tuple[Tensor, Tensor]]):
    """Draws a sign whenever it is read."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return X[place] * torch.randn(1).sign(), CLASSES[place]


def test_what_is_augmented_has_a_fingerprint() -> None:
    torch.manual_seed(3)
    first = Loaders(Flipping()).fingerprint
    torch.manual_seed(4)
    assert Loaders(Flipping()).fingerprint == first


def test_a_search_takes_a_loader_and_a_dataset() -> None:
    result = Search(net(), DataLoader(SET, 32, shuffle=True), lag=2, chunk=1).run(evaluations=2)
    assert result.front
    samples = [{"pixels": x, "label": y} for x, y in SET]
    assert isinstance(next(data_of(DataLoader(samples), net()).batches("train", 2))[0], Tensor)
    assert Search(net(), (X, CLASSES)).preparation.data is not None
    for given in ((SET, SET), (X, CLASSES, X, CLASSES), [X, CLASSES], X.numpy()):
        with pytest.raises(
            InputError, match=r"^data: a [\w ,]+; expected an evaluators.data.Data, arrays as"
        ):
            Search(net(), given)


def test_the_arguments_that_forward_has_are_taken() -> None:
    class TwoNames(nn.Module):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return ids * mask

    rows = [{"ids": X[i], "mask": X[i], "number": i, "labels": 0} for i in range(40)]
    inputs, _ = next(data_of(DataLoader(rows, 4), TwoNames()).batches("train", 2))
    assert inputs.keys() == {"ids", "mask"}
    none = [{"a": X[i], "b": X[i], "labels": 0} for i in range(40)]
    with pytest.raises(
        InputError, match=r"^data: none of a, b is an argument of TwoNames.forward \(ids, mask\)"
    ):
        data_of(DataLoader(none, 4), TwoNames())
    assert isinstance(data_of(Arrays(X, CLASSES), None), Arrays)


def test_pairs_of_arrays_are_taken() -> None:
    alone, told = data_of((X.numpy(), CLASSES), None), Arrays(X, CLASSES)
    assert alone.fingerprint == told.fingerprint
    two = data_of(({"a": X, "b": X}, CLASSES), None)
    assert {*next(iter(two.batches("train", 2)))[0]} == {"a", "b"}
    both = data_of(((X[:90], CLASSES[:90]), (X[90:].numpy(), CLASSES[90:])), None)
    assert [both.size(split) for split in ("train", "calibration", "search", "test")] == [63, 9, 18, 30]
    assert torch.equal(all_of(both, "test"), X[90:])
    backwards = data_of((X.numpy()[::-1].astype(">f4")[::-1], CLASSES.numpy()), None)
    assert backwards.fingerprint == told.fingerprint, "whatever the order in memory"
    with pytest.raises(InputError, match=r"^data: inputs are of torch.float32, torch.sparse_coo; expected"):
        data_of((X.to_sparse(), CLASSES), None)
    for other in ((X[:, :5], CLASSES), (X, CLASSES[1:])):
        with pytest.raises(InputError, match=r"^data: (training and test arrays|120 test inputs for 119)"):
            data_of(((X, CLASSES), other), None)


def test_inputs_that_forward_does_not_take_are_told_by_its_arguments() -> None:
    with pytest.raises(
        InputError,
        match=r"^data: the inputs \(2 by place\) are not the arguments of Sequential.forward \(input\): too",
    ):
        Search(net(), ((X, X), CLASSES)).run(evaluations=1)
    with pytest.raises(InputError, match=r"^data: train is missing; expected a torch DataLoader"):
        Loaders(None)
