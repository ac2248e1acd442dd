"""What makes a pruned model well again before anybody judges it."""

from operators.repair.batchnorm import recalibrate
from operators.repair.folding import fold

__all__ = ["fold", "recalibrate"]
