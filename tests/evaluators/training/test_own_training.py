"""Training by a function of the user's."""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from optuna.pruners import MedianPruner
from torch import Tensor, nn

from evaluators import Arrays, Candidate, OwnTraining, Training
from evaluators.training.lockstep import Stopped, reported
from evaluators.training.settings import TrainingSettings
from search import Evolution, Finish, Search, Tuning
from search.record.identity import describe
from spaces import ChannelSpace, TrialSpace
from spaces.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
DATA = Arrays(X, (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0))


def net(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def train(model: nn.Module, data: Any, budget: TrainingSettings, report: Callable[..., None]) -> None:
    """Plain descent, with a report an epoch."""
    optimiser = torch.optim.SGD(model.parameters(), budget.learning_rate)
    for epoch in range(budget.epochs):
        order = torch.Generator().manual_seed(epoch)
        for inputs, targets in data.batches("train", budget.batch_size, order):
            loss = data.loss(model(inputs), targets).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        report(train_loss=loss.item())


def reports_of(function: Callable[..., Any], model: nn.Module | None = None, **settings: Any) -> list[Any]:
    training = OwnTraining(function, **{"epochs": 3, "learning_rate": 0.1, **settings})
    space = ChannelSpace(net(), DATA.example())
    training.bind(space, DATA)
    return list(training.evaluate(model or net(), Candidate(0, np.ones(space.length, np.uint8))))


# -- in lockstep ---------------------------------------------------------------------------------------------


def test_a_function_that_reports_is_read_like_a_generator() -> None:
    steps = []

    def function(report: Callable[[int], None]) -> str:
        for number in range(3):
            steps.append(number)
            report(number)
        return "done"

    running = reported(function)
    assert steps == []
    assert next(running) == 0 and steps == [0]  # it waits until the next one is wanted
    assert [next(running), next(running)] == [1, 2]
    with pytest.raises(StopIteration) as end:
        next(running)
    assert end.value.value == "done"


def test_a_function_that_is_stopped_tidies_up_and_no_except_keeps_it() -> None:
    ended = []

    def function(report: Callable[[int], None]) -> None:
        try:
            while True:
                try:
                    report(1)
                except Exception:
                    ended.append("caught")
        finally:
            ended.append(threading.current_thread().name)

    before = threading.active_count()
    with closing(reported(function)) as running:
        next(running)
    assert len(ended) == 1 and ended != ["caught"] and threading.active_count() == before


def test_what_a_function_raises_is_raised_where_it_is_read() -> None:
    def function(report: Callable[[int], None]) -> None:
        report(1)
        raise ZeroDivisionError("mine")

    running = reported(function)
    next(running)
    with pytest.raises(ZeroDivisionError, match="mine"):
        next(running)


def test_an_interrupt_of_the_reader_ends_the_function_wherever_it_is() -> None:
    started, ended = threading.Event(), threading.Event()

    def function(report: Callable[[int], None]) -> None:
        try:
            started.set()
            while True:
                pass
        except Stopped:
            ended.set()
            raise

    def interrupted(*_: Any) -> None:
        started.wait()
        raise KeyboardInterrupt

    import signal

    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(reported(function))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended.is_set()


# -- as an evaluator -----------------------------------------------------------------------------------------


def test_every_report_is_measured_on_the_model_as_it_is() -> None:
    model = net()
    reports = reports_of(train, model)
    assert [report.step for report in reports] == [1, 2, 3]
    assert reports[0].metrics.keys() == {"train_loss", "loss", "error", "accuracy", "expected_error"}
    losses = [report.metrics["loss"] for report in reports]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]
    again = reports_of(train)
    assert [report.metrics for report in again] == [report.metrics for report in reports]


def test_a_function_that_never_reports_is_measured_at_its_end() -> None:
    (report,) = reports_of(lambda model, data, budget, report: train(model, data, budget, lambda **_: None))
    assert report.step == 1 and report.metrics["loss"] == reports_of(train)[-1].metrics["loss"]


def test_a_model_that_is_returned_is_taken_over() -> None:
    def wrapped(model: nn.Module, data: Any, budget: Any, report: Any) -> nn.Module:
        other = nn.DataParallel(net())
        with torch.no_grad():
            other.module[2].bias.fill_(7.0)
        return other

    model = net()
    reports_of(wrapped, model)
    assert (model[2].bias == 7).all()
    with pytest.raises(InputError, match=r"^training: .* returns '0.weight' as torch.float32 \(4, 6\)"):
        reports_of(lambda *_: net(4))
    with pytest.raises(InputError, match=r"^training: .* returns int; expected the tuned model, or None"):
        reports_of(lambda *_: 3)


def test_figures_are_numbers_by_name() -> None:
    def wrong(model: nn.Module, data: Any, budget: Any, report: Any) -> None:
        report({"loss": "low"})

    with pytest.raises(InputError, match=r"^training: .* reports what is no number"):
        reports_of(wrong)
    with pytest.raises(InputError, match=r"^training: function: 'nowhere\.train' cannot be imported"):
        OwnTraining("nowhere.train")


def test_another_function_is_another_run() -> None:
    lines = describe("training", OwnTraining(train, epochs=3))
    assert lines["training.epochs"] == "3"
    assert lines["training.function"] != describe("training", OwnTraining(reports_of))["training.function"]


# -- through a search ----------------------------------------------------------------------------------------


def test_a_function_trains_the_base_model_candidates_and_members(tmp_path: Any) -> None:
    called = []

    def counted(model: nn.Module, data: Any, budget: TrainingSettings, report: Any) -> None:
        called.append(budget.epochs)
        train(model, data, budget, report)

    search = Search(
        net(),
        DATA,
        evaluators=[OwnTraining(counted, epochs=1)],
        objectives=["loss"],
        strategy=Evolution(population=2),
        training=counted,
        directory=tmp_path,
        finish=Finish(
            members=1, epochs=2, tune=counted, onnx=False, base=False, latency_repeats=1, latency_seconds=0
        ),
        lag=2,
        chunk=1,
    )
    result = search.run(evaluations=2)
    assert called.count(30) == 1 and called.count(1) >= 3 and called.count(2) == 1
    assert "test_loss" in result.finals[-1].test or result.finals[-1].folder


def test_trials_are_stopped_through_report() -> None:
    epochs: list[float] = []

    def curve(model: Any, data: Any, budget: TrainingSettings, report: Any) -> None:
        for _ in range(budget.epochs):
            epochs.append(budget.learning_rate)
            with torch.no_grad():
                model[2].bias[0] += budget.learning_rate
            report()

    parameters = {"training.learning_rate": {"low": 1e-3, "high": 1.0}}
    search = Search(
        space=TrialSpace(parameters, model=net),
        data=DATA,
        evaluators=[OwnTraining(curve, epochs=6)],
        objectives=["loss"],
        strategy=Tuning(startup=3, monitor="loss", pruner=MedianPruner(3, 1)),
        lag=1,
        chunk=1,
    )
    result = search.run(evaluations=8)
    assert result.counts["pruned"] > 0 and len(epochs) < 8 * 6


# -- settings of ours ----------------------------------------------------------------------------------------


def fitted(model: nn.Module, **settings: Any) -> tuple[list[float], list[Tensor]]:
    torch.manual_seed(1)
    training = Training(epochs=2, keep_best=False, **settings)
    losses = [report.metrics["train_loss"] for report in training.fitted(model, DATA)]
    return losses, [parameter.detach().clone() for parameter in model.parameters()]


def test_accumulation_takes_the_same_steps() -> None:
    model, sizes = net(), set[int]()
    model[0].register_forward_hook(lambda module, inputs, output: sizes.add(len(output)))
    plain, parts = fitted(net()), fitted(model, accumulation=4)
    assert 15 in sizes  # of 60 samples in one batch
    assert parts[0] == pytest.approx(plain[0], abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain[1], parts[1], strict=True))


def test_checkpointing_computes_the_same_and_leaves_the_model_as_it_was() -> None:
    def dropping() -> nn.Module:
        torch.manual_seed(0)
        block = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3))
        return nn.Sequential(block, nn.Linear(8, 3))

    model, counted = dropping(), []
    model[0][0].register_forward_hook(lambda *_: counted.append(1))
    plain, parts = fitted(dropping()), fitted(model, checkpointing=["0"])
    assert parts[0] == plain[0]
    assert all(torch.equal(a, b) for a, b in zip(plain[1], parts[1], strict=True))
    steps = 2 * 1  # of 60 samples in batches of 64, computed twice, beside two of measuring
    assert len(counted) == 2 * steps + 2 and "forward" not in vars(model[0])
    with pytest.raises(InputError, match=r"^training: checkpointing 'blocks' matches no module"):
        fitted(net(), checkpointing=["blocks"])
    with pytest.raises(InputError, match="has a BatchNorm"):
        fitted(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), checkpointing=["0"])


def test_bfloat16_computes_forward_passes_alone() -> None:
    seen: set[torch.dtype] = set()
    model = net()
    model[0].register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    losses, weights = fitted(model, precision="bf16")
    assert seen == {torch.bfloat16, torch.float32}  # in training, and where it is measured
    assert weights[0].dtype == torch.float32
    assert losses == pytest.approx(fitted(net())[0], abs=0.02) and losses != fitted(net())[0]


def test_settings_that_came_later_change_nothing_where_they_are_not_used() -> None:
    lines = describe("training", Training())
    assert not {"precision", "accumulation", "checkpointing"} & {key.rpartition(".")[2] for key in lines}
    assert describe("training", Training(accumulation=2))["training.accumulation"] == "2"
    assert "accumulation" not in repr(TrainingSettings()) and "accumulation" not in TrainingSettings().told()
    with pytest.raises(InputError, match="accumulation 65; expected 1 to the batch_size 64"):
        Training(accumulation=65)
    with pytest.raises(InputError, match="precision 'fp16'; expected bf16 or null"):
        Training(precision="fp16")  # type: ignore[arg-type]
