"""Structures of tensors: what batches, targets and outputs are made of.

Tuples and mappings have parts, a list holds one item a sample, and what is no tensor stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from spaces.errors import InputError


def mapped(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return a structure with a function of every tensor in its place; mappings that torch does not know
    become plain ones.
    """

    def at(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        return mapped(function, dict(leaf)) if isinstance(leaf, Mapping) else leaf

    return function(value) if isinstance(value, Tensor) else tree_map(at, value)


def leaves(value: Any) -> list[Any]:
    """Return what a structure holds, in order."""
    return [
        part
        for leaf in tree_leaves(value)
        for part in (leaves(dict(leaf)) if isinstance(leaf, Mapping) else (leaf,))
    ]


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a structure, in order."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def samples(*values: Any) -> int:
    """Return the number of samples in the first of these structures that tells it: by the first axis of its
    first tensor, or the length of its first list.

    Raises:
        InputError: none of them does.
    """
    for value in values:
        count = _samples(value)
        if count is not None:
            return count
    found = ", ".join(type(value).__name__ for value in values)
    raise InputError(
        f"data: a batch of {found} does not tell how many samples it has; expected a tensor whose first axis "
        f"are the samples, or a list with one item a sample, somewhere in it"
    )


def _samples(value: Any) -> int | None:
    if isinstance(value, Tensor):
        return len(value) if value.ndim else None
    if isinstance(value, list):
        return len(value)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if not isinstance(value, tuple):
        return None
    return next((count for part in value if (count := _samples(part)) is not None), None)


def rows(value: Any, index: slice | Tensor) -> Any:
    """Return some samples of a structure; what has none (numbers, single values, ``None``) as it is.

    Args:
        index: a slice, or numbers of samples, int64 ``(n,)``.
    """
    if isinstance(value, Tensor):
        return value[index.to(value.device) if isinstance(index, Tensor) else index] if value.ndim else value
    if isinstance(value, list):
        return value[index] if isinstance(index, slice) else [value[place] for place in index.tolist()]
    if isinstance(value, Mapping):
        return {name: rows(part, index) for name, part in value.items()}
    if isinstance(value, tuple):
        parts = [rows(part, index) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def repeated(value: Any, count: int) -> Any:
    """Return the first sample of a structure so many times."""
    return rows(value, torch.zeros(count, dtype=torch.long))


def joined(batches: Sequence[Any]) -> Any:
    """Join batches to one: tensors along their first axis, tuples and mappings part by part, lists, which
    hold one item a sample, end to end; other values are those of the first.
    """
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat([*batches]) if first.ndim else first
    if isinstance(first, Mapping):
        return {name: joined([batch[name] for batch in batches]) for name in first}
    if isinstance(first, tuple):
        parts = [joined(part) for part in zip(*batches, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return [item for batch in batches for item in batch] if isinstance(first, list) else first
