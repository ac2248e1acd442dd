"""Structures of tensors, and models that are called with them."""

from collections import UserDict, namedtuple

import pytest
import torch
from torch import Tensor, nn

from spaces.calling import call, example_of, forward
from spaces.errors import InputError
from spaces.structures import joined, leaves, mapped, repeated, rows, samples, tensors

Boxes = namedtuple("Boxes", "places classes")


class Named(nn.Module):
    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        return x if scale is None else x * scale


def test_a_model_is_called_with_one_tensor_a_tuple_or_names() -> None:
    x, scale = torch.ones(2, 3), torch.full((2, 3), 2.0)
    assert torch.equal(forward(Named(), x), x)
    assert torch.equal(forward(Named(), (x, scale)), scale)
    assert torch.equal(call(Named(), {"scale": scale, "x": x}), scale)
    assert torch.equal(call(Named(), UserDict(scale=scale, x=x)), scale)


def test_an_example_is_a_tuple_or_a_dict() -> None:
    x = torch.ones(2)
    assert example_of(x) == (x,) and example_of([x]) == (x,)
    assert example_of(UserDict(x=x)) == {"x": x}


def test_tensors_of_every_kind_of_structure_are_found_in_order() -> None:
    a, b, c = torch.zeros(2), torch.ones(2), torch.full((2,), 2.0)
    value = {"one": [a, None, 3], "two": UserDict(three=b), "four": Boxes(c, "text")}
    assert [t[0].item() for t in tensors(value)] == [0, 1, 2]
    assert leaves(value)[1:3] == [None, 3]
    doubled = mapped(lambda t: t * 2, value)
    assert [t[0].item() for t in tensors(doubled)] == [0, 2, 4]
    assert doubled["two"].keys() == {"three"} and doubled["four"].classes == "text"


def test_samples_are_counted_by_the_first_axis_or_the_length_of_a_list() -> None:
    assert samples(torch.zeros(3, 2)) == 3
    assert samples({"weight": torch.tensor(1.0), "boxes": [torch.zeros(0, 4)] * 5}) == 5
    assert samples(None, (torch.zeros(4),)) == 4
    with pytest.raises(InputError, match=r"^data: a batch of NoneType, dict does not tell how many samples"):
        samples(None, {})


def test_rows_of_a_structure() -> None:
    value = (Boxes(torch.arange(4), [*"abcd"]), {"none": None, "single": torch.tensor(7)})
    boxes, rest = rows(value, torch.tensor([2, 0]))
    assert boxes.places.tolist() == [2, 0] and boxes.classes == ["c", "a"]
    assert rest["none"] is None and rest["single"] == 7
    assert rows(value, slice(1, 3))[0].classes == ["b", "c"]
    assert repeated(value, 3)[0].classes == ["a", "a", "a"]


def test_batches_are_joined() -> None:
    one, other = ({"x": torch.full((n,), n), "boxes": ["a"] * n, "n": 1} for n in (2, 3))
    whole = joined([one, other])
    assert whole["x"].tolist() == [2, 2, 3, 3, 3] and len(whole["boxes"]) == 5 and whole["n"] == 1
