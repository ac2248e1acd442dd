"""Settings of an evaluation that a genome holds: hyper-parameters beside a mask or an architecture, or on
their own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from spaces.base import Space
from spaces.errors import InputError

_TRAINING = "training."


def settings_of(space: Space, genome: np.ndarray) -> dict[str, Any]:
    """Return the settings that a genome ``(length,)`` holds, by their names without ``training.``."""
    return {name.removeprefix(_TRAINING): value for name, value in space.genes(genome).items()}


def choices_of(space: Space) -> dict[str, tuple[Any, ...]]:
    """Return the settings that genomes of a space may hold, each with the values it may have where these are
    few.
    """
    return {name.removeprefix(_TRAINING): values for name, values in space.gene_values().items()}


def check_settings(space: Space, accepted: Collection[str], evaluator: str) -> None:
    """Make sure that somebody takes every setting.

    Raises:
        InputError: one that is not among those accepted.
    """
    for name in choices_of(space):
        if name not in accepted:
            raise InputError(
                f"evaluator {evaluator}: nothing takes the parameter {name!r}; expected model.* or one of "
                f"{', '.join(accepted)}"
            )
