"""The whole of a search, by Python and in this process."""

import copy
import io
import json
import os
import shutil
import signal
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
import yaml
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

from evaluators import Candidate, Cost, Evaluator, Quality, Report, Training, assess, fit
from evaluators.data import Digits
from operators.criteria import Activation, Magnitude, Random
from operators.mutation import CriterionGuided
from search import Evolution, Finish, RandomSearch, Search
from search.config.assembly import assemble
from search.config.settings import Settings
from search.ending import Ending, EndingKind
from search.progress import Progress
from search.record.identity import describe, weights_digest
from search.record.ledger import Ledger
from search.setup.baseline import Baseline, load_checkpoint
from search.strategy import SearchStrategy
from search.tally import SearchLoop
from spaces import ChannelSpace, InputError
from spaces.models import Perceptron, ResidualNet


class Witness(Evaluator):
    """Leaves a line for every evaluation; can be told to interrupt, or to fail. Its orders are the class's:
    no part of a run's identity.
    """

    metrics = ("witnessed",)
    file = interrupt_at = None
    interrupts, fail = 1, False

    def evaluate(self, model, candidate):
        if candidate.id >= 0:
            with open(self.file, "a") as file:
                file.write(f"{candidate.id}\n")
            if candidate.id == self.interrupt_at:
                for _ in range(self.interrupts):
                    os.kill(os.getpid(), signal.SIGINT)
            if self.fail:
                raise ValueError("no luck\ntoday")
        yield Report({"witnessed": 1.0})


@pytest.fixture
def data():
    return Digits(train_samples=100)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = Perceptron((64, 12, 10))
    for _ in fit(model, Digits(train_samples=100), Training(epochs=3)):
        pass
    return model


@pytest.fixture
def model(trained):
    torch.manual_seed(0)
    return copy.deepcopy(trained)


@pytest.fixture
def witness(tmp_path):
    return tmp_path / "witness"


def seen(witness):
    return [int(line) for line in witness.read_text().splitlines()] if witness.exists() else []


@pytest.fixture
def make(model, data, tmp_path, witness, monkeypatch):
    """Make a small search in a directory, watched by the witness."""

    def search(name="run", interrupt_at=None, interrupts=1, fail=False, **changes):
        for key, value in {
            "file": witness,
            "interrupt_at": interrupt_at,
            "interrupts": interrupts,
            "fail": fail,
        }.items():
            monkeypatch.setattr(Witness, key, value)
        settings = {
            "constraints": ["macs <= 90%"],
            "strategy": Evolution(population=6),
            "lag": 4,
            "chunk": 2,
            "directory": tmp_path / "runs" / name,
            "finish": Finish(
                members=1, epochs=1, base=False, onnx=False, latency_repeats=2, latency_seconds=0.0
            ),
            "study": False,
        } | changes
        return Search(model, data, evaluators=[Cost(), Quality(), Witness()], **settings)

    return search


def values(result):
    return [(member.candidate.id, member.metrics["error"], member.metrics["macs"]) for member in result.front]


def test_five_lines_find_a_front_without_yaml_ray_or_a_directory(model, data):
    search = Search(model, data, constraints=["macs <= 50%"])
    result = search.run(evaluations=24)
    assert result.reason == "evaluations" and result.directory is None and not ray.is_initialized()
    assert result.front and all(
        member.metrics["macs"] <= 0.5 * result.problem.base["macs"] for member in result.front
    )
    table = result.table()
    assert "base model" in table and all(
        f"candidate {member.candidate.id}" in table for member in result.front
    )
    with pytest.raises(InputError, match="no evaluator computes 'speed'"):
        Search(model, data, objectives=["speed"]).run(evaluations=4)


def test_a_search_without_a_feasible_candidate_says_so(model, data):
    search = Search(model, data, constraints=["error <= 0.0001"], strategy=RandomSearch(), lag=4, chunk=2)
    result = search.run(evaluations=4)
    assert not result.front and "the nearest of 4 is candidate" in result.table()
    for ask in (result.build, lambda: result.export("nowhere")):
        with pytest.raises(InputError, match=r"no candidate is within the limits.*error ≤ 0.0001 is asked"):
            ask()


def test_a_search_in_memory_goes_on(model, data):
    search = Search(model, data, strategy=Evolution(population=6), lag=4, chunk=2)
    first = search.run(evaluations=10)
    second = search.run(evaluations=20)
    assert first.counts["evaluations"] == 10 and second.counts["evaluations"] == 20
    whole = Search(model, data, strategy=Evolution(population=6), lag=4, chunk=2).run(evaluations=20)
    assert values(second) == values(whole)
    assert not hasattr(search.strategy, "problem"), "a strategy is started once: each call works with a copy"


def test_the_model_of_a_member_is_what_was_scored(data):
    torch.manual_seed(0)
    model = ResidualNet((4, 6))
    result = Search(model, data, strategy=RandomSearch(), lag=4, chunk=2).run(evaluations=8)
    for member in result.front:
        built = result.build(member)
        assert assess(built, data, data.batches("search", 256))["loss"] == pytest.approx(
            member.metrics["loss"], rel=1e-6
        )
        assert sum(p.numel() for p in built.parameters()) == member.metrics["params"]


def test_a_member_exported_by_hand_loads_again(model, data, tmp_path):
    from search import load

    result = Search(model, data, strategy=RandomSearch(), lag=4, chunk=2).run(evaluations=8)
    result.export(tmp_path / "smaller", 0)
    x = data.example()[0]
    again = load(tmp_path / "smaller", model)
    assert torch.allclose(again.eval()(x), result.build(0).eval()(x), atol=1e-6)
    with pytest.raises(IndexError):
        result.tuned(0)


def test_a_directory_holds_everything_and_a_second_call_does_nothing(make, witness, tmp_path):
    result = make(study=True, config="name: x\n").run(evaluations=12)
    directory = tmp_path / "runs" / "run"
    for name in ("config.yaml", "environment.json", "ledger.db", "study.log", "report.html", "front.csv"):
        assert (directory / name).is_file(), name
    assert json.loads((directory / "environment.json").read_text())["packages"]["torch"] == torch.__version__
    assert [final.id for final in result.finals] == [
        int(path.name) for path in (directory / "models").glob("*/")
    ]
    assert result.tuned(0)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert not result.complete and len(seen(witness)) == 12
    study = (directory / "study.log").read_text()
    assert '"filename\\": \\"report.html' in study and '"filename\\": \\"weights.safetensors' in study

    before = (directory / "report.html").stat().st_mtime_ns
    again = make(study=True).run(evaluations=12)
    assert again.complete and len(seen(witness)) == 12
    assert values(again) == values(result) and again.table() == result.table()
    assert (directory / "report.html").stat().st_mtime_ns == before


def test_a_larger_budget_goes_on_and_nothing_is_evaluated_twice(make, witness):
    make().run(evaluations=10)
    continued = make().run(evaluations=20)
    assert sorted(seen(witness)) == list(range(20))
    whole = make(name="whole").run(evaluations=20)
    assert values(continued) == values(whole)
    assert not continued.complete and continued.counts["evaluations"] == 20


def test_one_interrupt_ends_in_good_order_and_the_same_call_goes_on(make, witness, tmp_path):
    stopped = make(interrupt_at=7).run(evaluations=20)
    assert stopped.reason == "interrupted" and not stopped.finals
    assert 8 <= stopped.counts["evaluations"] < 20 and (tmp_path / "runs" / "run" / "report.html").exists()
    result = make().run(evaluations=20)
    assert sorted(seen(witness)) == list(range(20)), "something was lost, or paid for twice"
    assert result.reason == "evaluations" and result.finals
    assert values(result) == values(make(name="whole").run(evaluations=20))


def test_two_interrupts_leave_at_once_and_the_ledger_stays_good(make, witness):
    before = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it
    stopped = make(interrupt_at=7, interrupts=2).run(evaluations=20)
    assert stopped.reason == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before
    result = make().run(evaluations=20)
    assert result.counts["evaluations"] == 20
    assert values(result) == values(make(name="whole").run(evaluations=20))


def test_a_search_that_only_fails_says_why(make):
    result = make(fail=True).run(evaluations=200)
    assert result.reason.startswith("failures: ") and "ValueError: no luck today" in result.reason
    assert not result.finals and result.counts["failed"] < 100
    again = make(fail=True).run(evaluations=result.counts["evaluations"])
    assert again.reason == result.reason and not again.complete


def test_a_space_that_is_exhausted_ends_the_search(data):
    model = Perceptron((64, 3, 10))
    result = Search(model, data, strategy=RandomSearch(), lag=4, chunk=2).run(evaluations=1000)
    assert (
        result.reason == "exhausted" and result.counts["evaluations"] == 7
    )  # 2^3 - 1 ways to keep some of three units


def test_another_order_of_finishing_settings_finishes_again_without_searching(make, witness):
    make().run(evaluations=10)
    more = make(
        finish=Finish(members=2, epochs=1, base=True, onnx=False, latency_repeats=2, latency_seconds=0.0)
    ).run(evaluations=10)
    assert not more.complete and len(seen(witness)) == 10
    assert more.finals[0].name == "base model" and len(more.finals) == 3


def test_export_finishes_an_interrupted_run_without_searching_on(make, witness):
    make(interrupt_at=7).run(evaluations=20)
    done = len(seen(witness))
    result = make().export()
    assert len(result.finals) == 1 and len(seen(witness)) == done
    assert make().export().complete


def test_the_base_model_is_trained_once(data, tmp_path, monkeypatch):
    trained = []
    original = Baseline.train
    monkeypatch.setattr(
        Baseline, "train", lambda self, *given: (trained.append(1), original(self, *given))[1]
    )

    def search(name, epochs=1):
        torch.manual_seed(0)
        settings = {
            "strategy": RandomSearch(),
            "lag": 4,
            "chunk": 2,
            "finish": Finish(members=0),
            "study": False,
        }
        return Search(
            Perceptron((64, 8, 10)),
            data,
            training=Training(epochs=epochs),
            directory=tmp_path / name,
            **settings,
        )

    first = search("one").run(evaluations=4)
    search("two").run(evaluations=4)
    assert len(trained) == 1, "the other run found the weights beside it"
    shutil.rmtree(tmp_path / ".cache")
    for name in ("one", "two"):
        again = search(name).run(evaluations=8)
        assert len(trained) == 1, "each run has its own copy"
        assert again.problem.base == first.problem.base
    with pytest.raises(InputError, match="weights"):
        search("one", epochs=2).run(evaluations=8)
    assert len(trained) == 1


class Placed(Perceptron):
    """Says where it was sent, and stays: there is no other device here."""

    def to(self, device):
        places.append(str(device))
        return self


places = []


def test_the_base_model_is_trained_and_evaluated_on_the_device_and_comes_back(data):
    places.clear()
    settings = {"strategy": RandomSearch(), "lag": 4, "chunk": 2, "training": Training(epochs=1)}
    Search(Placed((64, 8, 10)), data, device="elsewhere", **settings).run(evaluations=2)
    assert places == ["elsewhere", "cpu", "elsewhere", "cpu", "cpu"], (
        "trained, back, the base, two candidates"
    )
    places.clear()
    Search(Placed((64, 8, 10)), data, device="elsewhere", strategy=RandomSearch()).plan(evaluations=2)
    assert places and set(places) == {"elsewhere"}, "candidates that are timed"


@pytest.mark.parametrize(
    ("words", "device"),
    [(("--ray.gpus_per_task", "0.25"), "cuda"), ((), "cpu"), (("--executor", "inline"), "cpu")],
)
def test_where_tasks_hold_a_gpu_the_base_model_is_on_one_if_there_is_one(
    words, device, tmp_path, monkeypatch
):
    config = Path(__file__).parents[2] / "configs" / "digits_channels.yaml"
    settings = Settings.parse([str(config), "--runs", str(tmp_path), *words])
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert assemble(settings).preparation.device == (device if there else "cpu")


def test_what_a_person_sees_without_a_terminal(model, data):
    page = io.StringIO()
    progress = Progress(Console(file=page, width=200), interval=0)
    Search(model, data, strategy=Evolution(population=6), lag=4, chunk=2, progress=progress).run(
        evaluations=16
    )
    first, *lines = page.getvalue().splitlines()
    assert first == "searching"
    assert lines[-1].startswith("16/16 evaluations, 1 worker, feasible 100%, front ")
    assert not any("hypervolume" in line for line in lines), "it takes 64 candidates"


def test_plan_trains_searches_and_writes_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Baseline, "train", lambda *_: pytest.fail("trained"))
    search = Search(
        ResidualNet((4, 6)),
        data,
        training=Training(),
        constraints=["macs <= 0.1%"],
        directory=tmp_path / "run",
    )
    plan = search.plan(evaluations=1000)
    assert plan.segments == {"stem.0": 4, "blocks.0.conv1": 4, "blocks.1.conv1": 6, "blocks.1.conv2": 6}
    assert {row["axis"] for row in plan.frozen} == {"head.weight[0]", "head.bias[0]"} and all(
        row["reason"] for row in plan.frozen
    )
    assert plan.smallest["macs"] < plan.base["macs"] and not plan.attainable[0].met
    assert plan.seconds == pytest.approx(1000 * plan.candidate_seconds) and plan.workers == 1
    assert not (tmp_path / "run").exists() and not (tmp_path / ".cache").exists()


def test_plan_of_a_trained_model_writes_nothing_either(data, tmp_path):
    def search(name):
        torch.manual_seed(0)
        return Search(
            Perceptron((64, 8, 10)),
            data,
            training=Training(epochs=1),
            directory=tmp_path / name,
            finish=Finish(members=0),
            study=False,
        )

    search("one").run(evaluations=4)
    search("two").plan()
    assert not (tmp_path / "two").exists()


def test_the_guide_has_the_scores_of_the_base_model(make, tmp_path):
    make().run(evaluations=4)
    ledger = Ledger.reader(tmp_path / "runs" / "run" / "ledger.db")
    guide = ledger.load_arrays("guide")
    ledger.close()
    assert set(guide) == {"magnitude", "taylor", "base_activation"}
    assert all(scores.shape == (12,) and np.isfinite(scores).all() for scores in guide.values())


class ActivationVariance(Magnitude):
    name = "activation_variance"


def test_a_criterion_of_any_name_guides_unless_evaluations_report_it_of_parents(model, data):
    criteria = [ActivationVariance(), Activation(), Random()]
    problem = Search(model, data, criteria=criteria).run(evaluations=2).problem
    assert set(problem.guide) == {"activation_variance", "base_activation", "random"}
    strategy = Evolution(population=4)
    strategy.start(problem, 0)
    (guided,) = [m for m in strategy._mutations if isinstance(m, CriterionGuided)]
    assert guided.criteria == ("activation_variance",)


def test_checkpoints(tmp_path):
    torch.manual_seed(1)
    trained = ResidualNet((4, 6))
    save_file(trained.state_dict(), tmp_path / "a.safetensors")
    torch.save({"epoch": 3, "state_dict": trained.state_dict()}, tmp_path / "b.pt")
    torch.save({f"module.{name}": value for name, value in trained.state_dict().items()}, tmp_path / "c.pt")
    compiled = {f"module._orig_mod.{name}": value for name, value in trained.state_dict().items()}
    torch.save(
        {"state_dict": {f"model.{name}": value for name, value in compiled.items()}}, tmp_path / "d.pt"
    )
    for name in ("a.safetensors", "b.pt", "c.pt", "d.pt"):
        model = ResidualNet((4, 6))
        assert weights_digest(model) != weights_digest(trained)
        load_checkpoint(model, tmp_path / name)
        assert weights_digest(model) == weights_digest(trained), name


def test_checkpoints_of_older_and_of_other_programs(tmp_path):
    trained, model = ResidualNet((4, 6)), ResidualNet((4, 6))
    state = {name: x for name, x in trained.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pt")
    load_checkpoint(model, tmp_path / "old.pt")
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in state.items())
    torch.save({"state_dict": state, "options": Namespace(lr=1)}, tmp_path / "more.pt")
    told = r"^checkpoint more.pt: cannot be read \(argparse.Namespace beside the weights\); expected"
    with pytest.raises(InputError, match=told):
        load_checkpoint(model, tmp_path / "more.pt")
    for held in (
        {"net": {f"student.net.{name}": x for name, x in state.items()}, "accuracy": torch.tensor(0.9)},
        {f"module._orig_mod.{name}": x for name, x in state.items()} | {"n_averaged": torch.tensor(3)},
    ):
        torch.save(held, tmp_path / "wrapped.pt")
        load_checkpoint(other := ResidualNet((4, 6)), tmp_path / "wrapped.pt")
        assert all(torch.equal(x, other.state_dict()[name]) for name, x in state.items())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {f"net.{name}": x for name, x in [*state.items()][1:]}, "no .*, but net\\."),
        (lambda state: {name: x.to(torch.int8) for name, x in state.items()}, ".* is of torch.int8"),
        (lambda state: {name: x.to("meta") for name, x in state.items()}, ".* is without values"),
        (
            lambda state: {name: x.to_sparse() for name, x in state.items()},
            ".* is of torch.float32, torch.sp",
        ),
        (
            lambda state: {"net": state, "ema": state},
            r"holds no weights by name, but net \(OrderedDict\), ema",
        ),
        (lambda state: dict(enumerate(state.values())), r"holds no weights by name, but 0 \(Tensor\)"),
    ],
)
def test_checkpoints_that_do_not_tell_the_weights_of_a_model_are_refused(tmp_path, change, told):
    model = ResidualNet((4, 6))
    torch.save(change(model.state_dict()), tmp_path / "other.pt")
    with pytest.raises(InputError, match=f"^checkpoint other.pt: {told}"):
        load_checkpoint(model, tmp_path / "other.pt")


def test_an_identity_is_the_same_in_every_process_and_tells_what_differs():
    class Thing:
        def __init__(self, x, names=("b", "a", "c")):
            self._x, self.names, self.array = x, set(names), np.arange(3)
            self._model = nn.Linear(1, 1, bias=False)

    lines = describe("thing", Thing(3))
    assert lines["thing.x"] == "3" and lines["thing.names"] == "a b c"
    assert lines == describe("thing", Thing(3))
    assert {key for key in lines if lines[key] != describe("thing", Thing(4))[key]} == {"thing.x"}
    assert "0x" not in yaml.safe_dump(lines)


class Listed(SearchStrategy):
    """Evaluates so many random genomes in a loop of its own."""

    starts_from_base = False

    def __init__(self, size, needs_state=False):
        self.size, self.needs_state = size, needs_state

    def make_loop(self, problem, executor, ledger, budget, *, seed=0, listeners=(), **settings):
        return ListedLoop(self.size, seed, problem, executor, ledger, budget, listeners)

    def rehearse(self, problem, seed):
        if self.size > 100:
            raise InputError(f"strategy: size {self.size}; expected at most 100")

    def candidate_seconds(self, problem, seed):
        return 2.0

    def most_candidates(self):
        return self.size


class ListedLoop(SearchLoop):
    running = 0

    def __init__(self, size, seed, *bound):
        super().__init__(*bound)
        self.size, self.seed = size, seed

    def run(self):
        return self.tally.run(self.ledger, self._all)

    def interrupt(self):
        self.tally.ending = Ending(EndingKind.INTERRUPTED)

    def _all(self):
        genomes = self.problem.space.sample(self.size, np.random.default_rng(self.seed))
        self.executor.start(self.problem.space, self.problem.evaluator)
        for id, genome in enumerate(genomes):
            self.ledger.add_candidates([Candidate(id, genome)])
            self.executor.submit([Candidate(id, genome)])
            while (found := self.executor.events()) and not hasattr(found[-1], "evaluation"):
                pass
            self.ledger.add_evaluation(found[-1].evaluation)
            self.tally.tell(found[-1].evaluation, self.tally.count(found[-1].evaluation))
        return Ending(EndingKind.EXHAUSTED)


def test_a_strategy_may_bring_a_loop_of_its_own_and_says_what_it_needs(model, data, tmp_path):
    heard = []
    listener = SimpleNamespace(evaluated=lambda evaluation, joined: heard.append(evaluation.candidate.id))
    search = Search(model, data, strategy=Listed(12, needs_state=True), listeners=[listener])
    plan = search.plan(evaluations=1000)
    assert plan.candidate_seconds == 2.0 and plan.budget.evaluations == 12
    result = search.run()
    assert (result.reason, result.counts["evaluations"]) == ("exhausted", 12) and heard == list(range(12))
    assert set(result.problem.base) == {"params", "macs", "bytes"}, (
        "only what is screened is known of the base"
    )
    assert result.problem.guide == {} and result.problem.evaluator.state is not None
    assert result.front
    kept = tmp_path / "runs" / "refused"
    with pytest.raises(InputError, match="size 200"):
        Search(model, data, strategy=Listed(200), directory=kept, study=False).run()
    assert not (kept / "ledger.db").exists(), "what is refused leaves no run behind"


def test_a_space_of_its_own_over_the_model(model, data):
    space = ChannelSpace(model, data.example(), round_to=4)
    result = Search(model, data, space=space, lag=4, chunk=2, strategy=RandomSearch()).run(evaluations=3)
    assert all(member.candidate.genome.sum() % 4 == 0 for member in result.front)
