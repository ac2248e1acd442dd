"""What of a parent's tensors is a child's: slices of full tensors, or what two architectures have
in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.data.base import Data
from evaluators.growth import grow
from operators.forward import device_of
from spaces.base import Space
from spaces.cells import SupernetSpace
from spaces.errors import InputError
from spaces.joint import JointSpace
from spaces.mixed_pairs import Pairs
from spaces.trials import TrialSpace


class Heritage(ABC):
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


class Slices(Heritage):
    """Of a mask: a child's tensors are slices of full ones, and what its ancestors had stays where it lies
    for children that grow it back.

    Args:
        space: with ``gather(genome, full)`` and ``scatter(genome, compact, base)``.
        loci: where its genome lies in that of the whole.
    """

    def __init__(self, space: Any, loci: slice = slice(None)) -> None:
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
                    f"evaluator LineageTraining: origin 'fresh', but {name or 'the model'} "
                    f"({type(module).__name__}) cannot draw its "
                    "parameters anew; expected a method reset_parameters()"
                )


class Overlap(Heritage):
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
    (:func:`evaluators.growth.grow`).

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


def heritage_of(space: Space, data: Data) -> Heritage:
    """Return how candidates of a space inherit.

    Raises:
        InputError: they cannot.
    """
    if _sliced(space):
        return Slices(space)
    if isinstance(space, JointSpace):
        name, first = next(iter(space.spaces.items()))
        if space.assemble is None and _sliced(first):
            return Slices(first, space.parts[name])
        cut = next((name for name, part in space.spaces.items() if _sliced(part)), None)
        if cut is not None:
            raise InputError(
                f"evaluator LineageTraining: what {space.assemble and space.assemble.__qualname__} makes of "
                f"the mask {cut!r} has no places "
                "in the full tensors; expected the mask as the first part of a JointSpace without assemble, "
                "or architectures alone"
            )
    if isinstance(space, Pairs | TrialSpace | SupernetSpace):
        raise InputError(
            f"evaluator LineageTraining: space {type(space).__name__} has no tensors to inherit; expected "
            f"spaces.ChannelSpace, a space "
            "with its gather and scatter, or one of architectures such as spaces.ChoiceSpace"
        )
    return Grown(space, data)


def _sliced(space: Space) -> bool:
    return not isinstance(space, Pairs) and all(
        callable(getattr(space, name, None)) for name in ("gather", "scatter")
    )
