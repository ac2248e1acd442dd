"""Which arms take part, by the plain names of their shards.

Our settings were chosen on seed 100 (docs/decisions.md, 2026-11-28). More of ours were looked at than of any
control's, so read the table with care. Controls have the best of the settings that
``benchmarks.fronts.tuning`` ran on that seed, by the search split over all tasks: "off the shelf", "uniform
width", "iterative magnitude", that of the other network (on digits and characters, where it matters),
"iterative magnitude, distilled", and Torch-Pruning (two settings, on digits and hearts). One-shot magnitude,
random widths and distilled uniform networks take the settings of the arms that they are variants of, and the
searches keep the ones that they were written with.

The networks of another make ("off the shelf") turned out better than the given ones on two tasks, so both
kinds are pruned, by ours and by iterative magnitude, and ours has to find out which of the two to prune.

Ablations have what ours is made of but the search: they begin as narrow as ours, learn from the network that
they begin with, its mixtures and labels, at the rates that suit ours, and are given the oracle network, the
better one of the two. What ours is ahead of them is the worth of trying removals, and of nothing else.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.fronts.arms import RECIPE, Arm, Narrower, OnShelf, Raced
from benchmarks.fronts.controls import FromScratch, Pruning
from benchmarks.fronts.ours import Pruned
from benchmarks.fronts.peers import Searched, TorchPruning

FAST = replace(RECIPE, rate=1.6)
MAIN = "lineages, either network"
_LINES, _MAGNITUDE = Pruned("lineages"), Pruning("iterative magnitude", dense=0.2, later=1.5)
_DISTILLED = Pruning("iterative magnitude, distilled", dense=0.45, later=1.5, distilled=0.5, repeats=16)


def _other(name: str, arm: Arm, width: float = 0.7) -> OnShelf:
    """The arm on the network of another make, from a narrower one."""
    return OnShelf(name, Narrower("", arm, width))


OURS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Raced(MAIN, (_LINES, _other("", _LINES)), share=0.08, heats=(_LINES, OnShelf("", _LINES))),
        _LINES,
        _other("lineages, other network", _LINES),
    )
}
CONTROLS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        replace(_MAGNITUDE, name="one-shot magnitude", once=True),
        _MAGNITUDE,
        OnShelf("iterative magnitude, other network", replace(_MAGNITUDE, dense=0.45)),
        FromScratch("uniform width", recipe=FAST),
        FromScratch("random widths", random=True, recipe=FAST),
        FromScratch("off the shelf", shelf=True, smallest=0.1, sizes=6),
        TorchPruning(),
        Searched("Optuna TPE", "tpe"),
        Searched("Optuna NSGA-II", "nsga2"),
        Searched("regularised evolution", "regularised"),
    )
}
ABLATIONS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        _DISTILLED,
        _other("iterative magnitude, distilled, other network", _DISTILLED),
        FromScratch("uniform width, distilled", dense=0.45, distilled=0.5, repeats=16, recipe=FAST),
    )
}
ARMS = OURS | CONTROLS | ABLATIONS


def oracle_arm(rival: str) -> str:
    """Return the arm of ours on the oracle network: the one that a rival was given to prune, which ours has
    to find out.
    """
    arm = ARMS.get(rival)
    elsewhere = isinstance(arm, OnShelf) or (isinstance(arm, FromScratch) and arm.shelf)
    return "lineages, other network" if elsewhere else "lineages"
