"""What the rules wrote down of a model: axes and their atoms, costs, taps, numbers in the code,
attributes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from spaces.channels.attention import plain_class
from spaces.channels.literals import Literal, Pin
from spaces.channels.loci import Loci
from spaces.channels.plan import Role
from spaces.channels.trace import tensors_by_name


@dataclass(eq=False)
class Axis:
    """An axis of a parameter or buffer, and the atoms of its positions."""

    tensor: str
    dim: int
    role: Role
    atoms: np.ndarray


class Notes:
    """Where the rules write down what they find in all traces of one model.

    Attributes:
        literals: numbers in the code that must follow.
        pins: factors in the code that must stay.
    """

    def __init__(self, model: nn.Module, blocks: list[str]) -> None:
        self.model, self.loci = model, Loci()
        self._chosen = blocks
        self._tensors = tensors_by_name(model)
        self._paths = {id(module): name for name, module in model.named_modules()}
        self._axes: dict[tuple[str, int], Axis] = {}
        self._owned: dict[int, tuple[Axis, np.ndarray]] = {}
        self._operations: dict[tuple[str, str], tuple[int, tuple[np.ndarray, ...]]] = {}
        self._taps: dict[tuple[str, bool], tuple[int, np.ndarray]] = {}
        self._known: dict[tuple[str, str], np.ndarray] = {}
        self.literals: list[Literal] = []
        self.pins: list[Pin] = []
        self._steps: list[tuple[int, np.ndarray]] = []

    def axis(self, tensor: str, dim: int, role: Role) -> np.ndarray:
        """Return the atoms of an axis, made on first use."""
        key = (tensor, dim)
        if key not in self._axes:
            axis = self._axes[key] = Axis(tensor, dim, role, self.loci.new(self._tensors[tensor].shape[dim]))
            if len(axis.atoms):
                self._owned[int(axis.atoms[0])] = axis, axis.atoms
        return self._axes[key].atoms

    def promote(self, label: np.ndarray, role: Role) -> None:
        """Give the axis whose own atoms these are, all of them or those of its parts, a role, unless it has
        one.
        """
        axis = self._owner(label)
        if axis is not None and axis.role == "own":
            axis.role = role

    def inherit(self, label: np.ndarray, parts: list[np.ndarray]) -> None:
        """Have the axes that one was divided into belong to the parameter that it belongs to."""
        axis = self._owner(label)
        if axis is not None:
            for part in parts:
                self._owned.setdefault(int(part[0]), (axis, part))

    def _owner(self, label: np.ndarray) -> Axis | None:
        axis, own = self._owned.get(int(label[0]), (None, label)) if label.size else (None, label)
        return axis if np.array_equal(own, label) else None

    def entries(self) -> list[Literal | Pin]:
        """Return all that the code says of sizes."""
        return [*self.literals, *self.pins]

    def record_cost(self, name: str, macs: int, labels: tuple[np.ndarray, ...], path: str) -> None:
        """Add the cost of one call in the module at `path`; a module that is used twice costs twice."""
        key = (name, next((block for block in self._chosen if f"{path}.".startswith(f"{block}.")), ""))
        before = self._operations.get(key, (0, ()))[0]
        self._operations[key] = (before + macs, labels)

    def record_tap(self, path: str, tensor: str, dim: int, label: np.ndarray, at_input: bool) -> bool:
        """Look at what the module at `path` gives or takes, if it owns the tensor; return whether it does."""
        module, owned = self.model.get_submodule(path), self._tensors[tensor]
        tensors = [*module._parameters.values(), *module._buffers.values()]
        made_of = module._modules.get("parametrizations")
        if made_of is not None:  # the layer computes its parameters of theirs
            tensors += [*made_of.parameters(), *made_of.buffers()]
        if not any(t is owned for t in tensors):
            return False
        self._taps[self._paths[id(module)], at_input] = (dim, label)
        return True

    def drop_tap(self, path: str) -> None:
        """Look elsewhere: a normalisation follows."""
        self._taps.pop((self._paths[id(self.model.get_submodule(path))], False), None)

    def record_literal(self, literal: Literal) -> None:
        """Note a number in the code that must follow."""
        self.literals.append(literal)

    def record_pin(self, pin: Pin) -> None:
        """Note a factor in the code that must stay."""
        self.pins.append(pin)

    def record_step(self, step: int, label: np.ndarray) -> None:
        """Note that of an axis a multiple of `step` positions has to be kept."""
        self._steps.append((step, label))

    def record_attribute(
        self, path: str, kind: type | tuple[type, ...], name: str, label: np.ndarray
    ) -> bool:
        """Have an attribute follow, where the module is of the kind that has it."""
        module = self.model.get_submodule(path)
        if not issubclass(plain_class(module), kind):
            return False
        if label.size > 1:
            self._known[self._paths[id(module)], name] = label
        return True
