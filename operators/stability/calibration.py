"""What divergence to expect where nothing but noise moves the importances, and whether a choice loses ground
beyond that.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from operators.stability.divergence import jensen_shannon

Null = Literal["noise", "walk"]
NULLS: tuple[Null, ...] = ("noise", "walk")


def null_threshold(importances: np.ndarray, window: int, level: float = 0.95, null: Null = "noise") -> float:
    """Return the JS that two neighbouring windows stay below in `level` of all cases, if only step noise
    moves the importances. [O]

    The noise is estimated from the differences d of consecutive checks within the last two windows, about
    their mean. Then the windows' means differ by a normal D of the covariance c cov(d), where

    - ``noise``: each check is a fixed distribution plus noise of its own, cov(d) is twice the noise's, and c
      = 1 / W;
    - ``walk``: each check is the last one plus a step of noise, and c = (2 W^2 + 1) / (3 W), the sum of
      squares of a triangle's weights.

    For small D, JS = sum D_i^2 / p_i / (8 ln 2), a weighted sum of chi-squares, taken as one of the same mean
    and variance (Satterthwaite), over the degrees of freedom of cov(d): an F quantile.

    Args:
        importances: ``(checks, operations)``, at least 2 `window` checks.
        window: checks in a window, at least 2.
        level: 0 .. 1; the rate at which pure noise is called stable.
        null: which.
    """
    from scipy.stats import f  # a quarter of a second that other rules need not pay

    rows = importances[-2 * window :]
    steps = np.diff(rows, axis=0)
    steps = (steps - steps.mean(axis=0)) / np.sqrt(np.maximum(rows.mean(axis=0), 1e-12))
    n = len(steps)
    scale = 1 / window if null == "noise" else (2 * window**2 + 1) / (3 * window)
    own = (
        n - 1 if null == "walk" else n - 1 / n
    )  # the mean of differences of independent noise is nearly 0, so little is lost to it
    covariance = steps.T @ steps / own * scale / (8 * np.log(2))
    mean = float(np.trace(covariance))
    if mean <= 0:
        return 0.0
    # differences of independent noise are correlated: n of them tell as much as 2 n / 3 independent ones
    known = max(own * (2 / 3 if null == "noise" else 1.0), 1.5)
    square = (
        known**2 / ((known - 1) * (known + 2)) * (np.square(covariance).sum() - mean**2 / known)
    )  # unbiased for a Wishart matrix
    freedom = float(np.clip(mean**2 / max(square, 1e-300), 1.0, importances.shape[1] - 1))
    return float(mean * f.ppf(level, freedom, known * freedom))


def lost_ground(
    importances: np.ndarray, ours: np.ndarray, theirs: np.ndarray, window: int, level: float = 0.95
) -> bool:
    """Return whether some operations have lost to others from one window to the next, beyond what step noise
    explains. [O]

    The distribution is told in two parts, scaled to the sum 1: moves within either part, or of what is in
    neither, do not count, and neither does a gain. The JS of these two parts is held against that of a random
    walk (:func:`null_threshold`).

    Args:
        importances: ``(checks, operations)``, at least 2 `window` checks.
        ours: the first part, bool ``(operations,)``, not empty.
        theirs: the second part, likewise.
        window: checks in a window, at least 2.
        level: 0 .. 1.
    """
    rows = importances[-2 * window :]
    share = rows[:, ours].sum(axis=1) / rows[:, ours | theirs].sum(axis=1)
    before, now = share[:window].mean(), share[window:].mean()
    if now >= before:
        return False
    divergence = jensen_shannon(np.array([now, 1 - now]), np.array([before, 1 - before]))
    return bool(divergence > null_threshold(np.stack([share, 1 - share], axis=1), window, level, "walk"))
