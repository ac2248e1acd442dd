"""Results that were paid for in another run are taken over where they mean the same, and only there."""

import io
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from evaluators import Evaluator, Report
from evaluators.data import Arrays
from operators.initialisation import Sampled
from search import Evolution, Finish, FromRun, RandomSearch, Search
from search.progress import Progress
from search.record.ledger import Ledger
from spaces import Choice, ChoiceSpace, InputError, Integer, Segment, Space
from tests.search.loop_case import Killed, simulated


class Built(nn.Module):
    def __init__(self, **values):
        super().__init__()
        self.values, self.seed = values, torch.initial_seed()


def space(widths=(4, 8), depths=3, factor=1, swapped=False, **more):
    """Always the same class, as far as names tell: what a user has who edits a file."""

    class Net(ChoiceSpace):
        if swapped:
            depth = Integer(1, depths)
        width = Choice(list(widths))
        if not swapped:
            depth = Integer(1, depths)
        locals().update(more)

        def __init__(self, factor=1):
            self.factor = factor

        def build_from(self, **values):
            return Built(**values)

    return Net(factor)


class Size(Evaluator):
    """Looks at the model alone. What it has been asked for is the class's: no part of a run's identity."""

    metrics = ("error", "size", "seed")
    asked: list = []  # noqa: RUF012

    def __init__(self, noise=0):
        self.noise = noise

    def evaluate(self, model, candidate):
        if candidate.id >= 0:
            self.asked.append(model.values)
        size = 10.0 * model.values["width"] + model.values["depth"]  # so every net is on the front
        yield Report({"error": 1.0, "size": size, "seed": 0.0}, 1)
        found = {"error": 1 / size, "size": size, "seed": float(candidate.seed % 1000)}
        yield Report(found, 2, {"activation": np.array([size, candidate.seed % 7])})


class Timed(Size):
    private = "a watch was looked at"


class Inheriting(Size):
    inherits = True


@pytest.fixture(autouse=True)
def asked():
    Size.asked.clear()
    return Size.asked


def search(folder, net, strategy=None, evaluator=None, data=None, **settings):
    heard = io.StringIO()
    made = Search(
        data=data,
        space=net,
        evaluators=[evaluator or Size()],
        objectives=["error", "size"],
        strategy=strategy or RandomSearch(Sampled()),
        directory=folder,
        study=False,
        finish=Finish(0),
        progress=Progress(Console(file=heard, soft_wrap=True)),
        lag=4,
        chunk=2,
        **settings,
    )
    made.heard = heard
    return made


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    folder = tmp_path_factory.mktemp("six") / "first"
    search(folder, space()).run(evaluations=6)
    assert len(Size.asked) == 6
    return folder


@pytest.fixture
def first(six, tmp_path, asked):
    """A run of all six nets of the narrow space."""
    asked.clear()
    return Path(shutil.copytree(six, tmp_path / "first"))


def rows(folder):
    """All that a ledger holds of its candidates and of its results, but for the clock."""
    ledger = Ledger.reader(folder / "ledger.db")
    candidates = [(c.id, c.genome.tolist(), c.operator, c.seed) for c in ledger.candidates()]
    results = []
    for _, e in ledger.evaluations(arrays=True):
        arrays = {name: array.tolist() for name, array in e.arrays.items()}
        reports = [(r.step, r.metrics) for r in ledger.reports(e.candidate.id)]
        results.append(
            (e.candidate.id, e.candidate.seed, e.state, e.metrics, arrays, reports, e.worker, e.attempts)
        )
    ledger.close()
    return candidates, results


def by_values(folder, net):
    """The results by what their candidates chose: seed, state, metrics, arrays, reports, worker, attempts."""
    candidates, results = rows(folder)
    chosen = {id: tuple(net.values(np.array(genome, np.uint8)).values()) for id, genome, *_ in candidates}
    return {chosen[id]: rest for id, *rest in results}


WIDER = (2, 4, 6, 8)


def wider(first, folder, net=None, **settings):
    """The run that takes up where the first one ended."""
    strategy = Evolution(population=8, initialisation=FromRun(str(first)))
    return search(folder, net or space(WIDER), strategy, seed=7, **settings)


@pytest.mark.parametrize("workers", [None, 3], ids=["inline", "simulated"])
def test_a_choice_is_extended_and_nothing_is_paid_for_twice(first, tmp_path, asked, workers):
    made = wider(first, tmp_path / "second", executor=None if workers is None else simulated(workers))
    result = made.run(evaluations=12)
    assert sorted(values["width"] for values in asked) == [2, 2, 2, 6, 6, 6]
    before, after = by_values(first, space()), by_values(tmp_path / "second", space(WIDER))
    assert len(after) == 12
    for values, (*told, _, _) in before.items():
        assert after[values] == [*told, f"from {first}", 0], (
            "with the seed, the arrays and the reports that it had"
        )
    front = [(m.metrics["size"], m.metrics["seed"]) for m in result.front]
    assert {(told[2]["size"], told[2]["seed"]) for told in before.values()} < set(front) and len(front) == 12
    assert f"begins with candidates of {first}: 6 of its results mean the same here" in made.heard.getvalue()
    assert f"6 of 12 results came from {first}" in made.heard.getvalue()


def test_the_model_of_a_result_is_built_with_the_seed_that_it_was_scored_with(first, tmp_path):
    result = wider(first, tmp_path / "second").run(evaluations=12)
    for member in result.front:
        assert result.build(member).seed % 1000 == member.metrics["seed"]


@pytest.mark.parametrize("ticks", [1, 4])
def test_killed_and_resumed_it_is_the_same_run_without_the_other_one(first, tmp_path, asked, ticks):
    wider(first, tmp_path / "whole").run(evaluations=12)
    whole, worked = rows(tmp_path / "whole"), list(asked)
    asked.clear()

    class Dying:
        left = ticks

        def tick(self, loop):
            self.left -= 1
            if not self.left:
                raise Killed

    with pytest.raises(Killed):
        wider(first, tmp_path / "second", listeners=[Dying()]).run(evaluations=12)
    assert len(rows(tmp_path / "second")[1]) < 12
    shutil.rmtree(first)
    assert wider(first, tmp_path / "second").run(evaluations=12).counts["complete"] == 12
    assert rows(tmp_path / "second") == whole
    again = len(asked) - len(worked)
    assert again in (0, 1) and {str(values) for values in asked} == {str(values) for values in worked}, (
        "but for what was under way"
    )


def test_a_run_in_memory_takes_results_from_where_they_are(first, asked):
    result = wider(first, None).run(evaluations=12)
    assert result.counts["complete"] == 12 and len(asked) == 6


def test_results_of_results_come_along_under_their_first_seed(first, tmp_path, asked):
    wider(first, tmp_path / "second").run(evaluations=12)
    asked.clear()
    wider(tmp_path / "second", tmp_path / "third", space((2, 4, 6, 8), 4)).run(evaluations=16)
    assert asked and all(values["depth"] == 4 for values in asked)
    before, after = by_values(first, space()), by_values(tmp_path / "third", space(WIDER, 4))
    assert all(after[values][:3] == told[:3] for values, told in before.items())


def test_two_runs_one_after_the_other(first, tmp_path, asked):
    search(tmp_path / "more", space((6, 8)), seed=3).run(evaluations=6)
    asked.clear()
    both = FromRun(str(first), then=FromRun(str(tmp_path / "more")))
    search(tmp_path / "both", space(WIDER), RandomSearch(both)).run(evaluations=9)
    assert not asked and len(by_values(tmp_path / "both", space(WIDER))) == 9


def anew(first, tmp_path, asked, **how):
    """Return the reason why the second run evaluates what the first one knows."""
    made = wider(first, tmp_path / "second", **how)
    made.run(evaluations=8)
    assert len(asked) == 8, "all are evaluated"
    (line,) = [line for line in made.heard.getvalue().splitlines() if line.startswith("begins with")]
    assert "results came from" not in made.heard.getvalue()
    return line.split("evaluated anew: ")[1]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"evaluator": Size(noise=1)}, "evaluators.0.noise (was 0, is 1)"),
        ({"evaluator": Timed()}, "a watch was looked at"),
        ({"evaluator": Inheriting()}, "candidates begin with weights that their parents left in that run"),
        ({"data": Arrays(torch.zeros(40, 2), torch.arange(40) % 2)}, "data (was none, is "),
        ({"net": space(WIDER, heads=Choice([1, 2]))}, "heads of Net is new, so it is not known"),
        ({"net": space(WIDER, swapped=True)}, "the choices of Net are not the same, or in another order"),
        (
            {"net": space(WIDER, factor=2)},
            "its space is of another class than Net here, or was made with other arguments",
        ),
        (
            {"net": type("Other", (type(space(WIDER)),), {})()},
            "its space is of another class than Other here",
        ),
    ],
    ids=["setting", "clock", "inherits", "data", "new choice", "order", "argument", "class"],
)
def test_what_does_not_mean_the_same_is_evaluated_anew_with_the_reason(first, tmp_path, asked, how, why):
    assert why in anew(first, tmp_path, asked, **how)


def test_a_choice_that_is_gone(first, tmp_path, asked):
    search(tmp_path / "headed", space(heads=Choice([1, 2]))).run(evaluations=12)
    asked.clear()
    assert "heads is no choice of Net here" in anew(tmp_path / "headed", tmp_path, asked)


class Ranks(Space):
    """A space from the ground up: what it holds is known by names and values, what it builds is not."""

    def __init__(self, *ranks):
        self.ranks, self.segments = ranks, (Segment("rank", 1, len(ranks)),)

    @property
    def fingerprint(self):
        return f"ranks {self.ranks}"

    @property
    def alleles(self):
        return {"rank": self.ranks}

    def sample(self, n, rng):
        return rng.integers(0, len(self.ranks), (n, 1)).astype(np.uint8)

    def repair(self, genomes):
        return genomes

    def build(self, genome):
        return Built(width=self.ranks[genome[0]], depth=1)

    def describe(self, genome):
        return {"rank": self.ranks[genome[0]]}


def test_a_space_of_ones_own_keeps_results_where_it_is_the_same_or_tells_its_kinship(tmp_path, asked):
    class Telling(Ranks):
        compatibility = "ranks"

    for kind, ranks, evaluated, words in (
        (Ranks, (1, 2, 3), 0, "3 of its results mean the same"),
        (
            Ranks,
            (1, 2, 3, 4),
            4,
            "another Ranks, and it is not known whether the same values give the same model",
        ),
        (Telling, (4, 3, 2, 1), 1, "3 of its results mean the same"),
    ):
        before = tmp_path / f"{kind.__name__} before"
        if not before.exists():
            search(before, kind(1, 2, 3)).run(evaluations=3)
        asked.clear()
        made = search(
            tmp_path / f"{kind.__name__} {ranks}", kind(*ranks), RandomSearch(FromRun(str(before))), seed=5
        )
        made.run(evaluations=len(ranks))
        assert len(asked) == evaluated and words in made.heard.getvalue()


def test_a_ledger_that_does_not_know_of_kinship(first, tmp_path, asked):
    with sqlite3.connect(first / "ledger.db") as db:
        db.execute("UPDATE about SET value = json_remove(value, '$.kinship') WHERE key = 'space'")
    assert "it is not known whether the same values" in anew(first, tmp_path, asked)


def test_only_values_that_are_the_same_in_kind_are_the_same(first, tmp_path, asked):
    search(tmp_path / "second", space((4.0, 8)), RandomSearch(FromRun(str(first)))).run(evaluations=6)
    assert sorted(values["width"] for values in asked) == [4.0, 4.0, 4.0]


def test_failures_are_tried_again(tmp_path, asked, monkeypatch):
    class Unlucky(Built):
        def __init__(self, **values):
            assert values["width"] != 8 or values["depth"] == 1, "no luck"
            super().__init__(**values)

    with monkeypatch.context() as patch:
        patch.setitem(globals(), "Built", Unlucky)
        assert search(tmp_path / "first", space()).run(evaluations=6).counts["failed"] == 2
    asked.clear()
    assert (
        search(tmp_path / "second", space(), RandomSearch(FromRun(str(tmp_path / "first"))))
        .run(evaluations=6)
        .counts["complete"]
        == 6
    )
    assert [(values["width"], values["depth"] > 1) for values in asked] == [(8, True)] * 2


@pytest.mark.parametrize("directory", [True, False])
def test_a_run_that_is_not_there_or_has_nothing_in_common_leaves_no_folder(first, tmp_path, directory):
    class Other(ChoiceSpace):
        colour = Choice(["red", "blue"])

        def build_from(self, colour):
            return Built(width=1, depth=1)

    folder = tmp_path / "second" if directory else None
    for run, words in (
        (first, "no segment of it is one of Other: it has width, depth; expected some of colour"),
        (tmp_path, "no ledger here"),
    ):
        made = search(folder, Other(), RandomSearch(FromRun(str(run))))
        for call in (made.run, made.plan):
            with pytest.raises(InputError, match=words):
                call(evaluations=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first"]


def test_the_same_strategy_serves_two_searches(first, tmp_path):
    strategy = RandomSearch(FromRun(str(first)))
    for name in ("second", "third"):
        search(tmp_path / name, space(WIDER), strategy).run(evaluations=4)
    again = RandomSearch(FromRun(str(first)))
    assert search(tmp_path / "third", space(WIDER), again).run(evaluations=6).counts["complete"] == 6, (
        "the same identity"
    )
