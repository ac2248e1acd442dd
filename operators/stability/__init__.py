"""When an operation of a supernet may go: stability of its importance, and the rules it is compared with."""

from typing import TYPE_CHECKING, Any

from operators.stability.base import Rule
from operators.stability.calibration import lost_ground, null_threshold
from operators.stability.divergence import (
    entropy,
    intersection,
    jensen_shannon,
    window_divergences,
    window_means,
)
from operators.stability.entropy_rule import Entropy
from operators.stability.fixed_stop import FixedStop
from operators.stability.histogram_intersection import HistogramIntersection
from operators.stability.history import EdgeHistory, Histories
from operators.stability.no_removal import NoRemoval
from operators.stability.random_removal import RandomRemoval
from operators.stability.rank_stop import RankStop
from operators.stability.stability import Stability
from spaces.names import renamed

__all__ = [
    "EdgeHistory",
    "Entropy",
    "FixedStop",
    "HistogramIntersection",
    "Histories",
    "NoRemoval",
    "RandomRemoval",
    "RankStop",
    "Rule",
    "Stability",
    "entropy",
    "intersection",
    "jensen_shannon",
    "lost_ground",
    "null_threshold",
    "window_divergences",
    "window_means",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return renamed(__name__, name)
