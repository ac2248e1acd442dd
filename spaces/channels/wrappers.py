"""Wrappers around models: they hide the module that is to be cut."""

from __future__ import annotations

from torch import nn
from torch.fx import GraphModule
from torch.jit import ScriptModule
from torch.nn.parallel import DistributedDataParallel

from spaces.errors import InputError

_INSIDE = {
    "OptimizedModule": "_orig_mod",
    DistributedDataParallel.__name__: "module",
    "FullyShardedDataParallel": "module",
}
"""Class of a wrapper (``torch.compile`` gives the first) -> where it keeps the module."""


def refuse_wrapped(model: nn.Module) -> None:
    """Raise :class:`InputError` where a model, or a module in it, is compiled, scripted or spread over
    processes, with the place of the plain one.
    """
    for path, module in model.named_modules():
        kind = type(module).__name__
        place = f"model.{path}" if path else "model"
        inside = _INSIDE.get(kind)
        if inside is not None and hasattr(module, inside):
            raise InputError(f"{place}: is wrapped in {kind}; expected the plain module: {place}.{inside}")
        if path and module._compiled_call_impl is not None:
            raise InputError(
                f"{place}: was compiled in place (compile()); expected it plain, as in copy.deepcopy(model)"
            )
        if isinstance(module, GraphModule) and "train" in vars(module):
            raise InputError(
                f"{place}: was made by torch.export; expected the plain nn.Module that was exported"
            )
        if isinstance(module, ScriptModule):
            raise InputError(
                f"{place}: is compiled to {kind}; expected the plain nn.Module that was scripted"
            )
