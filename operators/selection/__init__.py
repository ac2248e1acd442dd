"""Selection of survivors and of parents."""

from operators.selection.base import Selection
from operators.selection.nsga2 import NSGA2Selection
from operators.selection.nsga3 import NSGA3Selection
from operators.selection.tournament import rank, tournament

__all__ = ["NSGA2Selection", "NSGA3Selection", "Selection", "rank", "tournament"]
