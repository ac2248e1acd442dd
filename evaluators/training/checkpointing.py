"""Gradient checkpointing: parts of a model compute again what they would else keep for the backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from spaces.errors import InputError


@contextmanager
def checkpointed(model: nn.Module, patterns: Sequence[str]) -> Iterator[None]:
    """Checkpoint the modules whose names match, while the context is open.

    Chen et al. 2016 (arXiv 1604.06174) [P], by torch's own. Random numbers (dropout) are those of the first
    pass. A module inside of one that matches is part of it.

    Args:
        patterns: of module names, ``blocks.*``.

    Raises:
        InputError: a pattern that matches nothing, or a module with a BatchNorm, which would count every
            batch twice.
    """
    chosen = _chosen(model, patterns)
    before = {name: vars(module)["forward"] for name, module in chosen.items() if "forward" in vars(module)}
    for module in chosen.values():
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
    try:
        yield
    finally:
        for name, module in chosen.items():
            del module.forward
            if name in before:
                module.forward = before[name]


def _chosen(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Return the outermost modules whose names match."""
    modules = {name: module for name, module in model.named_modules() if name}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in modules):
            raise InputError(
                f"training: checkpointing {pattern!r} matches no module; expected patterns of names such as "
                f"{next(iter(modules), 'blocks.*')}"
            )
    chosen: dict[str, nn.Module] = {}
    for name, module in modules.items():
        inside = any(name.startswith(f"{other}.") for other in chosen)
        if inside or not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        chosen[name] = module
        if any(isinstance(part, _BatchNorm) for part in module.modules()):
            raise InputError(
                f"training: checkpointing {name!r}, which has a BatchNorm that would count every batch "
                f"twice; "
                f"expected modules without one"
            )
    return chosen
