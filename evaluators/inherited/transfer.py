"""What of a parent's tensors is a child's: slices of full tensors, or what two architectures have
in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.data.base import Data
from evaluators.inherited.growth import grow
from spaces.base import Masked, Space, Trained
from spaces.calling import device_of
from spaces.errors import InputError


class WeightTransfer(ABC):
    """Brings tensors from a parent to a child, and puts away what the child has become."""

    @abstractmethod
    def load(
        self, model: nn.Module, genome: np.ndarray, left: Mapping[str, Tensor], owner: np.ndarray
    ) -> None:
        """Give a model, built for a genome ``(length,)``, its part of what the owner left, which may have had
        another genome.
        """

    @abstractmethod
    def leave(
        self, genome: np.ndarray, tensors: Mapping[str, Tensor], left: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return what a model with these tensors leaves to its children; `left` is what it began with itself,
        empty for nothing.
        """

    @abstractmethod
    def redraw(self, model: nn.Module) -> None:
        """Give a model, as it was built, new weights, by torch's random numbers."""


@runtime_checkable
class Gathering(Protocol):
    """A space whose models hold slices of full tensors, as :class:`spaces.ChannelSpace` has them."""

    def gather(self, genome: np.ndarray, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the ``state_dict`` of a compact model with the kept parts of full tensors."""

    def scatter(
        self, genome: np.ndarray, compact: Mapping[str, Tensor], base: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return full tensors with those of a compact model at their kept places; the rest is that of `base`,
        or of the full model.
        """


class Slices(WeightTransfer):
    """Of a mask: a child's tensors are slices of full ones, and what its ancestors had stays where it lies
    for children that grow it back.

    Args:
        space: of the mask.
        loci: where its genome lies in that of the whole.
    """

    def __init__(self, space: Gathering, loci: slice = slice(None)) -> None:
        self.space, self.loci = space, loci

    def load(
        self, model: nn.Module, genome: np.ndarray, left: Mapping[str, Tensor], owner: np.ndarray
    ) -> None:
        model.load_state_dict(self.space.gather(genome[self.loci], left))

    def leave(
        self, genome: np.ndarray, tensors: Mapping[str, Tensor], left: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return dict(self.space.scatter(genome[self.loci], tensors, left or None))

    def redraw(self, model: nn.Module) -> None:
        """Raises :class:`InputError` for a module that has parameters of its own and no
        ``reset_parameters``.
        """
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise InputError(
                    f"evaluator InheritedTraining: origin 'fresh', but {name or 'the model'} "
                    f"({type(module).__name__}) cannot draw its "
                    "parameters anew; expected a method reset_parameters()"
                )


class Overlap(WeightTransfer):
    """Of architectures: tensors of one name and as many axes agree in the block that both have, and the rest
    is as it was built.

    As in Real et al. 2017 (arXiv 1703.01041 [P]), where a tensor is inherited if its shape is the same; that
    a block of it is taken otherwise is ours. [O]
    """

    def load(
        self, model: nn.Module, genome: np.ndarray, left: Mapping[str, Tensor], owner: np.ndarray
    ) -> None:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                other = left.get(name)
                if other is not None and other.ndim == tensor.ndim:
                    block = tuple(slice(min(sizes)) for sizes in zip(tensor.shape, other.shape, strict=True))
                    tensor[block] = other[block].to(tensor)

    def leave(
        self, genome: np.ndarray, tensors: Mapping[str, Tensor], left: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return dict(tensors)

    def redraw(self, model: nn.Module) -> None:
        """Nothing to do: it was built with such weights."""


class Grown(Overlap):
    """Of architectures: a child that only grew begins as its parent's function, where trials find a way
    (:func:`evaluators.inherited.growth.grow`).

    Any other takes the blocks that both have. The trials run on the CPU, whose rounding does not hide a
    difference.

    Args:
        space: builds the owner once more, whose layers tell what is new.
        data: its first training samples are what is tried.
    """

    samples = 32

    def __init__(self, space: Space, data: Data) -> None:
        self.space, self.data = space, data

    def load(
        self, model: nn.Module, genome: np.ndarray, left: Mapping[str, Tensor], owner: np.ndarray
    ) -> None:
        if not self._grew(model, left) or not self._grow(model, left, owner):
            super().load(model, genome, left, owner)

    @staticmethod
    def _grew(model: nn.Module, left: Mapping[str, Tensor]) -> bool:
        own = model.state_dict()
        same = own.keys() == left.keys() and all(
            tensor.shape == left[name].shape for name, tensor in own.items()
        )
        return not same and sum(tensor.numel() for tensor in own.values()) >= sum(
            tensor.numel() for tensor in left.values()
        )

    def _grow(self, model: nn.Module, left: Mapping[str, Tensor], owner: np.ndarray) -> bool:
        device = device_of(model)
        with torch.random.fork_rng(devices=[]):
            parent = self.space.build(owner)
            parent.load_state_dict(dict(left))
            inputs, _ = next(self.data.batches("train", self.samples))
            try:
                return grow(model.cpu(), parent, inputs)
            finally:
                model.to(device)


def transfer_of(space: Space, data: Data) -> WeightTransfer:
    """Return how candidates of a space inherit.

    Raises:
        InputError: they cannot.
    """
    if isinstance(space, Masked | Trained):
        raise InputError(
            f"evaluator InheritedTraining: space {type(space).__name__} has no tensors to inherit; expected "
            f"spaces.ChannelSpace, a space "
            "with its gather and scatter, or one of architectures such as spaces.ChoiceSpace"
        )
    if isinstance(space, Gathering):
        return Slices(space)
    name, first = next(iter(space.spaces.items()), ("", space))
    if space.assemble is None and isinstance(first, Gathering) and not isinstance(first, Masked):
        return Slices(first, space.parts[name])
    mask = next((name for name, part in space.spaces.items() if _is_mask(part)), None)
    if mask is not None:
        raise InputError(
            f"evaluator InheritedTraining: what {space.assemble and space.assemble.__qualname__} makes of "
            f"the mask {mask!r} has no places "
            "in the full tensors; expected the mask as the first part of a JointSpace without assemble, "
            "or architectures alone"
        )
    return Grown(space, data)


def _is_mask(space: Space) -> bool:
    return isinstance(space, Gathering) and not isinstance(space, Masked)
