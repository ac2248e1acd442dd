"""The line that a person sees: how far candidates are that take minutes, before the first of them is done."""

import contextlib
from types import SimpleNamespace

from search.budget import Budget
from search.executors.simulated import SimulatedExecutor
from search.loop import Loop
from search.progress import Progress, SearchProgress, steps
from search.record.about import About
from search.record.ledger import Ledger
from search.report.facts import gather
from search.strategies.random_search import RandomSearch
from search.testing import pruning
from search.testing.trial_toys import tuning_problem


def test_steps():
    assert (
        steps([]) == steps([0, 0]) == ""
        and steps([7, 7]) == "at step 7"
        and steps([9, 3, 5]) == "at steps 3 to 9"
    )


def test_unfinished_candidates_show_the_steps_they_are_at():
    problem = tuning_problem()
    seen = []
    progress = SearchProgress(Progress.silent(), "")
    listener = SimpleNamespace(tick=lambda loop: seen.append((dict(loop.steps), progress.text(loop))))
    executor = SimulatedExecutor(2, lambda candidate: 1.0)
    loop = Loop(
        problem,
        RandomSearch(),
        executor,
        Ledger(None, problem.space),
        Budget(4),
        seed=1,
        lag=4,
        chunk=2,
        listeners=[listener],
    )
    loop.run()
    under_way = [(at, text) for at, text in seen if at]
    assert under_way and all(steps(at.values()) in text for at, text in under_way)
    assert max(max(at.values()) for at, _ in under_way) > 1, "steps go up"
    assert not loop.steps and "at step" not in seen[-1][1], "nothing is left of those that are done"


def test_the_hypervolume_is_one_figure_that_never_falls(tmp_path):
    """The terminal's figure is the report's, and a run that goes on keeps its box."""
    problem = pruning(40, ["macs <= 60%"])
    with contextlib.closing(Ledger(tmp_path / "ledger.db", problem.space)) as ledger:
        About.of("toy", problem).save(ledger)
        seen, written = [], []
        for evaluations in (40, 90, 200):
            progress = SearchProgress(Progress.silent(), "")
            listener = SimpleNamespace(
                tick=lambda loop, it=progress: None if loop.reading else seen.append(it.hypervolume(loop))
            )
            executor = SimulatedExecutor(2, lambda candidate: 1.0)
            loop = Loop(
                problem, RandomSearch(), executor, ledger, Budget(evaluations), seed=1, listeners=[listener]
            )
            loop.run()
            seen.append(progress.hypervolume(loop))
            ledger.commit()
            with contextlib.closing(Ledger.reader(tmp_path / "ledger.db")) as again:
                written.append([volume for _, volume in gather(again).history])
        volumes = [volume for volume in seen if volume is not None]
        assert written[0] == [] and seen[0] is None, "64 candidates settle the box"
        assert volumes == sorted(volumes) and 0 < volumes[0] < volumes[-1] < 1
        assert written[2] == sorted(written[2]) and written[2][-1] == volumes[-1]
        assert written[2][: len(written[1]) - 1] == written[1][:-1], "what was said before is said again"
