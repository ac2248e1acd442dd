"""Searches of cells as candidates: how single cases fare with the cell that was found."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from evaluators.base import Candidate
from evaluators.data.segmentation import Segmentation, overlap_by_case
from search.problem import Problem
from search.record.ledger import Ledger
from spaces.base import Space, Trained

CASES = "cases/"
"""Begins the names of arrays in the ledger, followed by the candidate: ``before`` and ``after``, overlaps
``(cases, structures)``.
"""
FILE = "cases.csv"


def keep_cases(
    problem: Problem,
    candidate: Candidate,
    ended: tuple[Space, np.ndarray],
    weights: Mapping[str, Tensor],
    ledger: Ledger,
    folder: Path,
) -> None:
    """Keep the Dice overlap of every case of the test split, without cells and with them: in the ledger, and
    as ``cases.csv``.

    Does nothing unless a trained network was given cells and the data are a segmentation.

    Args:
        candidate: whose search it was.
        ended: space and genome of the model that it ended with (:meth:`spaces.Space.finish`).
        weights: of that model.
        ledger: where the overlaps go.
        folder: where the table goes.
    """
    space, data = problem.space, problem.evaluator.data
    if not isinstance(space, Trained) or not space.trained or data is None:
        return
    if not isinstance(data.task, Segmentation):
        return
    model = ended[0].build(ended[1])
    model.load_state_dict(dict(weights))
    names, after = overlap_by_case(model, data, "test")
    _, before = overlap_by_case(space.build(candidate.genome), data, "test")
    ledger.save_arrays(f"{CASES}{candidate.id}", {"before": before, "after": after})
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
