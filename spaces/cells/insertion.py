"""Where cells go into a network: places it was written with, skip connections of MONAI, and any module by its
name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spaces.calling import Example, call, mode
from spaces.cells.cell import Place
from spaces.errors import InputError


class Insertion(nn.Module):
    """A place that a network was written with; without a cell it passes on its first input.

    Args:
        inputs: channels of each tensor that it is called with.
        outputs: channels that it must return; null: those of the first input.
        kind: cells of one kind have one genotype.
        stride: 2 where the cell halves height and width.
        halved: which inputs come at twice the height and width of the others.
        residual: whether the cell is added to the first input; null: where stride and channels allow it.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int | None = None,
        kind: str = "cell",
        stride: int = 1,
        halved: Sequence[bool] = (),
        residual: bool | None = None,
    ) -> None:
        super().__init__()
        outputs = inputs[0] if outputs is None else outputs
        self.inputs, self.outputs, self.kind, self.stride = tuple(inputs), outputs, kind, stride
        self.halved = tuple(halved)
        self.residual = (stride == 1 and inputs[0] == outputs) if residual is None else residual
        self.cell: nn.Module | None = None

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] if self.cell is None else self.cell(*inputs)


class SkipCell(nn.Module):
    """MONAI's SkipConnection with a cell on the skip: the cell sees the skip and what comes up from the
    decoder.
    """

    submodule: nn.Module

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self.submodule = connection.submodule
        self.dim, self.mode = int(connection.dim), str(connection.mode)
        self.cell: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        up = self.submodule(x)
        skip = x if self.cell is None else self.cell(x, up)
        if self.mode == "cat":
            return torch.cat([skip, up], dim=self.dim)
        return skip + up if self.mode == "add" else skip * up


class AfterCell(nn.Module):
    """Any module with a cell behind it: the cell's inputs are all what the module returns."""

    def __init__(self, module: nn.Module, inputs: int) -> None:
        super().__init__()
        self.module, self.inputs = module, inputs
        self.cell: nn.Module | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        y = self.module(*args, **kwargs)
        return y if self.cell is None else self.cell(*[y] * self.inputs)


SOCKETS = (Insertion, SkipCell, AfterCell)


def is_skip(module: nn.Module) -> bool:
    """Whether this is MONAI's SkipConnection; it need not be installed to know."""
    return type(module).__name__ == "SkipConnection" and all(
        hasattr(module, name) for name in ("submodule", "dim", "mode")
    )


def points(network: nn.Module) -> list[str]:
    """Return the names of the places that a network has of itself: insertions and MONAI's skip
    connections.
    """
    return [
        name
        for name, module in network.named_modules()
        if name and (isinstance(module, Insertion) or is_skip(module))
    ]


def chosen(network: nn.Module, at: Sequence[str] | None) -> list[str]:
    """Return the names of the places to use, in the order of the network.

    Raises:
        InputError: a name that the network has not, or a network without places of its own where none are
            named.
    """
    own = points(network)
    modules = dict(network.named_modules())
    if at is None:
        if not own:
            names = ", ".join(name for name in modules if name)
            raise InputError(
                f"space: at: {type(network).__name__} has neither insertion points nor skip connections; "
                f"expected names of {names}"
            )
        return own
    for name in at:
        if name not in modules or not name:
            raise InputError(
                f"space: at: {type(network).__name__} has no module {name!r}; there are "
                f"{', '.join(own or list(modules)[1:])}"
            )
    if len(set(at)) < len(at) or not at:
        raise InputError("space: at: expected at least one name, each once")
    return [name for name in modules if name in set(at)]


def find_places(
    network: nn.Module, at: Sequence[str] | None, inputs: int, example: Example
) -> tuple[Place, ...]:
    """Return the places of a network; channels that it does not tell of itself are seen by running it once.

    Args:
        inputs: of the cell graph.
        example: arguments of one forward call.

    Raises:
        InputError: as :func:`chosen`, or where a place gives another number of inputs than the graph has, or
            no images.
    """
    modules = {name: network.get_submodule(name) for name in chosen(network, at)}
    untold = {name: module for name, module in modules.items() if not isinstance(module, Insertion)}
    shapes = _seen(network, untold, example) if untold else {}
    places = []
    for name, module in modules.items():
        if isinstance(module, Insertion):
            place = Place(
                name,
                module.kind,
                module.inputs,
                module.outputs,
                module.stride,
                module.halved,
                module.residual,
            )
        else:
            place = _place(name, module, shapes.get(name, []), inputs)
        given = len(place.inputs)
        if given != inputs:
            raise InputError(
                f"space: graph has {inputs} input(s), the place {name!r} gives {given}; expected as many"
            )
        places.append(place)
    return tuple(places)


def _seen(
    network: nn.Module, modules: Mapping[str, nn.Module], example: Example
) -> dict[str, list[tuple[int, ...]]]:
    """Run a network once; return the shapes of what these modules put out, of skip connections also of the
    skip, by name.
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}
    hooks = []
    for name, module in modules.items():
        watched: Any = module.submodule if is_skip(module) else module
        hooks.append(watched.register_forward_hook(_watch(shapes, name, both=is_skip(module))))
    try:
        with mode(network, False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            call(network, example)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _place(name: str, module: nn.Module, seen: Sequence[tuple[int, ...]], inputs: int) -> Place:
    """Return the place behind a module, or on a skip connection, by the shapes that were seen there."""
    if not seen or any(len(shape) != 4 for shape in seen):
        raise InputError(
            f"space: at: {name!r} gives {seen or 'nothing'}; expected images (batch, channels, height, width)"
        )
    channels = tuple(shape[1] for shape in seen) if is_skip(module) else (seen[0][1],) * inputs
    return Place(name, "cell", channels, channels[0], residual=True)


def open_sockets(network: nn.Module, names: Sequence[str], inputs: int) -> None:
    """Put into every place, in this very network, what can hold a cell."""
    for name in names:
        module = network.get_submodule(name)
        if not isinstance(module, SOCKETS):
            network.set_submodule(name, SkipCell(module) if is_skip(module) else AfterCell(module, inputs))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _watch(shapes: dict[str, list[tuple[int, ...]]], name: str, both: bool) -> Callable[..., None]:
    """A forward hook that notes the shape of what comes out, or of what goes in and what comes out."""

    def hook(_: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
        shapes[name] = [_shape(given[0]), _shape(returned)] if both else [_shape(returned)]

    return hook
