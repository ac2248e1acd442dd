from __future__ import annotations

import threading

import pytest
import torch

from evaluators import Digits, Distillation, Training, fit
from evaluators.training.checkpoint import Checkpoint
from spaces.models import Perceptron, ResidualNet

DATA = Digits(train_samples=120)
SETTINGS = [
    {"epochs": 4, "batch_size": 32},
    {"epochs": 4, "optimiser": "sgd", "learning_rate": 0.05, "schedule": "constant", "clip": 1.0},
    {"epochs": 30, "learning_rate": 0.05, "schedule": "constant", "patience": 2},
    {"epochs": 3, "distillation": Distillation()},
    {"epochs": 9, "optimiser": "sgd", "learning_rate": 1e12, "schedule": "constant"},
]


def trained(settings, checkpoint=None, most=None, seed=3):
    """Train from a seed, stopping at a report; return reports, weights and what torch draws next."""
    torch.manual_seed(11)
    teacher = Perceptron((64, 16, 10))
    torch.manual_seed(seed)
    model = ResidualNet((4, 6))
    reports = []
    for report in fit(model, DATA, Training(**settings), teacher, checkpoint=checkpoint):
        reports.append((report.step, repr(report.metrics)))  # nan is itself
        if len(reports) == most:
            break
    return reports, {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.rand(3)


def same(one, other):
    assert one[0] == other[0] and torch.equal(one[2], other[2])
    assert all(torch.equal(one[1][name].nan_to_num(7.0), other[1][name].nan_to_num(7.0)) for name in one[1])


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_training_may_be_stopped_after_every_epoch(tmp_path, settings):
    whole = trained(settings)
    same(trained(settings, Checkpoint(tmp_path / "all.pt")), whole)
    for most in range(1, len(whole[0]) + 1):
        file = tmp_path / f"{most}.pt"
        trained(settings, Checkpoint(file), most)
        same(trained(settings, Checkpoint(file), seed=99), whole)


def test_an_epoch_that_was_reported_is_in_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    for step, _ in enumerate(
        fit(Perceptron((64, 8, 10)), DATA, Training(epochs=3, keep_best=False), checkpoint=checkpoint), 1
    ):
        state = checkpoint.load()
        assert state is not None and len(state["reports"]) == step


def test_a_file_is_found_by_its_key_and_earlier_ones_are_taken_over(tmp_path):
    one, other = tmp_path / "deep" / "1.pt", tmp_path / "deep" / "2.pt"
    assert Checkpoint(one, "a").load() is None
    Checkpoint(one, "a").save({"epoch": 4})
    assert Checkpoint(one, "a").load() == {"epoch": 4} and Checkpoint(one, "b").load() is None
    assert Checkpoint(other, "b", [one]).load() is None and not other.exists()
    assert Checkpoint(other, "a", [tmp_path / "none.pt", one]).load() == {"epoch": 4}
    one.unlink()
    assert Checkpoint(other, "a").load() == {"epoch": 4}


def test_who_reads_while_it_is_written_finds_a_whole_file(tmp_path):
    checkpoint, ended = Checkpoint(tmp_path / "a.pt"), threading.Event()
    checkpoint.save({"number": 0, "values": torch.zeros(20_000)})

    def write():
        for number in range(1, 60):
            checkpoint.save({"number": number, "values": torch.full((20_000,), float(number))})
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    found = []
    while not ended.is_set():
        state = checkpoint.load()
        assert state is not None and (state["values"] == state["number"]).all()
        found.append(state["number"])
    writer.join()
    assert found == sorted(found) and [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    checkpoint.save({"epoch": 1})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        checkpoint.save({"epoch": 2, "bad": threading.Lock()})
    assert checkpoint.load() == {"epoch": 1} and [file.name for file in tmp_path.iterdir()] == ["a.pt"]
