"""Which candidates come next: evolution, chance, lines of pruning, and what helps them choose."""

from search.strategies.evolution import Evolution
from search.strategies.expected_improvement import ExpectedImprovement
from search.strategies.ladder import Ladder
from search.strategies.monitor import Monitor
from search.strategies.preselection import Preselection
from search.strategies.proposals import Proposal
from search.strategies.pruning_lines import PruningLines
from search.strategies.random_search import RandomSearch
from search.strategies.rank_correlation import RankCorrelation
from search.strategies.screening import Screening
from search.strategies.stages import Stages
from search.strategies.surrogate import Surrogate

__all__ = [
    "Evolution",
    "ExpectedImprovement",
    "Ladder",
    "Monitor",
    "Preselection",
    "Proposal",
    "PruningLines",
    "RandomSearch",
    "RankCorrelation",
    "Screening",
    "Stages",
    "Surrogate",
]
