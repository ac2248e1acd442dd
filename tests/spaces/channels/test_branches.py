"""A branch on values is an error that names the line: the side that the example takes is not all that the
model does.
"""

import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace, InputError


class Guarded(nn.Module):
    """A branch for broken inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.other, self.b = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        if y.abs().sum() < 5:
            return self.b(y)
        return self.b(self.other(y))


def test_a_branch_on_values_is_an_error_with_its_line():
    with pytest.raises(
        InputError,
        match=r"Guarded: torch.export cannot trace it at test_branches.py:\d+: if y.abs\(\).sum\(\)",
    ) as error:
        ChannelSpace(Guarded().eval(), torch.randn(2, 4))
    assert "\n" not in str(error.value) and "independent of tensor values" in str(error.value)
