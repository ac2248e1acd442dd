"""How a supernet is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evaluators.data.base import SPLITS, Split
from spaces.errors import require


@dataclass(frozen=True)
class SupernetSettings:
    """Weights by SGD on the training split, architecture by Adam on a held-out split, in turns.

    Attributes:
        warmup: epochs in which the weights alone are trained. [P] PC-DARTS: 15 of 50
        warmup_operations: that take part in a step of the warm-up on every edge, drawn anew for each step;
            None: all. A warm-up of twice as many epochs with two of seven costs and keeps in memory half as
                much. [O]
        batch_size: of both splits.
        learning_rate: of the weights; it falls along a cosine to a hundredth over all epochs. [P] DARTS: .025
        momentum, weight_decay, clip: of the weights; `clip` is the largest norm of the gradient. [P] .9,
            3e-4, 5
        architecture_learning_rate, architecture_weight_decay: of Adam with betas .5 and .999. [P] 6e-4 and
            1e-3 for 50 epochs of 25,000 images; where epochs are short it must be larger to get anywhere.
        order: 1: the gradient at the weights as they are; 2: at the weights after one more step. [P] DARTS
        share: operations see 1/share of the channels. [P] PC-DARTS: 4
        normalise: whether a node's edges are weighed against each other. [P] PC-DARTS
        held_out: the split that the architecture learns from: ``calibration`` or ``search`` (which also
            scores what is found).

    Raises:
        InputError: a setting out of its range, named.
    """

    warmup: int = 5
    warmup_operations: int | None = None
    batch_size: int = 64
    learning_rate: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    architecture_learning_rate: float = 3e-3
    architecture_weight_decay: float = 1e-3
    order: Literal[1, 2] = 1
    share: int = 4
    normalise: bool = True
    held_out: Split = "calibration"

    def __post_init__(self) -> None:
        require(
            "supernet",
            (self.warmup >= 0, f"warmup {self.warmup}; expected at least 0"),
            (
                self.warmup_operations is None or self.warmup_operations >= 1,
                f"warmup_operations {self.warmup_operations}; expected at least 1, or null for all",
            ),
            (self.batch_size >= 2, f"batch_size {self.batch_size}; expected at least 2"),
            (self.learning_rate > 0, f"learning_rate {self.learning_rate}; expected a number above 0"),
            (0 <= self.momentum < 1, f"momentum {self.momentum}; expected 0 to below 1"),
            (self.weight_decay >= 0, f"weight_decay {self.weight_decay}; expected at least 0"),
            (self.clip > 0, f"clip {self.clip}; expected a number above 0"),
            (
                self.architecture_learning_rate > 0,
                f"architecture_learning_rate {self.architecture_learning_rate}: the architecture would "
                f"never move; expected above 0",
            ),
            (
                self.architecture_weight_decay >= 0,
                f"architecture_weight_decay {self.architecture_weight_decay}; expected at least 0",
            ),
            (self.order in (1, 2), f"order {self.order}; expected 1 or 2"),
            (self.share >= 1, f"share {self.share}; expected at least 1"),
            (
                self.held_out in SPLITS and self.held_out not in ("test", "train"),
                f"held_out {self.held_out!r}; expected calibration or search",
            ),
        )
