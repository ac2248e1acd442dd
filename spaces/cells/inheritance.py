"""Weights out of a supernet: a built cell is a slice of it, as a pruned network is a slice of the
full one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from spaces.calling import Example, call, mode
from spaces.cells.cell import key
from spaces.cells.genotype import Genotype
from spaces.cells.mixed import Supernet
from spaces.cells.network import CellNetwork
from spaces.errors import InputError


def scale(scales: Mapping[str, float], kept: Iterable[str]) -> dict[str, float]:
    """Return the weight of each ``kind/edge`` that is kept: softmax of beta over those of its node; 1 where
    edges were not weighed.
    """
    names = list(kept)
    if not scales:
        return dict.fromkeys(names, 1.0)
    nodes: dict[str, list[str]] = {}
    for name in names:
        kind, edge = name.split("/")
        nodes.setdefault(f"{kind}/{edge.split('-')[1]}", []).append(name)
    found: dict[str, float] = {}
    for edges in nodes.values():
        top = max(scales[edge] for edge in edges)
        powers = {edge: math.exp(scales[edge] - top) for edge in edges}
        found |= {edge: power / sum(powers.values()) for edge, power in powers.items()}
    return found


def names_of(network: CellNetwork, genotype: Genotype) -> dict[str, str]:
    """Return where every tensor of a built network lies in the supernet that it is a slice of: name here ->
    name there.

    The weights of edges (``...weight`` of :class:`~spaces.cells.cell.Weighted`) are the slice's own.
    """
    prefixes: dict[str, str] = {}
    for place in network.places:
        for edge, operation in genotype[place.kind].items():
            cell = f"model.{place.name}.cell.edges.{key(edge)}."
            inner = "operation.operation." if network.share > 1 else "operation."
            prefixes[cell + inner] = f"network.{cell}operations.{operation}."
            if network.share > 1:
                prefixes[cell + "operation.bypass."] = f"network.{cell}bypass."
    names = {}
    for name in network.state_dict():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is not None:
            names[name] = prefixes[prefix] + name.removeprefix(prefix)
        elif ".cell.edges." not in name:
            names[name] = f"network.{name}"
    return names


def inherit(
    network: CellNetwork, genotype: Genotype, weights: Mapping[str, Tensor], scales: Mapping[str, float]
) -> None:
    """Give a built network the supernet's weights, in place.

    Raises:
        InputError: the supernet has no such tensor, or one of another shape.
    """
    state = network.state_dict()
    for name, there in names_of(network, genotype).items():
        if there not in weights or weights[there].shape != state[name].shape:
            found = tuple(weights[there].shape) if there in weights else "nothing"
            raise InputError(
                f"space: run: {there} is {found} in the supernet, {tuple(state[name].shape)} expected; "
                f"search again"
            )
        state[name] = weights[there]
    shares = scale(scales, [f"{kind}/{key(edge)}" for kind, edges in genotype.items() for edge in edges])
    for place in network.places:
        for edge in genotype[place.kind]:
            state[f"model.{place.name}.cell.edges.{key(edge)}.weight"] = torch.tensor(
                shares[f"{place.kind}/{key(edge)}"]
            )
    network.load_state_dict(state)


def compare(
    supernet: Supernet,
    network: CellNetwork,
    genotype: Genotype,
    weights: Mapping[str, Tensor],
    left: Mapping[str, Iterable[str]],
    inputs: Example,
) -> float:
    """Return the largest difference between a built network and the masked supernet, over the largest output
    (at least 1).

    Args:
        supernet: whose weights are yet to be put in.
        weights: of the supernet; those that the network has take the place of its own.
        left: ``kind/edge`` -> the operations that the supernet still has.
        inputs: of one forward call.
    """
    # the supernet loses what the search had removed, so that both hold the same operations
    for where, names in left.items():
        for mixed in supernet.edges(where):
            for gone in set(mixed.operations) - set(names):
                del mixed.operations[gone]
    state = network.state_dict()
    scattered = dict(weights) | {there: state[name] for name, there in names_of(network, genotype).items()}
    supernet.load_state_dict(scattered, strict=False)  # the architecture's parameters play no part
    # then every edge is masked: one operation with all the weight, or none
    mask: dict[str, tuple[list[float], Tensor]] = {}
    for place in network.places:
        for edge in network.plan.edges:
            name, operation = f"{place.kind}/{key(edge)}", genotype[place.kind].get(edge)
            own = state.get(f"model.{place.name}.cell.edges.{key(edge)}.weight", torch.tensor(0.0))
            mask[name] = ([float(one == operation) for one in supernet.edges(name)[0].operations], own)
    supernet.architecture.weights = {name: torch.tensor(ones) for name, (ones, _) in mask.items()}
    supernet.architecture.shares = {name: share for name, (_, share) in mask.items()}
    with mode(network, False), mode(supernet, False), torch.no_grad():
        compact, full = call(network, inputs), call(supernet.network, inputs)
    return float((compact - full).abs().max() / full.abs().max().clamp(min=1.0))
