"""What was watched of a trial while it trained, as plain numbers: the view and the report read it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# the one metric that tells of the whole curve; evaluators, which name it, would bring torch into the view
_WHOLE = "steady_loss"


def repeats(metrics: Mapping[str, float], earlier: Sequence[Mapping[str, float]]) -> bool:
    """Whether a report only says that the weights of an epoch before the latest one were put back."""
    of_epoch = [
        {name: value for name, value in found.items() if name != _WHOLE} for found in (*earlier, metrics)
    ]
    return of_epoch[-1] in of_epoch[:-2] and of_epoch[-1] != of_epoch[-2]


def curve(monitor: str, reports: Sequence[tuple[int, Mapping[str, float]]]) -> dict[int, float]:
    """Return what was watched, by step; without the last report where it only repeats an epoch whose weights
    were put back.
    """
    steps = [metrics for _, metrics in reports]
    whole = reports[:-1] if steps and repeats(steps[-1], steps[:-1]) else reports
    return {step: value for step, metrics in whole if (value := watched(monitor, metrics)) is not None}


def watched(monitor: str, metrics: Mapping[str, float]) -> float | None:
    """Return a metric, or a sum of metrics (``loss + tic_bias``), of a report; None where it lacks one of
    them.
    """
    names = [name.split()[-1] for name in monitor.split("+")]  # "max accuracy" is shown as it is
    return sum(metrics[name] for name in names) if all(name in metrics for name in names) else None
