"""Who takes part.

Ours was settled on seed 100 (docs/decisions.md, 2026-11-28), and that more of its settings were looked at than of any control's is the
reason to read the table with care. Controls have the best of what ``benchmarks.fronts.tuning`` ran on that seed, by the search split over
all tasks; where it ran one setting alone they have that.
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
        FromScratch("off the shelf", shelf=True, smallest=0.1, sizes=6),
        TorchPruning(),
        Searched("Optuna TPE", "tpe"),
        Searched("Optuna NSGA-II", "nsga2"),
        Searched("regularised evolution", "regularised"),
    )
}
