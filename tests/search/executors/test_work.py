"""Running a candidate never raises, is seeded, and leaves the global generators as they were."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from evaluators.base import Candidate, Cause, Evaluator, Report, State
from evaluators.randomness import Randomness
from search.executors.base import Finished, Reported, Started
from search.executors.work import evaluate, pruned
from search.testing import BitSpace

SPACE = BitSpace(8)


class Scripted(Evaluator):
    """Does what a function says; screens the number of ones."""

    screened = ("ones",)
    metrics = ("loss",)

    def __init__(self, script):
        self.script = script

    def screen(self, genomes):
        return {"ones": genomes.sum(axis=1)}

    def evaluate(self, model, candidate):
        yield from self.script(model, candidate)


def candidate(seed=5):
    return Candidate(3, np.array([1, 0, 1, 1, 0, 0, 0, 1], np.uint8), seed=seed)


def run(script, space=SPACE, attempts=1):
    events = list(evaluate(space, Scripted(script), candidate(), attempts))
    assert isinstance(events[0], Started) and events[0].id == 3
    assert all(isinstance(event, Reported) for event in events[1:-1])
    assert isinstance(events[-1], Finished)
    return events[-1].evaluation, [event.report for event in events[1:-1]]


def test_joins_the_screened_metrics_with_those_of_the_last_report():
    def script(model, candidate):
        assert model.bits.tolist() == candidate.genome.tolist()
        yield Report({"loss": torch.tensor(2.0), "early": 1}, 1, {"a": np.zeros(2)})
        yield Report({"loss": np.float32(0.5)}, 2, {"b": torch.arange(3)})

    evaluation, reports = run(script, attempts=2)
    assert evaluation.state is State.COMPLETE and evaluation.reason == ""
    assert evaluation.metrics == {"ones": 4.0, "loss": 0.5}
    assert all(type(value) is float for value in evaluation.metrics.values())
    assert {name: array.tolist() for name, array in evaluation.arrays.items()} == {"b": [0, 1, 2]}
    assert isinstance(evaluation.arrays["b"], np.ndarray)
    assert [report.step for report in reports] == [1, 2]
    assert evaluation.attempts == 2 and evaluation.worker and evaluation.seconds > 0


def one(**metrics):
    def script(model, candidate):
        yield Report(metrics)

    return script


def raising(error):
    def script(model, candidate):
        yield Report({"loss": 1.0})
        raise error

    return script


def silent(model, candidate):
    return iter(())


def objects(model, candidate):
    yield Report({"loss": 1.0}, arrays={"names": np.array(["a", None])})


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (raising(ValueError("two\n  lines")), "ValueError: two lines"),
        (raising(MemoryError()), "MemoryError"),
        (raising(SystemExit(3)), "SystemExit: 3"),
        (raising(RuntimeError("x" * 1000)), "RuntimeError: " + "x" * 286),
        (one(loss=float("nan")), "metric 'loss' is nan"),
        (one(loss=1.0, other=float("inf")), "metric 'other' is inf"),
        (one(los=1.0), "metric 'loss' was promised but not reported"),
        (one(loss="low"), "ValueError: could not convert string to float: 'low'"),
        (silent, "metric 'loss' was promised but not reported"),
        (objects, "TypeError: array 'names' of a report has dtype object; expected numbers"),
        (lambda model, candidate: None, "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_what_goes_wrong_is_recorded_with_its_reason(script, reason):
    evaluation, _ = run(script)
    assert (evaluation.state, evaluation.reason, evaluation.metrics, evaluation.arrays) == (
        State.FAILED,
        reason,
        {},
        {},
    )
    assert evaluation.cause is (Cause.METRIC if "metric" in reason else Cause.ERROR)


def test_a_model_that_cannot_be_built_fails():
    class Broken(BitSpace):
        def build(self, genome):
            raise RuntimeError("no channels left")

    assert run(one(loss=1.0), Broken(8))[0].reason == "RuntimeError: no channels left"


def test_a_metric_may_be_nan_on_the_way():
    def script(model, candidate):
        yield Report({"loss": float("nan")}, 1)
        yield Report({"loss": 1.0}, 2)

    assert run(script)[0].state is State.COMPLETE


def pressing(model, candidate):
    signal.raise_signal(signal.SIGINT)
    yield Report({"loss": 1.0})


def covering(model, candidate):
    try:
        yield from pressing(model, candidate)
    finally:
        raise RuntimeError("while tidying up")


def test_ctrl_c_is_let_through_and_a_candidate_cannot_raise_it():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(pressing)
    with pytest.raises(KeyboardInterrupt):
        run(covering)
    assert signal.getsignal(signal.SIGINT) is before
    assert run(raising(KeyboardInterrupt("mine")))[0].reason == "KeyboardInterrupt: mine"


def draw():
    return [torch.rand(1).item(), float(np.random.rand()), random.random()]  # noqa: NPY002


def drawing(model, candidate):
    first = draw()
    yield Report({"loss": 0.0}, arrays={"draws": np.array(first)})
    yield Report({"loss": 0.0}, arrays={"draws": np.array(first + draw())})


def test_random_numbers_depend_on_the_seed_alone_and_stay_inside():
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        outside = [draw() for _ in range(4)]
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        stream = evaluate(SPACE, Scripted(drawing), candidate())
        seen = []
        for event in stream:
            if isinstance(event, Finished):
                draws.append(event.evaluation.arrays["draws"].tolist())
            seen.append(draw())
        assert seen == outside
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 6  # the second report goes on where the first stopped
    other = list(evaluate(SPACE, Scripted(drawing), candidate(seed=6)))[-1].evaluation
    assert not set(draws[0]) & set(other.arrays["draws"].tolist())


def test_two_candidates_in_turns_do_not_disturb_each_other():
    alone = list(evaluate(SPACE, Scripted(drawing), candidate(1)))[-1].evaluation.arrays["draws"]
    streams = [evaluate(SPACE, Scripted(drawing), candidate(seed)) for seed in (1, 2)]
    events = list(zip(*streams, strict=True))
    np.testing.assert_array_equal(events[-1][0].evaluation.arrays["draws"], alone)


def test_a_borrowed_generator_is_given_back_once():
    randomness = Randomness(1)
    before = np.random.get_bit_generator()
    with randomness:
        assert np.random.get_bit_generator() is not before
    assert np.random.get_bit_generator() is before
    randomness.close()
    randomness.close()


def test_pruned_joins_screened_metrics_with_the_report():
    evaluation = pruned(Scripted(silent), candidate(), Report({"loss": 2.0}, 4, {"a": np.ones(1)}))
    assert (evaluation.state, evaluation.metrics) == (State.PRUNED, {"ones": 4.0, "loss": 2.0})
    assert pruned(Scripted(silent), candidate(), None).metrics == {"ones": 4.0}


def test_importing_the_work_needs_no_ray_and_evolution_does_not_wait_for_scikit_learn():
    code = (
        "import sys, search.executors.work, search.loop, search.strategies.evolution; "
        "sys.exit(str(sorted({'ray', 'sklearn.ensemble'} & sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_the_model_is_moved_to_the_device_that_the_task_holds():
    def script(model, candidate):
        yield Report({"loss": float(model.bits.device.type == "meta")})

    *_, finished = evaluate(SPACE, Scripted(script), candidate(), device="meta")
    assert finished.evaluation.metrics["loss"] == 1
