"""The contract of a strategy, for your own as for ours: inherit it, pytest runs its checks."""

from search.testing.contract import (
    BitSpace,
    StrategyContract,
    Toy,
    assert_same,
    evaluate,
    leading_ones_trailing_zeros,
    lotz,
    play,
    points,
    pruning,
)
from search.testing.ledger import LedgerStoreContract
from search.testing.trial_toys import Curves, tuning_problem

__all__ = [
    "BitSpace",
    "Curves",
    "LedgerStoreContract",
    "StrategyContract",
    "Toy",
    "assert_same",
    "evaluate",
    "leading_ones_trailing_zeros",
    "lotz",
    "play",
    "points",
    "pruning",
    "tuning_problem",
]
