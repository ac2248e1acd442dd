"""Branches on values: the side of the example, told so, where other inputs take it too; else an error that names the line."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace, InputError


class Guarded(nn.Module):
    """A branch for broken inputs."""

    limit = 1e6

    def __init__(self) -> None:
        super().__init__()
        self.a, self.other, self.b = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        if y.abs().sum() < self.limit:
            return self.b(y)
        return self.b(self.other(y))


class Often(Guarded):
    limit = 5.0


@pytest.mark.xfail(reason="open: refused though all inputs take one side; the reason is not found yet", raises=InputError, strict=True)
def test_the_side_of_the_example_is_pruned_and_told():
    torch.manual_seed(0)
    space = ChannelSpace(Guarded().eval(), torch.randn(2, 4))
    assert [s.name for s in space.segments] == ["a"]
    (note,) = space.report()["notes"]
    assert "only the branch of the example input is known: test_branches.py" in note and "if y.abs().sum() < self.limit" in note
    genome = space.repair(np.zeros((1, space.length), dtype=np.uint8))[0]
    assert space.difference(genome, (torch.randn(2, 4),)) < 1e-5


def test_a_branch_that_other_inputs_take_is_an_error_with_its_line():
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"Often: torch.export cannot trace it at test_branches.py:\d+: if y.abs\(\).sum\(\)") as error:
        ChannelSpace(Often().eval(), 0.1 * torch.randn(2, 4))
    assert "\n" not in str(error.value) and "not all inputs take the branch" in str(error.value)
