"""What a strategy may answer to the question whether a candidate is to be stopped, and what comes of it."""

from evaluators.base import Cause, State
from search.budget import Budget
from search.stop import Stop
from tests.search.loop_case import Climbing, Counting, play


def test_every_answer_has_one_meaning() -> None:
    assert Stop.of(False) is None and Stop.of("") is None
    assert Stop.of(True) == Stop("", Cause.STOPPED)
    assert Stop.of("weak at step 3") == Stop("weak at step 3", Cause.STOPPED)
    paused = Stop("paused at rung 0", Cause.PAUSED)
    assert Stop.of(paused) is paused


class Answering(Climbing):
    """Stops two candidates at their first report, one of them for later."""

    def should_stop(self, candidate, report):
        return {3: "weak", 5: Stop("later", Cause.PAUSED)}.get(candidate.id, False)


def test_the_ledger_and_the_strategy_hear_why_a_candidate_was_stopped() -> None:
    strategy = Answering()
    heard = []
    tell = strategy.tell
    strategy.tell = lambda evaluations: (heard.extend(evaluations), tell(evaluations))
    _, loop = play(Budget(evaluations=8), strategy=strategy, evaluator=Counting(epochs=3))
    for found in (
        {e.candidate.id: e for e in heard},
        {e.candidate.id: e for _, e in loop.ledger.evaluations()},
    ):
        assert (found[3].state, found[3].reason, found[3].cause) == (State.PRUNED, "weak", Cause.STOPPED)
        assert (found[5].state, found[5].reason, found[5].cause) == (State.PRUNED, "later", Cause.PAUSED)
        assert {e.cause for id, e in found.items() if id not in (3, 5)} == {None}
