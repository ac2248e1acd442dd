"""Settings of an evaluation that a genome holds: hyper-parameters beside a mask or an architecture, or on
their own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from spaces.base import Space
from spaces.choices import HyperParameters
from spaces.errors import InputError
from spaces.joint import JointSpace
from spaces.trials import MODEL, TrialSpace

_TRAINING = "training."


def settings_of(space: Space, genome: np.ndarray) -> dict[str, Any]:
    """Return the settings that a genome ``(length,)`` holds, by their names without ``training.``."""
    if isinstance(space, TrialSpace | HyperParameters):
        return {
            name.removeprefix(_TRAINING): value
            for name, value in space.values(genome).items()
            if not name.startswith(MODEL)
        }
    if isinstance(space, JointSpace):
        return {
            name: value
            for part in space.split(genome).values()
            for name, value in settings_of(part.space, part.genome).items()
        }
    return {}


def choices_of(space: Space) -> dict[str, tuple[Any, ...]]:
    """Return the settings that genomes of a space may hold, each with the values it may have where these are
    few.
    """
    if isinstance(space, JointSpace):
        return {name: values for part in space.spaces.values() for name, values in choices_of(part).items()}
    if isinstance(space, HyperParameters):
        return {
            name.removeprefix(_TRAINING): dimension.values for name, dimension in space.dimensions.items()
        }
    if isinstance(space, TrialSpace):
        return {
            name.removeprefix(_TRAINING): () for name in space.distributions if not name.startswith(MODEL)
        }
    return {}


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
