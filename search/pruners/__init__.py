"""Which trial of an Optuna study is stopped early: by Takeuchi's criterion, by what the best trials had come
to at the same step, or by non-domination where there are several objectives.
"""

from typing import TYPE_CHECKING, Any

from search.pruners.leaders import LeadersPruner
from search.pruners.non_domination import NonDominationPruner, to_stop
from search.pruners.tic import TICPruner
from spaces.names import renamed

__all__ = ["LeadersPruner", "NonDominationPruner", "TICPruner", "to_stop"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return renamed(__name__, name)
