"""Who takes part.

The settings are first guesses: they have to be tuned on seeds 100 and 101, as many for every arm, before seeds 0 to 4 are recorded.
"""

from __future__ import annotations

from benchmarks.fronts.arms import Arm
from benchmarks.fronts.controls import FromScratch, Pruning
from benchmarks.fronts.ours import Pruned
from benchmarks.fronts.peers import Searched, TorchPruning

MAIN = "lineages"
OURS: dict[str, Arm] = {arm.name: arm for arm in (Pruned(MAIN),)}
CONTROLS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Pruning("one-shot magnitude", once=True),
        Pruning("iterative magnitude"),
        Pruning("iterative magnitude, distilled", distilled=1.0),
        FromScratch("uniform width"),
        FromScratch("uniform width, distilled", dense=0.2),
        FromScratch("random widths", random=True),
        FromScratch("off the shelf", shelf=True, smallest=0.1),
        TorchPruning(),
        Searched("Optuna TPE", "tpe"),
        Searched("Optuna NSGA-II", "nsga2"),
        Searched("regularised evolution", "regularised"),
    )
}
