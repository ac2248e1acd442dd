"""What a tuning strategy looks at while a trial trains."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from evaluators.base import Cause, Report
from evaluators.tic.prediction import attribute
from search.problem import Objective
from search.stop import Stop
from spaces.errors import InputError

BIAS, ERROR, MOVEMENT, PREDICTED = "tic_bias", "tic_error", "movement", "predicted_loss"
"""Names under which an evaluator reports what TIC says."""


class Monitor:
    """A metric of reports, or a sum of metrics such as ``loss + tic_bias``, as a number to minimise.

    Args:
        text: ``METRIC``, ``max METRIC`` or ``METRIC + METRIC``.
    """

    def __init__(self, text: str) -> None:
        parts = text.split("+")
        self.text = " + ".join(part.strip() for part in parts)
        found = Objective.parse(parts[0])
        self.sign = -1.0 if found.maximise else 1.0
        self.metrics = (found.metric, *(part.strip() for part in parts[1:]))
        self._spread = PREDICTED in self.metrics or BIAS in self.metrics

    def check(self, place: str, known: Collection[str]) -> None:
        """Raise :class:`InputError` where an evaluator that reports `known` metrics does not report these."""
        for metric in self.metrics:
            if metric not in known:
                hint = "; give the evaluator a tic" if metric in (PREDICTED, BIAS) else ""
                raise InputError(
                    f"{place}: the evaluator reports no {metric!r}; expected one of "
                    f"{', '.join(sorted(known))}{hint}"
                )

    def missing(self, metrics: Mapping[str, float]) -> list[str]:
        """Return the metrics that are not among these, or are not a number there."""
        return [name for name in self.metrics if math.isnan(metrics.get(name, math.nan))]

    def __call__(self, metrics: Mapping[str, float]) -> float:
        """Return the value to minimise; nan where a report lacks one of the metrics."""
        return self.sign * sum(metrics.get(metric, math.nan) for metric in self.metrics)

    def attributes(self, report: Report) -> dict[str, Any]:
        """Return the user attributes by which a pruner learns how sure the value is; none where TIC has no
        part in it.
        """
        found = report.metrics
        if not self._spread or ERROR not in found:
            return {}
        return {
            attribute(report.step): {
                "bias": found.get(BIAS),
                "error": found[ERROR],
                "movement": found.get(MOVEMENT),
            }
        }


def divergence(report: Report) -> Stop | None:
    """Return ``diverged: train_loss is nan at step 3`` where a metric is not finite, else None."""
    for name, value in report.metrics.items():
        if not math.isfinite(value):
            return Stop(f"diverged: {name} is {value} at step {report.step}", Cause.DIVERGED)
    return None
