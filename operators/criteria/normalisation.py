"""Scores of one group's channels, made such that groups can be compared."""

from __future__ import annotations

from typing import Literal

import numpy as np

Normalisation = Literal["mean", "lamp"]
NORMALISATIONS: tuple[Normalisation, ...] = ("mean", "lamp")
_LEAST = 1e-300


def normalised(scores: np.ndarray, kind: Normalisation) -> np.ndarray:
    """Return the scores ``(channels,)`` of the kept channels of one group, comparable with those of other
    groups.

    ``mean``: over their mean, so that every group loses alike. [P]
    ``lamp``: of their squares, each over the sum of those that are no smaller (LAMP, Lee et al. 2021, arXiv
    2010.07611 [P]; of channels in the place of weights [O]). The best of a group has 1 and a group is
    protected the more the fewer it has left. Of channels with equal scores the earlier one counts as smaller.
    """
    if kind == "mean":
        return scores / max(float(scores.mean()), 1e-12) if len(scores) else scores
    squares = np.square(scores.astype(np.float64))
    order = np.argsort(squares, kind="stable")
    above = np.cumsum(squares[order][::-1])[::-1]
    found = np.empty_like(squares)
    found[order] = squares[order] / np.maximum(above, _LEAST)
    return found
