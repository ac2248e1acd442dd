"""Which results mean the same, seen from the ledger; whole runs are in test_warm_start.py."""

import numpy as np

from evaluators.base import Candidate, Evaluation, State
from search.record.identity import Identity
from search.record.ledger import Ledger
from search.warm_start.carried_results import CarriedResults
from tests.search.loop_case import SPACE, Counting

IDENTITY = {
    "data": "d",
    "model": "m",
    "weights": "w",
    "evaluators.0": "Counting",
    "objectives": "left",
    "seed": "0",
}


def ledger(*order):
    """One genome evaluated three times; in that order the results came."""
    made = Ledger(None, SPACE)
    made.claim(Identity(IDENTITY))
    candidates = [Candidate(id, np.ones(24, np.uint8), seed=id) for id in range(3)]
    made.add_candidates(candidates)
    for id in order:
        made.add_evaluation(
            Evaluation(candidates[id], State.FAILED if id == 0 else State.COMPLETE, {"left": float(id)})
        )
    return made


def test_of_several_results_the_one_asked_first_counts_whenever_it_came():
    for order in ((0, 1, 2), (2, 1, 0)):
        results = CarriedResults(
            ledger(*order),
            "before",
            SPACE,
            Counting(),
            Identity(IDENTITY | {"objectives": "right", "seed": "7"}),
        )
        assert results.refusal == "" and len(results) == 1
        found = results.find(Candidate(40, np.ones(24, np.uint8), seed=40)).evaluation
        assert found.metrics == {"left": 1.0} and (
            found.candidate.id,
            found.candidate.seed,
            found.worker,
        ) == (40, 1, "from before")
        assert results.find(Candidate(41, np.zeros(24, np.uint8))) is None


def test_lines_that_differ_are_counted_and_goals_are_none_of_them():
    changed = Identity(
        IDENTITY | {"weights": "v", "evaluators.0.batch_size": "8", "constraints": "left <= 3"}
    )
    results = CarriedResults(ledger(1), "before", SPACE, Counting(), changed)
    assert len(results) == 0 and results.find(Candidate(0, np.ones(24, np.uint8))) is None
    assert results.refusal == "weights (was w, is v), and 1 more"
