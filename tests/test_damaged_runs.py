"""Whichever file of a run is damaged: it goes on to the same result, or one line says what to do."""

import hashlib
import random
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save

from evaluators.inherited.files import InheritedFiles, ParentRecord
from run_search import main
from search.record.finals import load_finals
from search.record.ledger import Ledger
from search.setup.baseline import Baseline
from search.setup.damage import check_inherited, check_weights
from search.testing import pruning
from spaces.errors import InputError
from spaces.models import Perceptron
from spaces.seals import BrokenSealError, check_seal, seal


def flipped(content, rng, times=1):
    content = bytearray(content)
    for _ in range(times):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def test_a_seal_finds_every_changed_byte():
    content = save({"a": torch.arange(6.0), "b": torch.ones(2, 3, dtype=torch.int64)}, metadata={"x": "1"})
    sealed = seal(content)
    assert check_seal(sealed) and not check_seal(content)
    assert seal(sealed) == sealed
    names = sealed.index(b"sha256"), sealed.index(b"sha256") + 6
    for place in range(len(sealed)):
        if names[0] <= place < names[1]:
            continue  # without its seal a file is one of an older version
        damaged = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(BrokenSealError):
            check_seal(damaged)
    for size in range(len(sealed)):
        with pytest.raises(BrokenSealError):
            check_seal(sealed[:size])


@pytest.fixture
def baseline(tmp_path):
    from evaluators.data import Digits
    from evaluators.training.evaluator import Training

    def make():
        torch.manual_seed(0)
        folders = [tmp_path / "run" / "state", tmp_path / ".cache"]
        return Baseline(Perceptron([64, 4, 10]), Digits(train_samples=50), Training(epochs=1), 0, folders)

    return make


def test_damaged_weights_of_the_base_model_are_not_believed(baseline, tmp_path):
    first = baseline()
    first.train(lambda report: None)
    expected = first.model.state_dict()
    own, cached = (folder / f"{first.key}.safetensors" for folder in first.folders)
    content = own.read_bytes()
    rng = random.Random(0)
    for change in (
        lambda: flipped(content, rng),
        lambda: content[:-1],
        lambda: content[:50],
        lambda: b"",
        lambda: content[:-4] + np.float32(1.5).tobytes(),
    ):
        own.write_bytes(change())
        again = baseline()
        assert again.load() and again.damaged == [own], "the copy beside it is sound"
        again.keep()
        assert own.read_bytes() == content and not again.damaged
        assert all(torch.equal(value, expected[name]) for name, value in again.model.state_dict().items())
    own.write_bytes(flipped(content, rng))
    cached.write_bytes(content[:-4] + np.float32(1.5).tobytes())
    again = baseline()
    assert not again.load() and again.damaged == [own, cached]
    again.train(lambda report: None)
    assert own.read_bytes() == cached.read_bytes() == content, "trained again, they are the same"


def test_a_run_goes_on_with_the_base_weights_that_it_began_with(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", pruning(8).space)
    model = Perceptron([4, 3, 2])
    check_weights(model, ledger)
    check_weights(model, ledger)
    with torch.no_grad():
        next(model.parameters()).add_(1e-6)
    with pytest.raises(InputError, match="trained weights are others than this run began with"):
        check_weights(model, ledger)
    ledger.close()


def test_what_candidates_left_to_others_is_looked_through(tmp_path):
    from evaluators.base import Candidate, Evaluation, State

    problem, files = pruning(8), InheritedFiles(tmp_path)
    owner = {"run": "x", "genome": "00", "seed": 1, "parents": []}
    for id in (-1, 0, 1):
        files.write(id, ParentRecord({"a": torch.arange(6.0) + id}, owner, 0.5, 1, 1))
    ledger = Ledger(tmp_path / "ledger.db", problem.space)
    candidate = Candidate(0, problem.space.sample(1, np.random.default_rng(0))[0])
    ledger.add_candidates([candidate])
    ledger.add_evaluation(Evaluation(candidate, State.COMPLETE, {}))
    problem.evaluator.damaged = files.damaged
    check_inherited(problem.evaluator, ledger)
    for id, refused in ((1, False), (0, True), (-1, True)):
        whole = files.path(id).read_bytes()
        files.path(id).write_bytes(flipped(whole, random.Random(id)))
        assert files.read(id) is None and files.damaged() == {id: files.path(id)}
        if refused:
            with pytest.raises(InputError, match="damaged; expected the weights that") as error:
                check_inherited(problem.evaluator, ledger)
            assert str(error.value).startswith(str(files.path(id)))
        else:
            check_inherited(problem.evaluator, ledger)  # it has no evaluation yet, and is evaluated again
        files.path(id).write_bytes(whole)
    ledger.close()


FILES = (
    "ledger.db",
    "study.log",
    "config.yaml",
    "environment.json",
    "front.csv",
    "state/*.safetensors",
    "models/*/weights.safetensors",
    "models/*/recipe.json",
)


def outcome(folder):
    """What a run found, and what it exported."""
    ledger = Ledger.reader(folder / "ledger.db")
    folders = [folder / final.folder for final in load_finals(ledger) if final.folder]
    models = sorted(one / "weights.safetensors" for one in folders)
    rows = [(e.candidate.id, e.candidate.genome.tobytes(), e.metrics) for _, e in ledger.evaluations()]
    ledger.close()
    hashes = [(file.parent.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in models]
    return sorted(rows), hashes


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_damaged_run_goes_on_to_the_same_result_or_is_one_line(tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    settings = {
        "name": "run",
        "runs": str(tmp_path / "runs"),
        "executor": "inline",
        "model": {"class_path": "spaces.models.Perceptron", "init_args": {"widths": [64, 4, 10]}},
        "training": {"epochs": 1},
        "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 50}},
        "search": {"lag": 2, "chunk": 2, "budget": {"evaluations": 4}},
        "finish": {"members": 1, "epochs": 1, "onnx": False, "latency_seconds": 0.0},
    }
    mine.write_text(yaml.safe_dump(settings))
    assert main([str(mine)]) == 0
    shutil.copytree(tmp_path / "runs", tmp_path / "begun")
    more = [str(mine), "--search.budget.evaluations", "6"]
    assert main(more) == 0
    expected = outcome(tmp_path / "runs" / "run")
    rng = random.Random(0)
    refused = 0
    for number in range(3 * len(FILES)):
        shutil.rmtree(tmp_path / "runs")
        shutil.copytree(tmp_path / "begun", tmp_path / "runs")
        (file,) = (tmp_path / "runs" / "run").glob(FILES[number % len(FILES)])
        content = file.read_bytes()
        cut = number // len(FILES) == 2
        file.write_bytes(content[: rng.randrange(1, len(content))] if cut else flipped(content, rng, 3))
        if "state" in FILES[number % len(FILES)]:
            shutil.rmtree(tmp_path / "runs" / ".cache")
        capsys.readouterr()
        code = main(more)  # whatever escapes fails the test
        told = capsys.readouterr().err
        if code == 2:
            refused += 1
            assert told.startswith(f"error: {file}") and told.count("\n") == 1, told
            assert "give this run another name" in told
            assert main([*more, "--name", "other"]) == 0, "the advice helps"
            candidates, models = outcome(tmp_path / "runs" / "other")  # which finishes but once
            assert candidates == expected[0] and set(models) <= set(expected[1])
        else:
            assert code == 0, told
            candidates, models = outcome(tmp_path / "runs" / "run")
            assert candidates == expected[0], (file, told)
            # a damaged model that is no longer chosen is let go; nothing else is
            let_go = [model for model in expected[1] if model not in models]
            assert set(models) <= set(expected[1]) and len(let_go) <= ("models" in str(file)), (file, told)
    assert refused < 6, "only the ledger is not to be had again"
