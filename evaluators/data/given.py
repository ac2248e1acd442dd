"""Data as a run is given them: a ``Data``, arrays, loaders or datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from evaluators.data.arrays import SHARES, Arrays, array_of, held_out
from evaluators.data.base import Data
from evaluators.data.guesses import chosen_names
from evaluators.data.loaders import Loaders
from evaluators.data.sources import Source, is_source
from spaces.errors import InputError, require
from spaces.structures import joined

EXPECTED = (
    "expected an evaluators.data.Data, arrays as (inputs, targets) or ((inputs, targets), (test inputs, test "
    "targets)), a torch DataLoader or Dataset, or a Hugging Face dataset (docs/data.md)"
)


def data_of(given: Any, model: nn.Module | None) -> Data:
    """Return data as a run takes them: pairs of arrays as :class:`Arrays`, DataLoaders and datasets wrapped
    into :class:`Loaders`.

    Args:
        given: a Data, a source of samples, ``(inputs, targets)``, or two such pairs, of which the second is
            the test split.
        model: names the arguments that it takes of batches by name.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(given, Data):
        return given
    if is_source(given):
        return Loaders(given, inputs=None if model is None else taken_by(model, given))
    if _is_pair(given):
        return Arrays(*given)
    if isinstance(given, tuple) and len(given) == 2 and all(map(_is_pair, given)):
        return _with_test(*given)
    raise InputError(f"data: {_told(given)}; {EXPECTED}")


def taken_by(model: nn.Module, given: Any) -> Sequence[str] | str | None:
    """Return which entries of the batches a model's ``forward`` takes: those that are its arguments, or the
    only one where none is; None where batches have no names.
    """
    batch = Source(given, "train").first(1)
    return chosen_names(model, batch) if isinstance(batch, Mapping) else None


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim > 0


def _is_pair(given: Any) -> bool:
    """Whether it is inputs (an array, or several by place or name) and an array of targets."""
    if not isinstance(given, tuple) or len(given) != 2 or not _is_array(given[1]):
        return False
    parts = tuple(given[0].values()) if isinstance(given[0], Mapping) else given[0]
    return _is_array(parts) or (isinstance(parts, tuple) and bool(parts) and all(map(_is_array, parts)))


def _with_test(*pairs: Any) -> Arrays:
    """Return arrays whose test split is given; calibration and search are drawn from the training samples."""
    for name, (inputs, targets) in zip(("training", "test"), pairs, strict=True):
        for part in tree_leaves(inputs):
            require(
                "data",
                (
                    len(part) == len(targets),
                    f"{len(part)} {name} inputs for {len(targets)} targets; both need the same number of "
                    f"samples",
                ),
            )
    counts = [len(targets) for _, targets in pairs]
    rows = held_out(counts[0], counts[1], SHARES["calibration"], SHARES["search"], seed=0)
    try:
        inputs, targets = joined([tree_map(array_of, pair) for pair in pairs])
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(
            f"data: training and test arrays do not go together ({' '.join(str(error).split())}); expected "
            f"samples of one shape in both"
        ) from None
    return Arrays(inputs, targets, rows)  # type: ignore[arg-type]  # row numbers as an array


def _told(given: Any) -> str:
    """Say what was given, of a tuple what is in it."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if type(given) is tuple:
        return f"a tuple of {', '.join(type(part).__name__ for part in given)}"
    return f"a {type(given).__name__}"
