"""What a run says for itself in which nothing came to its end: why, and what to change."""

from __future__ import annotations

import re
from collections import Counter

from evaluators.base import Cause
from search.record.ledger import Ledger

_ADVICE = {
    Cause.STOPPED: "give the strategy `pruner: null`, a pruner with a larger startup_trials or min_resource, "
    "or another monitor",
    Cause.DIVERGED: "narrow the range of the learning rate, set `clip`, or scale the data",
    Cause.PAUSED: "raise search.budget.evaluations, or make the brackets smaller (n)",
}
"""What to change where most of the candidates were stopped for a cause."""


def nothing_complete(ledger: Ledger) -> str:
    """Return one sentence where a run has stopped candidates and none that is complete; else an empty text.

    The sentence counts the commonest reasons, without the steps at which they held, and names what to change.
    """
    counts = ledger.counts()
    if counts["complete"] or not counts["pruned"]:
        return ""
    reasons: Counter[str] = Counter()
    causes: Counter[Cause] = Counter()
    for _, evaluation in ledger.evaluations():
        cause = evaluation.cause or Cause.ERROR
        reasons[re.sub(r" (at step|at rung) \d.*", "", evaluation.reason) or cause.value] += 1
        causes[cause] += 1
    common = ", ".join(f"{count} {_said(reason)}" for reason, count in reasons.most_common(3))
    advice = next((_ADVICE[cause] for cause, _ in causes.most_common() if cause in _ADVICE), "")
    evaluated, stopped = counts["evaluations"], counts["pruned"]
    return f"nothing came to its end: {stopped} of {evaluated} were stopped early ({common}); {advice}"


def _said(reason: str) -> str:
    """Return a reason so that it follows a number: a bare class is the pruner that stopped them."""
    return f"by {reason}" if re.fullmatch(r"[A-Za-z_]\w*Pruner", reason) else reason
