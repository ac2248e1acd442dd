"""The line that a person sees: how far candidates are that take minutes, before the first of them is done."""

from types import SimpleNamespace

from search.budget import Budget
from search.executors.simulated import SimulatedExecutor
from search.loop import Loop
from search.progress import Progress, SearchProgress, steps
from search.record.ledger import Ledger
from search.strategies.random_search import RandomSearch
from search.testing.trial_toys import tuning_problem


def test_steps():
    assert steps([]) == "" and steps([7, 7]) == "at step 7" and steps([9, 3, 5]) == "at steps 3 to 9"


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
