"""The last stage: what is chosen is tuned once, verified, exported and measured, whatever interrupts it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Cost, Distillation, Evaluators, FineTuning, Quality, count
from evaluators.base import Candidate, Evaluation, Evaluator, Report, State
from evaluators.data import Arrays, Data
from evaluators.training import TrainingSettings
from search.executors import InlineExecutor
from search.finish.export import ONNX, ModelSource
from search.finish.finish import Finish, choose, front_of
from search.finish.recipe import RECIPE, WEIGHTS, load
from search.front import Front
from search.problem import Constraint, Objective, Problem
from search.record.about import About
from search.record.finals import BASE, Final, load_finals
from search.record.ledger import Ledger
from search.report.table import text
from search.testing import pruning
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
    base = measure(space, evaluator, space.base)
    return Problem(
        space, evaluator, (Objective("error"), Objective("macs")), (Constraint.parse("macs <= 80%"),), base
    )


def measure(space: ChannelSpace, evaluator: Evaluators, genome: np.ndarray) -> dict[str, float]:
    *_, report = evaluator.evaluate(space.build(genome), Candidate(0, genome))
    return {
        name: float(values[0]) for name, values in evaluator.screen(genome[None]).items()
    } | report.metrics


@pytest.fixture
def ledger(problem: Problem, tmp_path: Path) -> Iterator[Ledger]:
    """A run of 120 candidates."""
    ledger = Ledger(tmp_path / "ledger.db", problem.space)
    About.of("toy", problem).save(ledger)
    candidates = [
        Candidate(id, genome) for id, genome in enumerate(problem.space.sample(120, np.random.default_rng(1)))
    ]
    ledger.add_candidates(candidates)
    for candidate in candidates:
        ledger.add_evaluation(
            Evaluation(candidate, State.COMPLETE, measure(problem.space, problem.evaluator, candidate.genome))
        )  # type: ignore[arg-type]
    ledger.commit()
    yield ledger
    ledger.close()


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Candidates in the order in which their tuning began."""
    began: list[int] = []
    evaluate = FineTuning.evaluate

    def witness(self: FineTuning, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        began.append(candidate.id)
        yield from evaluate(self, model, candidate)

    monkeypatch.setattr(FineTuning, "evaluate", witness)
    return began


def finish(problem: Problem, ledger: Ledger, tmp_path: Path, **settings: object) -> list[Final]:
    defaults: dict[str, object] = {
        "members": 3,
        "epochs": 2,
        "onnx": False,
        "latency_repeats": 2,
        "latency_seconds": 0.0,
    }
    return Finish(**(defaults | settings)).run(problem, InlineExecutor(), ledger, tmp_path, origin=ORIGIN)  # type: ignore[arg-type]


def test_members_are_tuned_verified_exported_and_measured(
    problem: Problem, ledger: Ledger, tmp_path: Path
) -> None:
    finals = finish(problem, ledger, tmp_path, epochs=6)
    chosen = [member.candidate.id for member in choose(front_of(problem, ledger), 3)]
    assert [final.id for final in finals] == [BASE, *chosen] and len(chosen) == 3
    space, data = problem.space, problem.evaluator.data
    assert data is not None and isinstance(space, ChannelSpace)
    for final in finals:
        assert final.reason == "" and {
            "test_error_before",
            "test_error",
            "test_loss_before",
            "test_loss",
        } <= set(final.test)
        assert final.differences["before"] < 1e-5 and final.differences["after"] < 1e-5
        assert all(final.requested[cost] == final.realised[cost] for cost in ("params", "macs", "bytes"))
        assert final.realised["latency_ms"] > 0
    for final in finals[1:]:
        candidate = ledger.evaluation(final.id)
        assert candidate is not None and final.searched == candidate.metrics
        model = load(tmp_path / final.folder)
        assert count(model, data.example())["macs"] == final.realised["macs"] == candidate.metrics["macs"]
        inputs, targets = next(data.batches("test", 1000))
        error = float((model(inputs).argmax(1) != targets).double().mean())
        assert error == pytest.approx(final.test["test_error"]), (
            "the exported weights are not the tested ones"
        )
        (limit,) = final.limits
        assert (
            limit.met
            and limit.bound == pytest.approx(0.8 * problem.base["macs"])
            and limit.value == final.realised["macs"]
        )
    assert sum(final.test["test_loss"] - final.test["test_loss_before"] for final in finals) < 0, (
        "tuning learns nothing"
    )


def test_tuning_changes_neither_space_nor_base_model(
    problem: Problem, ledger: Ledger, tmp_path: Path
) -> None:
    assert isinstance(problem.space, ChannelSpace)
    before = {name: tensor.clone() for name, tensor in problem.space.model.state_dict().items()}
    finish(problem, ledger, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in problem.space.model.state_dict().items())


def test_what_is_done_is_not_done_again(
    problem: Problem, ledger: Ledger, tmp_path: Path, tuned: list[int]
) -> None:
    first = finish(problem, ledger, tmp_path, members=2)
    assert len(tuned) == 3
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("models/*/*")}
    assert finish(problem, ledger, tmp_path, members=2) == first == load_finals(ledger)
    assert (
        len(tuned) == 3 and {file: file.stat().st_mtime_ns for file in tmp_path.glob("models/*/*")} == written
    )
    more = finish(problem, ledger, tmp_path, members=3)
    assert len(more) == 4 and sorted(tuned[3:]) == sorted(
        {final.id for final in more} - {final.id for final in first}
    )
    before = len(tuned)
    finish(problem, ledger, tmp_path, members=3, epochs=3)
    assert len(tuned) == before + 4, "other settings make another model"


def test_killed_at_any_point_nothing_is_tuned_twice(
    problem: Problem, ledger: Ledger, tmp_path: Path, tuned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    events = InlineExecutor.events
    finished = 0

    def dying(self: InlineExecutor, timeout: float | None = None) -> list[object]:
        nonlocal finished
        if finished == 2:
            raise Killed
        found = events(self, timeout)
        finished += sum(hasattr(event, "evaluation") for event in found)
        return found  # type: ignore[return-value]

    with monkeypatch.context() as patch:
        patch.setattr(InlineExecutor, "events", dying)
        with pytest.raises(Killed):
            finish(problem, ledger, tmp_path)
    assert len(tuned) == 2
    with monkeypatch.context() as patch:  # now between tuning and export of the second member

        def export(*_: object, **__: object) -> None:
            if not (tmp_path / "models").is_dir():
                (tmp_path / "models").mkdir()
                raise Killed

        patch.setattr("search.finish.finish.Finish._export", export)
        with pytest.raises(Killed):
            finish(problem, ledger, tmp_path)
    assert len(tuned) == 4
    finals = finish(problem, ledger, tmp_path)
    assert len(tuned) == len(set(tuned)) == 4 and len(finals) == 4
    assert all((tmp_path / final.folder / RECIPE).is_file() for final in finals[1:])
    assert all(ledger.load_arrays(f"tuned/{final.id}") is None for final in finals), (
        "the weights stay twice on the disk"
    )


def test_files_that_are_gone_or_changed_are_made_again(
    problem: Problem, ledger: Ledger, tmp_path: Path, tuned: list[int]
) -> None:
    finals = finish(problem, ledger, tmp_path)
    weights = [tmp_path / final.folder / WEIGHTS for final in finals[1:]]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in weights]
    weights[0].unlink()
    weights[1].write_bytes(b"something else")
    finish(problem, ledger, tmp_path)
    assert sorted(tuned[4:]) == sorted(final.id for final in finals[1:3])
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in weights] == digests, (
        "the same candidate, the same tuning"
    )


def test_a_member_that_fails_is_told_and_the_others_go_on(
    problem: Problem, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = choose(front_of(problem, ledger), 3)[1].candidate.id
    evaluate = FineTuning.evaluate

    def failing(self: FineTuning, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        if candidate.id == bad:
            raise MemoryError("no room")
        yield from evaluate(self, model, candidate)

    monkeypatch.setattr(FineTuning, "evaluate", failing)
    finals = finish(problem, ledger, tmp_path)
    assert [final.reason for final in finals if final.id == bad] == ["MemoryError: no room"]
    assert all(final.reason == "" for final in finals if final.id != bad)
    assert "MemoryError: no room" in text(finals, About.load(ledger))


def test_a_model_that_differs_from_the_masked_one_is_not_exported(
    problem: Problem, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ChannelSpace,
        "difference",
        lambda self, genome, inputs=None, compact=None: 0.5 if compact is not None else 0.0,
    )
    finals = finish(problem, ledger, tmp_path)
    assert all(
        "differs from the masked full one by 5.0e-01" in final.reason and final.folder == ""
        for final in finals
    )
    assert not list(tmp_path.glob("models/*/*"))


def test_onnx_is_written_and_timed(problem: Problem, ledger: Ledger, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    finals = finish(problem, ledger, tmp_path, members=1, onnx=True, base=False)
    (final,) = finals
    assert final.onnx["max_difference"] < 1e-5 and final.realised["onnx_latency_ms"] > 0
    (tmp_path / final.folder / ONNX).unlink()
    finish(problem, ledger, tmp_path, members=1, onnx=True, base=False)
    assert (tmp_path / final.folder / ONNX).is_file()


class Predicted(Evaluator):
    """Latency of a runtime of its own: a microsecond a thousand MACs, predicted a quarter too high."""

    screened = ("latency_ms",)

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "latency_ms": 1.25 * self.space.build(genomes[0]).layers[0].out_features * np.ones(len(genomes))
        }

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        yield Report({})

    def measured(self, model: nn.Module) -> dict[str, float]:
        return {"latency_ms": float(model.layers[0].out_features)}


def test_limits_on_latency_hold_in_the_runtime_of_the_search(
    problem: Problem, ledger: Ledger, tmp_path: Path
) -> None:
    assert problem.evaluator.data is not None
    evaluator = Evaluators([*problem.evaluator.parts, Predicted()])
    evaluator.bind(problem.space, problem.evaluator.data)
    limited = replace(problem, evaluator=evaluator, constraints=(Constraint.parse("latency_ms <= 1000"),))
    finals = finish(limited, ledger, tmp_path, members=1, epochs=1)
    for final in finals:
        assert final.requested["latency_ms"] == 1.25 * final.realised["latency_ms"]
        assert 0 < final.realised["torch_latency_ms"] != final.realised["latency_ms"]
    assert finals[1].limits[0].value == finals[1].realised["latency_ms"] >= 1
    assert "predicted within 25% (median) of what it is here" in text(finals, About.of("toy", limited))


def test_an_empty_front_is_no_error(problem: Problem, tmp_path: Path) -> None:
    ledger = Ledger(None, problem.space)
    assert finish(problem, ledger, tmp_path) == []


def test_the_time_limit_of_the_search_does_not_hold_for_tuning(
    problem: Problem, ledger: Ledger, tmp_path: Path
) -> None:
    executor = InlineExecutor(time_limit=1e-6)
    finals = Finish(members=1, epochs=1, onnx=False, latency_repeats=1, latency_seconds=0.0).run(
        problem, executor, ledger, tmp_path
    )
    assert all(final.reason == "" for final in finals) and executor.time_limit == 1e-6


def test_chosen_members_stand_for_the_front() -> None:
    problem = pruning(30)
    front = Front(problem)
    for id, (error, macs) in enumerate(
        [(0.5, 0.05), (0.11, 0.50), (0.10, 0.51), (0.09, 0.52), (0.01, 1.0), (0.3, 0.2)]
    ):
        front.add(
            Evaluation(Candidate(id, np.zeros(30, np.uint8)), State.COMPLETE, {"error": error, "macs": macs})
        )
    chosen = [member.candidate.id for member in choose(front, 3)]
    assert chosen[0] == 4, "the best in the first objective comes first"
    assert len({1, 2, 3} & set(chosen)) == 1, "three that are all but the same stand for one another"
    assert [m.candidate.id for m in choose(front, 99)] == [m.candidate.id for m in front.members]
    assert choose(front, 0) == []


def test_collapsed_members_are_passed_over_while_there_are_others() -> None:
    problem = pruning(30)
    problem.base = {"error": 0.05, "macs": 1.0}
    front = Front(problem)
    for id, (error, macs) in enumerate([(0.05, 0.9), (0.1, 0.8), (0.3, 0.4), (0.5, 0.3), (0.9, 0.01)]):
        front.add(
            Evaluation(Candidate(id, np.zeros(30, np.uint8)), State.COMPLETE, {"error": error, "macs": macs})
        )
    assert 4 not in [member.candidate.id for member in choose(front, 3)]
    assert [member.candidate.id for member in choose(front, 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "settings",
    [{"members": -1}, {"epochs": -1}, {"latency_repeats": 0}, {"latency_seconds": -1.0}, {"time_limit": 0.0}],
)
def test_settings_out_of_range_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Finish(**settings)  # type: ignore[arg-type]


class Killed(BaseException):
    pass


def tune_only(problem: Problem, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune all members, and be killed before anything is exported."""

    def export(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("search.finish.finish.Finish._export", export)
        with pytest.raises(Killed):
            finish(problem, ledger, tmp_path)


def test_tuned_weights_lie_in_files_named_by_what_they_hold_until_they_are_exported(
    problem: Problem, ledger: Ledger, tmp_path: Path, tuned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tune_only(problem, ledger, tmp_path, monkeypatch)
    folder = tmp_path / "state" / "tuned"
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert len(files) == 4 and all(hashlib.sha256(held).hexdigest() == name for name, held in files.items())
    assert ledger.named_arrays("tuned/") == {}
    assert {note["weights"] for note in ledger.notes("tuned/").values()} == set(files)
    (folder / "notes.txt").write_text("somebody else's")
    (folder / ("0" * 64)).write_text("of a run that was killed before it was noted")
    (folder / f".{'0' * 64}-half").write_text("half written")
    finals = finish(problem, ledger, tmp_path)
    assert len(tuned) == 4 and all(not final.reason for final in finals)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_a_damaged_or_lost_file_of_tuned_weights_is_tuned_again(
    problem: Problem, ledger: Ledger, tmp_path: Path, tuned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tune_only(problem, ledger, tmp_path, monkeypatch)
    first, second, *_ = sorted(
        (note["weights"], int(id)) for id, note in ledger.notes("tuned/").items() if int(id) != BASE
    )
    (tmp_path / "state" / "tuned" / first[0]).write_bytes(b"rubbish")
    (tmp_path / "state" / "tuned" / second[0]).unlink()
    before = list(tuned)
    finals = finish(problem, ledger, tmp_path)
    assert sorted(tuned[len(before) :]) == sorted((first[1], second[1]))
    assert all(not final.reason for final in finals)


def test_weights_that_an_older_version_kept_in_the_ledger_are_exported(
    problem: Problem, ledger: Ledger, tmp_path: Path, tuned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tune_only(problem, ledger, tmp_path, monkeypatch)
    folder = tmp_path / "state" / "tuned"
    for id, note in ledger.notes("tuned/").items():
        held = np.frombuffer((folder / note.pop("weights")).read_bytes(), np.uint8)
        ledger.save_note(f"tuned/{id}", note)
        ledger.save_arrays(f"tuned/{id}", {"weights": held})
    ledger.commit()
    finals = finish(problem, ledger, tmp_path)
    assert len(tuned) == 4 and all(not final.reason for final in finals)
    assert ledger.named_arrays("tuned/") == {} and list(folder.iterdir()) == []


# -- without tuning, or with a function of the user's --------------------------------------------------------


def test_without_epochs_members_are_exported_as_the_search_left_them(
    problem: Problem, ledger: Ledger, tmp_path: Path
) -> None:
    finals = finish(problem, ledger, tmp_path, epochs=0)
    assert len(finals) == 4 and not any(final.reason or final.was_tuned for final in finals)
    for final in finals[1:]:
        genome = ledger.evaluation(final.id).candidate.genome
        weights, built = load(tmp_path / final.folder).state_dict(), problem.space.build(genome).state_dict()
        assert all(torch.equal(weights[name], tensor) for name, tensor in built.items())
        assert "test_error" in final.test and "test_error_before" not in final.test
        assert json.loads((tmp_path / final.folder / RECIPE).read_text())["tuning"] == "not tuned"
    shown = text(finals, About.of("toy", problem))
    assert "tuned" not in shown.splitlines()[1] and "finish.epochs is 0, nothing was fine-tuned" in shown
    tuned = finish(problem, ledger, tmp_path, epochs=1)  # later they are tuned after all
    latest = [final for final in tuned if not final.earlier]
    assert all("test_error_before" in final.test for final in latest)
    assert "tuning" not in json.loads((tmp_path / latest[1].folder / RECIPE).read_text())


calls: list[int] = []


def halve(model: nn.Module, data: Data, settings: TrainingSettings, by: float = 0.5) -> None:
    calls.append(settings.epochs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(by)


def fail(model: nn.Module, data: Data, settings: TrainingSettings) -> None:
    calls.append(settings.epochs)
    raise RuntimeError("no such file")


def test_a_function_of_the_users_tunes_once_and_the_recipe_names_it(
    problem: Problem, ledger: Ledger, tmp_path: Path
) -> None:
    calls.clear()
    given = {"class_path": f"{__name__}.halve", "init_args": {"by": 0.25}}
    finals = finish(problem, ledger, tmp_path, tune=given)
    assert finish(problem, ledger, tmp_path, tune=given) == finals and calls == [2] * 4
    recipe = json.loads((tmp_path / finals[1].folder / RECIPE).read_text())
    assert recipe["tuning"] == f"{__name__}.halve(by=0.25)"
    built = problem.space.build(ledger.evaluation(finals[1].id).candidate.genome)
    loaded = load(tmp_path / finals[1].folder).state_dict()
    assert all(torch.equal(loaded[name], 0.25 * tensor) for name, tensor in built.state_dict().items())
    finish(problem, ledger, tmp_path, tune=halve)  # another argument is another tuning
    assert len(calls) == 8


def test_a_function_that_fails_is_told_member_by_member_and_tried_again(
    problem: Problem, ledger: Ledger, tmp_path: Path
) -> None:
    calls.clear()
    for times in (1, 2):
        finals = finish(problem, ledger, tmp_path, tune=fail)
        assert {final.reason for final in finals} == {"RuntimeError: no such file"}
        assert len(calls) == 4 * times
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"tune": "no.such.module"}, "finish.tune: 'no.such.module' cannot be imported .*expected"),
        ({"tune": f"{__name__}.calls"}, "finish.tune: .*calls' is a list; expected"),
        ({"tune": 3}, "finish.tune: 3; expected a function"),
        (
            {"tune": {"class_path": f"{__name__}.Calls", "init_args": {"x": 1}}},
            "finish.tune: init_args do not",
        ),
        ({"tune": halve, "epochs": 0}, "finish: tune with epochs 0"),
        ({"tune": halve, "distillation": Distillation()}, "finish: distillation with tune"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_at_once(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        Finish(**settings)


class Calls:
    def __call__(self, model: nn.Module, data: Data, settings: TrainingSettings) -> None: ...
