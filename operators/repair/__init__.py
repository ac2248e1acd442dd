"""What makes a pruned model well again before anybody judges it."""

from operators.repair.batchnorm import recalibrate

__all__ = ["recalibrate"]
