"""An operation that is removed is gone: from the module, from both optimisers, and so from memory
and clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from spaces.cells.mixed import Supernet


def remove(
    supernet: Supernet,
    edge: str,
    kept: tuple[str, ...],
    weights: torch.optim.Optimizer,
    alphas: torch.optim.Optimizer,
) -> None:
    """Leave `kept` on ``kind/edge`` in all cells of the kind.

    Args:
        weights: optimiser of the weights; what it remembers of the operations that go is forgotten.
        alphas: optimiser of the architecture; of what stays its moments stay too.
    """
    for mixed in supernet.edges(edge):
        gone = [name for name in mixed.operations if name not in kept]
        forget(weights, [parameter for name in gone for parameter in mixed.operations[name].parameters()])
        for name in gone:
            del mixed.operations[name]
    before, now, places = supernet.architecture.drop(edge, kept)
    if before is not None and now is None:
        forget(alphas, [before])
    elif before is not None and now is not None:
        exchange(alphas, before, now, places)
    supernet.architecture.weights.pop(edge, None)  # it holds the graph of the last forward pass


def forget(optimiser: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Take parameters out of an optimiser, with all it remembers of them."""
    gone = {id(parameter) for parameter in parameters}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if id(parameter) in gone:
                optimiser.state.pop(parameter, None)
                parameter.grad = None
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in gone]


def exchange(
    optimiser: torch.optim.Optimizer, before: nn.Parameter, now: nn.Parameter, places: Sequence[int]
) -> None:
    """Put a shorter parameter in the place of one, with the moments of the entries that stay."""
    for group in optimiser.param_groups:
        group["params"] = [now if parameter is before else parameter for parameter in group["params"]]
    held = optimiser.state.pop(before, None)
    if held is not None:
        optimiser.state[now] = {
            name: value[list(places)].clone()
            if isinstance(value, Tensor) and value.shape == before.shape
            else value
            for name, value in held.items()
        }
