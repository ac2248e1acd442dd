"""A network that grew out of another begins as its function, which is checked by running both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from difflib import SequenceMatcher
from itertools import chain, groupby, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluators.data.base import Inputs
from spaces.calling import forward, mode
from spaces.morphisms import fits, follow, make_identity, own_tensors, silence, widen

TOLERANCE = 1e-5
"""Largest difference of an output, over the parent's largest output (at least 1)."""
_TRIES = 16

Layers = list[tuple[str, nn.Module]]
"""The modules of a network that have tensors of their own, by name and in order."""


def grow(model: nn.Module, parent: nn.Module, inputs: Inputs) -> bool:
    """Make a model begin as its parent's function, and return whether it does; where that cannot be had it is
    as it was.

    Layers of the parent are widened (:func:`spaces.morphisms.widen`); new ones begin as the identity or,
    where that changes what the model computes, as branches that are silent. Names tell which are new; where
    they do not, as in a ``nn.Sequential`` that became longer, the order does: by blocks of the same shapes,
    or as if all new ones stood in one place, the last one that will do. After each of at most 16 tries both
    networks run in eval mode and are compared. The morphisms are those of Elsken et al. 2017 (arXiv
    1711.04528) [P]; that they are found by trial, without knowledge of the graph, is ours [O].

    Args:
        model: as it was built; its tensors are changed in place.
        parent: a network with its tuned weights, on the device of the model.
        inputs: some samples ``(batch, ...)``, one tensor or a tuple of arguments.
    """
    built = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers = _layers(model)
    with torch.no_grad(), mode(model, False), mode(parent, False):
        wanted = forward(parent, inputs)
        tries = (
            (origins, begin)
            for origins in _alignments(layers, _layers(parent))
            for begin in (_as_identities, _as_branches)
        )
        for origins, begin in islice(tries, _TRIES):
            for (_, layer), origin in zip(layers, origins, strict=True):
                if origin is not None:
                    widen(layer, origin)
            new = [found for found, origin in zip(layers, origins, strict=True) if origin is None]
            if begin(model, new, inputs) and _agree(forward(model, inputs), wanted):
                return True
            model.load_state_dict(built)
    return False


def _layers(model: nn.Module) -> Layers:
    return [(name, module) for name, module in model.named_modules() if own_tensors(module)]


def _alignments(layers: Layers, old: Layers) -> Iterator[list[nn.Module | None]]:
    """Yield for every layer the parent's that it may go on from, or None for a new one; each of the parent's
    has its heir.
    """
    by_name, heirs = dict(old), [module for _, module in old]
    ways: list[list[nn.Module | None]] = [[by_name.get(name) for name, _ in layers], _by_shapes(layers, old)]
    if (more := len(layers) - len(old)) >= 0:
        ways += [
            [*heirs[:place], *[None] * more, *heirs[place:]]
            for place in range(len(old) if more else 0, -1, -1)
        ]
    for number, way in enumerate(ways):
        whole = sum(origin is not None for origin in way) == len(old) and way not in ways[:number]
        if whole and all(
            origin is None or fits(layer, origin) for (_, layer), origin in zip(layers, way, strict=True)
        ):
            yield way


def _by_shapes(layers: Layers, old: Layers) -> list[nn.Module | None]:
    """Match the longest runs of blocks whose layers are of the same kinds and shapes: blocks were added in
    several places.
    """
    blocks = [[list(block) for _, block in groupby(side, _block)] for side in (old, layers)]
    kinds = [
        [tuple((type(m), *(t.shape for t in own_tensors(m).values())) for _, m in block) for block in side]
        for side in blocks
    ]
    way: list[list[nn.Module | None]] = [[None] * len(block) for block in blocks[1]]
    for start, place, size in SequenceMatcher(a=kinds[0], b=kinds[1], autojunk=False).get_matching_blocks():
        way[place : place + size] = [
            [module for _, module in block] for block in blocks[0][start : start + size]
        ]
    return list(chain.from_iterable(way))


def _block(layer: tuple[str, nn.Module]) -> str:
    """Return the name of the module that a layer belongs to."""
    return layer[0].rpartition(".")[0]


def _as_identities(model: nn.Module, new: Layers, inputs: Inputs) -> bool:
    """Make every new layer the identity, BatchNorm by what comes to it; return whether all of them can be."""
    if not all(make_identity(layer) for _, layer in new):
        return False
    norms = [layer for _, layer in new if isinstance(layer, _BatchNorm)]
    with ExitStack() as hooks:
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(follow).remove)
        if norms:
            forward(model, inputs)
    return True


def _as_branches(model: nn.Module, new: Layers, inputs: Inputs) -> bool:
    """Make the new layers of every module give zeros; return whether there are any that can."""
    branches: dict[str, list[nn.Module]] = {}
    for name, layer in new:
        branches.setdefault(_block((name, layer)), []).append(layer)
    silenced = [silence(branch) for branch in branches.values()]
    return any(silenced)


def _agree(found: Any, wanted: Any) -> bool:
    """Return whether two outputs are the same but for rounding; what is no tensor is not compared, and not
    trusted.
    """
    if not isinstance(found, Tensor) or not isinstance(wanted, Tensor) or found.shape != wanted.shape:
        return False
    return bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max().clamp(min=1.0))
