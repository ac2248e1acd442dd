"""Which trial of an Optuna study is stopped early: by Takeuchi's criterion, or by non-domination where there
are several objectives.
"""

from search.pruners.non_domination import NonDominationPruner, to_stop
from search.pruners.tic import TICPruner

__all__ = ["NonDominationPruner", "TICPruner", "to_stop"]
