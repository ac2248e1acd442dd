"""Outputs of any structure are compared leaf by leaf."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.outputs import distance, leaves, outputs_of, tensors_in


@dataclass
class Detection:
    """A dataclass that torch does not know."""

    boxes: Tensor
    kind: str
    more: Any = None


class DynamicCache:
    """As transformers calls what it keeps for the next word."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys


Y = torch.arange(4.0)


def test_leaves_come_in_order_whatever_holds_them() -> None:
    value = {"a": [Y, (None, 5)], "b": Detection(Y + 1, "boxes", UserDict(c=SimpleNamespace(d=True)))}
    found = leaves(value)
    assert [x if not isinstance(x, Tensor) else x[0].item() for x in found] == [
        *(0.0, None, 5, 1.0, "boxes", True)
    ]
    assert leaves((Y, DynamicCache(Y), len)) == [Y, "builtin_function_or_method"]
    assert len(tensors_in(value)) == 2


@pytest.mark.parametrize(
    ("found", "expected", "apart"),
    [
        (Y, [Y], 0),
        ((Y, Y + 3), {"a": Y, "b": Y}, 1),
        ((Y, 5), (Y, 5), 0),
        ((Y, 4), (Y, 5), float("inf")),
        ((Y, None), (Y, Y), float("inf")),
        ((Y, Y), (Y,), float("inf")),
        (Y[:3], Y, float("inf")),
        (Y > 1, Y > 1, 0),
        (Y > 1, Y > 2, float("inf")),
        (torch.zeros(0, 4), torch.zeros(0, 4), 0),
        (Y.masked_fill(Y < 2, -torch.inf), Y.masked_fill(Y < 2, -torch.inf), 0),
        (Y.masked_fill(Y < 2, -torch.inf), Y, float("inf")),
    ],
)
def test_a_distance_is_that_of_the_leaf_that_is_farthest(found: Any, expected: Any, apart: float) -> None:
    assert distance(found, expected) == apart


def test_a_distance_between_values_that_are_no_numbers_is_none() -> None:
    unknown = Y.masked_fill(Y < 2, torch.nan)
    assert np.isnan(distance((Y, unknown), (Y, unknown)))


class Gives(nn.Module):
    """Gives what it computes in some structure; it keeps a cache where its configuration says so."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.config = SimpleNamespace(use_cache=True)

    def forward(self, x: Tensor) -> Any:
        h = torch.relu(self.a(x))
        y = self.b(h)
        given = Detection(y, "boxes", {"mask": y > 0, "none": None, "empty": y[:0], "samples": x.shape[0]})
        return (given, DynamicCache(h)) if self.config.use_cache else given


def test_a_model_of_nested_outputs_is_pruned_without_its_cache() -> None:
    model = Gives()
    space = ChannelSpace(model, torch.randn(3, 4))
    assert [s.name for s in space.segments] == ["a"]
    assert space.report()["notes"] == [
        "config.use_cache of SimpleNamespace is off while the model is looked at"
    ]
    genome = np.array([1, 0, 1, 0, 0, 1], dtype=np.uint8)
    compact = space.build(genome)
    assert compact.config.use_cache is True and compact(torch.randn(2, 4))[1].keys.shape == (2, 3)
    assert len(outputs_of(compact, (torch.randn(2, 4),))) == 6 and compact.config.use_cache is True
    assert space.difference(genome, (torch.randn(5, 4),), compact) < 1e-6
