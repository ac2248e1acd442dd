"""A whole search whose children inherit weights: repeated, killed and taken up again, finished, on Ray."""

import signal
from typing import ClassVar

import pytest
import torch

from evaluators import Cost, Evaluator, InheritedTraining, Report, Training, assess, fit
from evaluators.data import Digits
from evaluators.inherited.growth import grow
from evaluators.inherited.steps import BriefTraining
from search import Evolution, Finish, Search
from search.executors.ray_tasks import RayExecutor
from spaces.choices import Choice, ChoiceSpace, Integer
from spaces.models import Perceptron


class Killed(BaseException):
    """What the signal raises: nobody catches it."""


@pytest.fixture(autouse=True)
def deadly():
    def die(number, frame):
        raise Killed

    before = signal.signal(signal.SIGALRM, die)
    yield
    signal.signal(signal.SIGALRM, before)


class Killer(Evaluator):
    """Ends the process' work at a candidate, when its weights are on disk and the ledger knows
    nothing of it.
    """

    metrics = ("alive",)
    at = None

    def evaluate(self, model, candidate):
        if candidate.id == self.at:
            signal.raise_signal(signal.SIGALRM)
        yield Report({"alive": 1.0})


@pytest.fixture
def data():
    return Digits(train_samples=100)


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    model = Perceptron((64, 12, 10))
    for _ in fit(model, data, Training(epochs=3)):
        pass
    return model


@pytest.fixture
def make(model, data):
    def search(directory=None, population=6, **settings):
        return Search(
            model,
            data,
            evaluators=[Cost(), InheritedTraining(steps=4, batch_size=32), Killer()],
            objectives=["loss", "macs"],
            strategy=Evolution(population=population),
            lag=4,
            chunk=2,
            directory=directory,
            finish=Finish(
                members=1, epochs=1, base=False, onnx=False, latency_repeats=2, latency_seconds=0.0
            ),
            study=False,
            **settings,
        )

    return search


def members(result):
    return [(m.candidate.id, m.candidate.genome.tobytes(), m.metrics) for m in result.front]


def test_two_searches_find_one_front_of_lineages_and_a_member_is_what_was_scored(make, data):
    one, other = make().run(evaluations=24), make().run(evaluations=24)
    assert members(one) == members(other)
    generations = [m.metrics["generation"] for m in one.front]
    assert max(generations) >= 2
    assert [m.metrics["lineage_steps"] for m in one.front] == [
        4 * (generation + 1) for generation in generations
    ]
    for member in one.front:
        built = assess(one.build(member).eval(), data, data.batches("search", 256))
        assert built["loss"] == member.metrics["loss"]


def test_killed_and_run_again_it_ends_with_the_same_front_and_trains_nothing_twice(
    make, tmp_path, monkeypatch
):
    whole = make().run(evaluations=18)
    trained = []
    train = BriefTraining.__call__

    def counted(self, model, data, seed, *rest):
        trained.append(seed)
        return train(self, model, data, seed, *rest)

    monkeypatch.setattr(BriefTraining, "__call__", counted)
    for at in (3, 13):
        monkeypatch.setattr(Killer, "at", at)
        with pytest.raises(Killed):
            make(tmp_path / "run").run(evaluations=18)
    monkeypatch.setattr(Killer, "at", None)
    result = make(tmp_path / "run").run(evaluations=18)
    assert members(result) == members(whole)
    assert len(trained) == len(set(trained)) == 19  # the base model, and every candidate


def test_what_nobody_inherits_any_more_is_deleted_and_nothing_changes_by_that(
    make, data, tmp_path, monkeypatch
):
    kept = make(tmp_path / "kept", population=20).run(evaluations=48)
    monkeypatch.setattr("search.loop._TIDY", 4)
    make(tmp_path / "tidied", population=20).run(evaluations=31)
    tidied = make(tmp_path / "tidied", population=20).run(evaluations=48)
    assert members(tidied) == members(kept)
    files = [len(list((tmp_path / name).rglob("lineage/*.safetensors"))) for name in ("kept", "tidied")]
    assert files[0] == 49 and 20 < files[1] < 40, files
    for member in tidied.front:
        assert (
            assess(tidied.build(member).eval(), data, data.batches("search", 256))["loss"]
            == member.metrics["loss"]
        )


def test_fine_tuning_begins_with_what_was_inherited(make, data, tmp_path):
    result = make(tmp_path / "run").run(evaluations=16)
    (final,) = result.finals
    assert not final.reason and final.differences["after"] < 1e-4
    member = next(m for m in result.front if m.candidate.id == final.id)
    assert final.test["test_loss_before"] == pytest.approx(
        assess(result.build(member).eval(), data, data.batches("test", 256))["loss"], rel=1e-6
    )


class Nets(ChoiceSpace):
    width = Choice([4, 6, 8, 12])
    depth = Integer(1, 4)
    default: ClassVar = {"width": 4, "depth": 1}

    def build_from(self, width, depth):
        return Perceptron((64, *[width] * depth, 10))


def test_architectures_that_grow_are_killed_run_again_and_end_the_same(data, tmp_path, monkeypatch):
    def search(directory):
        return Search(
            data=data,
            space=Nets(),
            evaluators=[Cost(), InheritedTraining(steps=4, batch_size=32), Killer()],
            objectives=["loss", "macs"],
            strategy=Evolution(population=4),
            lag=2,
            chunk=1,
            directory=directory,
            finish=Finish(
                members=1, epochs=1, base=False, onnx=False, latency_repeats=2, latency_seconds=0.0
            ),
            study=False,
        )

    grown = []
    monkeypatch.setattr(
        "evaluators.inherited.transfer.grow", lambda *given: grown.append(grow(*given)) or grown[-1]
    )
    whole = search(tmp_path / "whole").run(evaluations=16)
    assert sum(grown) >= 2  # some of them only grew
    monkeypatch.setattr(Killer, "at", 11)
    with pytest.raises(Killed):
        search(tmp_path / "run").run(evaluations=16)
    monkeypatch.setattr(Killer, "at", None)
    assert members(search(tmp_path / "run").run(evaluations=16)) == members(whole)


@pytest.mark.slow
def test_ray_workers_that_share_the_folder_find_the_same_front(make, tmp_path):
    inline = make(tmp_path / "inline").run(evaluations=24)
    executor = RayExecutor(workers=2, batch=1)
    result = make(tmp_path / "ray", executor=executor).run(evaluations=24)
    assert members(result) == members(inline)
    assert max(m.metrics["generation"] for m in result.front) >= 2
