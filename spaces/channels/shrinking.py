"""What is kept of a base model as plain data, and the compact model that it describes: no space is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from spaces.base import Segment, Sliced
from spaces.channels.plan import Attribute, AxisSlice, SlicePlan
from spaces.channels.rewriting import is_made
from spaces.channels.slicing import Slicer
from spaces.channels.trace import tensors_by_name
from spaces.errors import InputError

EXPECTED = "expected the base model that was searched"


@dataclass(frozen=True)
class Slice:
    """One axis of a parameter or buffer and the positions of the base model that stay."""

    tensor: str
    dim: int
    kept: list[int]


@dataclass(frozen=True)
class Setting:
    """An attribute of a module that holds a size, and its value in the exported model."""

    module: str
    name: str
    value: int


def shrink(
    model: nn.Module, slices: list[Slice], attributes: list[Setting], place: str = "recipe"
) -> nn.Module:
    """Return a compact copy of the base model, sliced by the code that a search slices with.

    Raises:
        InputError: naming the first tensor, axis or attribute that the model does not have.
    """
    tensors = tensors_by_name(model)
    for cut in slices:
        shape = tuple(tensors[cut.tensor].shape) if cut.tensor in tensors else None
        if shape is None or cut.dim >= len(shape) or max(cut.kept, default=-1) >= shape[cut.dim]:
            found = (
                f"has {cut.tensor!r} of shape {shape}"
                if shape is not None
                else f"has no tensor {cut.tensor!r}"
            )
            raise InputError(
                f"{place}: slices axis {cut.dim} of {cut.tensor!r} to {len(cut.kept)} positions, but the "
                f"model {found}; {EXPECTED}"
            )
    for setting in attributes:
        try:
            if is_made(setting.name):  # of code that is rewritten
                model.get_submodule(setting.module)
                continue
            getattr(model.get_submodule(setting.module), setting.name)
        except AttributeError:
            raise InputError(
                f"{place}: the model has no attribute {setting.module}.{setting.name}; {EXPECTED}"
            ) from None
    # a plan of one locus, which is off: what the recipe dropped belongs to it
    axes = [
        AxisSlice(cut.tensor, cut.dim, _dropped(tensors[cut.tensor].shape[cut.dim], cut.kept), "own")
        for cut in slices
    ]
    sizes = [Attribute(setting.module, setting.name, np.full(setting.value, -1)) for setting in attributes]
    plan = SlicePlan((Segment("dropped", 1),), tuple(axes), tuple(sizes), (), (), (), (), ())
    return Slicer(model, plan).build(model, np.zeros(1, dtype=np.uint8))


def slices_of(space: Sliced, genome: np.ndarray) -> list[Slice]:
    """Return what a genome keeps of every axis that it shortens."""
    sizes = {(axis.tensor, axis.dim): len(axis.loci) for axis in space.plan.axes}
    indices = space.slice_indices(genome)
    return [
        Slice(name, dim, kept.tolist())
        for name, axes in indices.items()
        for dim, kept in axes.items()
        if len(kept) < sizes[name, dim]
    ]


def attributes_of(space: Sliced, genome: np.ndarray) -> list[Setting]:
    """Return the module attributes that follow."""
    return [
        Setting(module, name, value)
        for module, values in space.attributes(genome).items()
        for name, value in values.items()
    ]


def _dropped(size: int, kept: list[int]) -> np.ndarray:
    """Loci of an axis: -1 for what stays, 0 for what goes."""
    loci = np.zeros(size, dtype=np.int64)
    loci[kept] = -1
    return loci


def named_once(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return copies of a model's tensors on the CPU, those that are tied under their first name, and the
    other names -> these.
    """
    first: dict[int, str] = {}
    state, tied = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if first.setdefault(id(tensor), name) == name:
            state[name] = tensor.detach().cpu().contiguous().clone()
        else:
            tied[name] = first[id(tensor)]
    return state, tied
