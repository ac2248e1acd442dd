"""Racing: a candidate is scored on growing parts of a split, until it is beaten or has seen all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluators.assessment import Joined
from evaluators.base import Candidate
from evaluators.data.base import Data
from spaces.calling import forward, mode
from spaces.structures import rows, samples

SEEN = "samples_seen"
"""Metric: the number of samples that a candidate was scored on."""
LOSSES = "losses"
"""Array of a report: what each sample of the split adds to the raced objective, to be minimised."""
ERROR = 0.05
"""Chance at most that a candidate is stopped which all samples would have brought onto the front."""
MOST = 1
"""Members of the front that a candidate is held against, the best of those no worse in what is known."""
_FIRST, _SHARE = 16, 4  # samples of the first part, and which share of what was seen each further part has
_STAKE, _LARGEST = 0.2, 0.9  # shares of the wealth that are put at risk: at first, and at most
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Rivals:
    """Members of the front that a candidate is held against: each is no worse in what is known without
    evaluation.

    Attributes:
        metric: that is raced, a mean over samples.
        maximise: whether more of it is better.
        ids: of their candidates.
        losses: what each sample adds to the metric, to be minimised, ``(rivals, samples)``.
    """

    metric: str
    maximise: bool = False
    ids: tuple[int, ...] = ()
    losses: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def sign(self) -> int:
        """What makes the metric one to be minimised."""
        return -1 if self.maximise else 1

    @property
    def least(self) -> float:
        """What no sample may be below, to be minimised: losses are positive, shares of what is right at
        most 1.
        """
        return -1.0 if self.maximise else 0.0


class PairedRace:
    """Whether a candidate is beaten by one of several rivals, told with a bounded chance of error from some
    of the samples, drawn without replacement.

    For every rival a player bets on each sample that the candidate loses more on it than the rival. Where the
    candidate is at least as good as the rival on all samples together, the game is not in the player's
    favour: what is expected of the next sample follows from those before. Then the mean wealth of all players
    reaches 1 / error with a chance of at most `error`, whenever and however often one looks, and whatever the
    number of rivals. The stake is the one with which the wealth would have grown fastest so far (aGRAPA).
    (Waudby-Smith and Ramdas 2020, 2024 [P]; averages of such wealth: Vovk and Wang 2021 [P]; Ville 1939 [P].)

    What a candidate loses on a sample is unbounded above and at least 0, so the bets are limited by what the
    rival, all of whose losses are known, loses at most. The differences are corrected by their regression on
    the rival's losses, whose mean over the samples to come is known (a control variate). [O]

    Args:
        losses: of the rivals, at least 0, ``(rivals, samples)``.
        error: chance at most that a candidate that is no worse than each of the rivals counts as beaten.
    """

    def __init__(self, losses: np.ndarray, error: float) -> None:
        self._losses = np.asarray(losses, dtype=np.float64)
        rivals, self._samples = self._losses.shape
        self._error = error
        self._most, self._rest = self._losses.max(axis=1, initial=0.0), self._losses.sum(axis=1)
        self._seen = 0
        self._behind = np.zeros(rivals)  # what the candidate has lost more than each rival so far
        self._moments = np.zeros((4, rivals))  # sums of r, d, r * r, r * d
        self._gains = np.zeros((2, rivals))  # sums of what a whole stake would have won, and of its square
        self._wealth = np.zeros(rivals)  # logarithms
        self._fair = True

    def add(self, losses: np.ndarray, index: np.ndarray) -> int | None:
        """Take in the candidate's losses on further samples; return the place of the rival that beats it,
        None where none does so far.

        A candidate with a loss below 0 or not finite is not beaten any more.

        Args:
            losses: at least 0, ``(n,)``.
            index: which samples of the split these are, ``(n,)``.
        """
        self._fair &= bool(np.isfinite(losses).all() and (losses >= -_ROUNDING).all())
        if not self._fair or not len(self._losses):
            return None
        theirs = self._losses[:, index]
        behind = losses - theirs
        left = self._samples - self._seen - np.arange(len(index))
        slope = self._slope()[:, None]
        # means over the samples to come, as they would be were the candidate level with the rival
        level = -(self._behind[:, None] + _before(behind)) / left
        mean = (self._rest[:, None] - _before(theirs)) / left
        gain = behind - slope * (theirs - mean) - level
        least = (1 + slope) * self._most[:, None] - slope * mean + np.maximum(level, 0)
        won = gain / np.maximum(least, 1e-12)
        self._wealth += np.log1p(self._stake()[:, None] * won).sum(axis=1)
        self._gains += [won.sum(axis=1), (won**2).sum(axis=1)]
        self._seen += len(index)
        self._behind += behind.sum(axis=1)
        self._rest -= theirs.sum(axis=1)
        self._moments += [theirs.sum(1), behind.sum(1), (theirs**2).sum(1), (theirs * behind).sum(1)]
        if np.logaddexp.reduce(self._wealth) < np.log(len(self._wealth) / self._error):
            return None
        return int(self._wealth.argmax())

    def _stake(self) -> np.ndarray:
        """Return which share of its wealth each player puts at risk, ``(rivals,)``."""
        if not self._seen:
            return np.full(len(self._losses), _STAKE)
        won, squares = self._gains
        return np.clip(won / np.maximum(squares, 1e-12), 0, _LARGEST)

    def _slope(self) -> np.ndarray:
        """Return the regression of the differences on each rival's losses so far, ``(rivals,)``."""
        if not self._seen:
            return np.zeros(len(self._losses))
        r, d, rr, rd = self._moments / self._seen
        return np.clip((rd - r * d) / np.maximum(rr - r * r, 1e-12), -0.9, 2.0)


def _before(values: np.ndarray) -> np.ndarray:
    """Return the sum of what comes before each value of a row."""
    return np.cumsum(values, axis=1) - values


def parts(count: int, most: int) -> Iterator[slice]:
    """Yield the parts in which a split is looked at: small ones first, each at most a quarter of what was
    seen before it.

    Args:
        count: samples of the split.
        most: samples of a part.
    """
    seen = 0
    while seen < count:
        size = min(max(_FIRST, seen // _SHARE), most, count - seen)
        yield slice(seen, seen + size)
        seen += size


@dataclass(frozen=True, eq=False)
class Raced:
    """What came of a race.

    Attributes:
        metrics: means over the samples seen, and how many that were.
        arrays: the losses of all samples, where all were seen.
        stop: by whom it was beaten; empty where it was not.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    stop: str = ""


def race(
    model: nn.Module,
    data: Data,
    split: tuple[Any, Any],
    candidate: Candidate,
    batch_size: int,
    error: float,
    margin: float = 0.0,
) -> Raced:
    """Score a candidate on parts of a split until it is beaten by one of its rivals, or has seen all.

    Samples come in an order drawn by the candidate's seed, so nothing that was learned of earlier candidates
    tells anything of it. Metrics of the whole split are computed where all of it was seen.

    Args:
        split: inputs and targets of all samples, on the model's device.
        batch_size: samples of a forward pass.
        error: see :class:`PairedRace`.
        margin: by which share of a rival's figure a candidate has to be better than the rival to count as
            better.
    """
    count = samples(split[1], split[0])
    order = np.random.default_rng(candidate.seed).permutation(count)
    rivals = candidate.rivals
    test = None if rivals is None else PairedRace((1 - margin) * (rivals.losses - rivals.least), error)
    values: dict[str, np.ndarray] = {}
    joined, seen, stop = Joined(data.split_metrics), np.zeros(count, dtype=bool), ""
    with mode(model, False), torch.inference_mode():
        for part in parts(count, batch_size):
            index = order[part]
            inputs, targets = rows(split, torch.from_numpy(index))
            outputs = forward(model, inputs)
            found = {"loss": data.loss(outputs, targets), **data.metrics(outputs, targets)}
            for name, value in found.items():
                values.setdefault(name, np.zeros(count))[index] = value.double().cpu().numpy()
            seen[index] = True
            joined.add(outputs, targets, len(index))
            if rivals is None or test is None:
                continue
            beaten = test.add(rivals.sign * values[rivals.metric][index] - rivals.least, index)
            if beaten is not None and not seen.all():
                stop = f"beaten by candidate {rivals.ids[beaten]} after {seen.sum()} of {count} samples"
                break
        metrics = {name: float(value[seen].mean()) for name, value in values.items()}
        if not stop:
            metrics |= joined.metrics(torch.from_numpy(np.argsort(order)))
    arrays = {}
    if rivals is not None and not stop:
        arrays[LOSSES] = (rivals.sign * values[rivals.metric]).astype(np.float32)
    return Raced({**metrics, SEEN: float(seen.sum())}, arrays, stop)
