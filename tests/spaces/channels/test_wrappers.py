"""Wrapped models are refused with the place of the plain one."""

import copy

import pytest
import torch
from torch import nn

from spaces import ChannelSpace
from spaces.errors import InputError


def test_wrapped_models_are_refused_by_the_place_of_the_plain_one() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    x = torch.randn(2, 4)
    compiled = torch.compile(net, backend="eager")
    with pytest.raises(InputError, match=r"^model: is wrapped in OptimizedModule; .*: model\._orig_mod$"):
        ChannelSpace(compiled, x)
    with pytest.raises(InputError, match=r"^model\.0: is wrapped .*: model\.0\._orig_mod$"):
        ChannelSpace(nn.Sequential(compiled), x)
    with pytest.raises(InputError, match=r"^model: is compiled to RecursiveScriptModule; expected the plain"):
        ChannelSpace(torch.jit.script(net), x)
    net[0].compile(backend="eager")
    with pytest.raises(InputError, match=r"^model\.0: was compiled in place .* copy\.deepcopy\(model\)$"):
        ChannelSpace(net, x)
    assert ChannelSpace(copy.deepcopy(net), x).base is not None
    exported = torch.export.export(copy.deepcopy(net).eval(), (x,)).module()
    with pytest.raises(InputError, match=r"^model: was made by torch\.export; expected the plain nn\.Module"):
        ChannelSpace(exported, x)
