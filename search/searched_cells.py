"""Searches of cells as candidates: what such a candidate became, and how single cases fare with its cell."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from evaluators.base import Candidate
from evaluators.data.segmentation import Segmentation, overlap_by_case
from search.ledger import Ledger
from search.problem import Problem
from spaces.base import Space
from spaces.cells import SupernetSpace

CASES = "cases/"
"""Begins the names of arrays in the ledger, followed by the candidate: ``before`` and ``after``, overlaps
``(cases, structures)``.
"""
FILE = "cases.csv"


def became(
    space: Space, candidate: Candidate, arrays: Callable[[], Mapping[str, np.ndarray]]
) -> tuple[Space, np.ndarray]:
    """Return the space and the genome of the model that a candidate ended with: of a search, those of the
    cell that it found.

    Args:
        arrays: gives the arrays of its evaluation; asked for where they are needed.
    """
    if not isinstance(space, SupernetSpace):
        return space, candidate.genome
    return space.cells, space.cells.encode(str(arrays()["genotype"]))


def keep_cases(
    problem: Problem,
    space: Space,
    genome: np.ndarray,
    weights: Mapping[str, Tensor],
    ledger: Ledger,
    id: int,
    folder: Path,
) -> None:
    """Keep the Dice overlap of every case of the test split, without cells and with them: in the ledger, and
    as ``cases.csv``.

    Does nothing unless a trained network was given cells and the data are a segmentation.
    """
    data = problem.evaluator.data
    if not isinstance(problem.space, SupernetSpace) or problem.space.design.hollow or data is None:
        return
    if not isinstance(getattr(data, "task", None), Segmentation):
        return
    model = space.build(genome)
    model.load_state_dict(dict(weights))
    names, after = overlap_by_case(model, data, "test")
    _, before = overlap_by_case(problem.space.design.network(), data, "test")
    ledger.save_arrays(f"{CASES}{id}", {"before": before, "after": after})
    structures = [
        f"{when}_{number}" for when in ("before", "after") for number in range(1, after.shape[1] + 1)
    ]
    with (folder / FILE).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", *structures])
        table.writerows(
            [name, *(f"{value:.4f}" for value in (*b, *a))]
            for name, b, a in zip(names, before, after, strict=True)
        )
