"""What repairs a pruned model before it is measured."""

from operators.repair.batchnorm import recalibrate
from operators.repair.folding import fold

__all__ = ["fold", "recalibrate"]
