"""A score of trials at a rung in units of the loss, each signal as heavy as it can be right. [O]"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.strategies.rank_correlation import normal_scores


def halving_score(
    val: np.ndarray,
    train: np.ndarray,
    bias: np.ndarray,
    movement: np.ndarray,
    labels: int,
    share: float | None = None,
    errors: float = 0.5,
    others: Sequence[tuple[np.ndarray, float]] = (),
) -> np.ndarray:
    """Return validation loss + share * TIC bias + `errors` * standard error * normal scores of the movement,
    and of others with their own weights; lower is better.

    The share is that of the gap (validation less training loss) in the validation loss, in the median of the
    trials: where nothing is overfitted yet, a bias says nothing. The error is that of a validation loss,
    about its median over the root of `labels`, as losses scatter about as widely as their mean: a large
    validation split leaves the movement no say.

    Args:
        val, train: losses of the trials at a rung, ``(trials,)``; not finite once diverged.
        bias: over n, in the unit of the loss: means over all epochs so far, since one draw of labels is
            noisy.
        movement: the regime gauge.
        labels: that a validation loss is the mean over.
        share: weight of the bias; None: the gap's share.
        errors: weight of the movement.
        others: more signals, ``(trials,)``, with their weights.
    """
    score = np.full(len(val), np.inf)
    fine = np.isfinite(val)
    if fine.any():
        level = np.median(val[fine])
        share = float(np.clip(np.median(val[fine] - train[fine]) / level, 0, 1)) if share is None else share
        score[fine] = val[fine] + share * bias[fine]
        for signal, weight in ((movement, errors), *others):
            score[fine] += weight * level / np.sqrt(labels) * normal_scores(signal)[fine]
    return score
