"""A training that is stopped, killed, or finds its file damaged goes on as if nothing had been."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evaluators import Candidate, Digits, assess
from evaluators.tic import TIC
from search.curves import repeats

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from trial_case import EPOCHS, evaluator, genome, same, space, start, stopped, told, with_state  # noqa: E402


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("epochs", range(1, EPOCHS + 1))
def test_what_is_resumed_is_as_if_it_had_never_stopped(tmp_path, optimiser, epochs):
    whole = told(evaluator(), Candidate(4, genome(optimiser), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(optimiser), seed=7), epochs)
    same(told(with_state(tmp_path), Candidate(9, genome(optimiser), (4,), "resume", seed=123)), whole)
    same(told(with_state(tmp_path), Candidate(4, genome(optimiser), seed=7)), whole)
    same(
        told(with_state(tmp_path), Candidate(11, genome(optimiser), (4, 9), "resume", seed=5)), whole
    )  # all is there: nothing is trained


def test_a_chain_of_rungs_is_one_training(tmp_path):
    whole = told(evaluator(), Candidate(0, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(0, genome(), seed=7), 1)
    stopped(with_state(tmp_path), Candidate(5, genome(), (0,), "resume", seed=8), 3)
    (tmp_path / "trials" / "0.pt").unlink()
    same(told(with_state(tmp_path), Candidate(6, genome(), (5,), "resume", seed=9)), whole)


def test_who_is_stopped_among_the_reports_of_the_parent_can_be_resumed(tmp_path):
    """A worker trains ahead until word of a pause reaches it."""
    whole = told(evaluator(), Candidate(0, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(0, genome(), seed=7), 4)
    stopped(with_state(tmp_path), Candidate(1, genome(), (0,), "resume", seed=8), 2)
    (tmp_path / "trials" / "0.pt").unlink()
    same(told(with_state(tmp_path), Candidate(2, genome(), (1,), "resume", seed=9)), whole)


def test_a_killed_process_loses_no_more_than_its_epoch(tmp_path):
    script = f"from trial_case import wait_to_be_killed; wait_to_be_killed({str(tmp_path)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=HERE
    ) as process:
        assert process.stdout is not None
        lines = []
        while (line := process.stdout.readline().strip()) not in ("waiting", ""):
            lines.append(line)
        process.send_signal(signal.SIGKILL)
    assert lines == ["1", "2"] and process.returncode == -signal.SIGKILL
    trained = []
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    same(told(counting(tmp_path, trained), Candidate(4, genome(), seed=7)), whole)
    assert len(trained) == EPOCHS - 2


class Counted(Digits):
    def batches(self, split, size, generator=None):
        if generator is not None:
            self.trained.append(split)
        return super().batches(split, size, generator)


def counting(folder, trained, **settings):
    """An evaluator that notes every epoch it trains."""
    data = Counted(train_samples=120)
    data.trained = trained
    return with_state(folder, data=data, **settings)


def test_checkpoints_may_be_rarer_than_epochs(tmp_path):
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    trained: list = []
    stopped(with_state(tmp_path, checkpoint_every=2), Candidate(4, genome(), seed=7), 3)
    same(told(counting(tmp_path, trained, checkpoint_every=2), Candidate(4, genome(), seed=7)), whole)
    assert len(trained) == EPOCHS - 2
    trained.clear()
    same(told(counting(tmp_path, trained, checkpoint_every=2), Candidate(4, genome(), seed=7)), whole)
    assert not trained, "the last epoch is written, whatever its number"


def test_only_an_operator_that_resumes_looks_at_the_parent(tmp_path):
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), 2)
    same(
        told(with_state(tmp_path), Candidate(9, genome(), (4,), "mutation", seed=1)),
        told(evaluator(), Candidate(9, genome(), seed=1)),
    )


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told(evaluator(), Candidate(0, genome(), seed=1))
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_file_a_trial_that_executes_nothing(tmp_path):
    told(with_state(tmp_path), Candidate(4, genome(), seed=7))
    assert [file.name for file in (tmp_path / "trials").iterdir()] == ["4.pt"]
    assert torch.load(tmp_path / "trials" / "4.pt", weights_only=True)["state"]["ended"]


class Boom:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOOM"],)


def _truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty(file):
    file.write_bytes(b"")


def _executable(file):
    torch.save({"key": "", "state": Boom()}, file)


def _pickled(file):
    file.write_bytes(pickle.dumps(Boom()))


def _folder(file):
    file.unlink()
    file.mkdir()


def _of_another_setting(file):
    file.unlink()
    other = with_state(file.parents[1], batch_size=16)
    stopped(other, Candidate(4, genome(), seed=7), 2)


def _of_another_genome(file):
    file.unlink()
    stopped(with_state(file.parents[1]), Candidate(4, genome("sgd"), seed=7), 2)


@pytest.mark.parametrize(
    "damage", [_truncated, _empty, _executable, _pickled, _of_another_setting, _of_another_genome]
)
def test_a_file_that_is_damaged_or_foreign_counts_as_none(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("BOOM", str(tmp_path / "boom"))
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), 2)
    damage(tmp_path / "trials" / "4.pt")
    trained: list = []
    same(told(counting(tmp_path, trained), Candidate(4, genome(), seed=7)), whole)
    assert len(trained) == EPOCHS and not (tmp_path / "boom").exists()


def test_one_wrong_bit_anywhere_is_noticed_or_harmless(tmp_path):
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), EPOCHS - 1)
    file = tmp_path / "trials" / "4.pt"
    sound = file.read_bytes()
    state = torch.load(file, weights_only=True)["state"]
    tensors = [
        state["model"]["1.weight"],
        state["optimiser"]["state"][0]["exp_avg"],
        state["random"],
        state["watch"]["1.weight"],
    ]
    places = [sound.index(tensor.numpy().tobytes()) + 33 for tensor in tensors]
    anywhere = random.Random(0)
    for place in [*places, *(anywhere.randrange(len(sound)) for _ in range(16))]:
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 64]) + sound[place + 1 :])
        same(told(with_state(tmp_path), Candidate(4, genome(), seed=7)), whole)


def test_a_damaged_file_of_ones_own_leaves_the_parents(tmp_path):
    whole = told(evaluator(), Candidate(4, genome(), seed=7))
    stopped(with_state(tmp_path), Candidate(4, genome(), seed=7), 3)
    (tmp_path / "trials" / "9.pt").write_bytes(b"half a fi")
    trained: list = []
    same(told(counting(tmp_path, trained), Candidate(9, genome(), (4,), "resume", seed=1)), whole)
    assert len(trained) == EPOCHS - 3


def test_the_kept_weights_are_those_of_the_best_epoch_resumed_or_not(tmp_path):
    settings = {"epochs": 12, "schedule": "constant", "tic": None}
    params = {"training.learning_rate": 0.1, "training.optimiser": "adamw", "model.dropout": 0.0}
    given = space().encode(params)
    *reports, model = start(with_state(tmp_path, **settings), Candidate(4, given, seed=7))
    losses = [report.metrics["loss"] for report in reports[:12]]
    assert losses.index(min(losses)) < 11 and reports[-1].step == 13, "the example must overfit"
    data = Digits(train_samples=120)
    for again in (model, list(start(with_state(tmp_path, **settings), Candidate(4, given, seed=7)))[-1]):
        assert assess(again, data, data.batches("search", 256))["loss"] == pytest.approx(
            min(losses), rel=1e-6
        )


@pytest.mark.parametrize("stops", [0, 4])
def test_the_steady_loss_is_the_lowest_mean_of_five_epochs_and_outlives_the_weights_put_back(tmp_path, stops):
    settings = {"epochs": 12, "schedule": "constant", "tic": TIC("trace"), "bias_share": 0.5}
    given = space().encode(
        {"training.learning_rate": 0.1, "training.optimiser": "adamw", "model.dropout": 0.0}
    )
    if stops:
        stopped(with_state(tmp_path, **settings), Candidate(4, given, seed=7), stops)
    *reports, _ = start(with_state(tmp_path, **settings), Candidate(4, given, seed=7))
    values = [report.metrics["loss"] + 0.5 * report.metrics["tic_bias"] for report in reports[:12]]
    means = [sum(values[max(0, i - 4) : i + 1]) / min(5, i + 1) for i in range(12)]
    assert [report.metrics["steady_loss"] for report in reports[:12]] == pytest.approx(
        [min(means[: i + 1]) for i in range(12)]
    )
    assert reports[-1].step == 13 and reports[-1].metrics["steady_loss"] == reports[11].metrics["steady_loss"]
    earlier = [report.metrics for report in reports]
    assert [repeats(earlier[i], earlier[:i]) for i in range(13)] == [False] * 12 + [True], (
        "the view and the pruners must see it"
    )
