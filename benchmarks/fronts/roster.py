"""Who takes part.

Ours was settled on seed 100 (docs/decisions.md, 2026-11-28), and that more of its settings were looked at than of any control's is the
reason to read the table with care. Controls have the best of what ``benchmarks.fronts.tuning`` ran on that seed, by the search split over
all tasks; where it ran one setting alone they have that.

The networks of another make ("off the shelf") turned out better than the given ones on two tasks, so both kinds are pruned, by ours and by
the best pruning control, and ours has to find out which of the two to prune.
"""

from __future__ import annotations

from benchmarks.fronts.arms import Arm, OnShelf, Raced
from benchmarks.fronts.controls import FromScratch, Pruning
from benchmarks.fronts.ours import Pruned
from benchmarks.fronts.peers import Searched, TorchPruning

_LINES, _DISTILLED = Pruned("lineages"), Pruning("iterative magnitude, distilled", dense=0.45, distilled=0.5, repeats=16)
MAIN = "lineages, either network"
OURS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Raced(MAIN, (_LINES, OnShelf("", _LINES))),
        _LINES,
        OnShelf("lineages, other network", _LINES),
    )
}
CONTROLS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Pruning("one-shot magnitude", once=True),
        Pruning("iterative magnitude"),
        _DISTILLED,
        OnShelf("iterative magnitude, distilled, other network", _DISTILLED),
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
