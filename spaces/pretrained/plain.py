"""Plain models of transformers: made of a config alone, they compute what a compact model computes. [O]"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.base import Sliced
from spaces.calling import Example, call, mode
from spaces.channels.perturbing import PERTURBATIONS, Perturbation, perturb
from spaces.channels.precision import widened
from spaces.channels.slicing import cloned
from spaces.errors import InputError
from spaces.outputs import distance, leaves, tensors_in, uncached
from spaces.pretrained.numbers import Axis, Numbers, Path, changed, configured, shapes_of, valid
from spaces.structures import mapped

TOLERANCE = 1e-8
"""Largest difference between a plain model and a compact one: they do the same in the same order."""
STRONG = Perturbation(1.0, 0.2)
"""So that attention looks at some places more than at others."""
_KIND = re.compile(r"\.(heads|head_dim)(#\d+)?(/\d+)?$")


class NotPlain(InputError):
    """No config of transformers describes a model; the text says why."""


class Plain:
    """Makes plain models of the compact ones of a space.

    Args:
        model: the full one, or a wrapper around it.

    Raises:
        InputError: no model of transformers is in it, or it is not made of its config.
    """

    def __init__(self, model: nn.Module) -> None:
        found = configured(model)
        if found is None:
            raise InputError(f"model {type(model).__name__}: has no config of transformers")
        path, self.model = found
        self.path, self._prefix = path, f"{path}." if path else ""
        self.numbers = Numbers.of(self.model)

    def ties(self) -> list[list[Axis]]:
        """Return the axes that have to be equally long, together."""
        return [[(f"{self._prefix}{name}", dim) for name, dim in axes] for axes in self.numbers.alike()]

    def within(self, compact: nn.Module) -> nn.Module:
        """Return the part of a compact model that is one of transformers."""
        return compact.get_submodule(self.path)

    def make(self, space: Sliced, genome: np.ndarray, compact: nn.Module) -> nn.Module:
        """Return a plain model with the weights of a compact one, on the CPU, in eval mode.

        Raises:
            NotPlain: there is none.
        """
        kept = self._kept(space, genome)
        values = self._values(kept, _shares(space, genome, self._prefix))
        config = valid(changed(self.model.config, values))
        with torch.random.fork_rng(devices=[]):
            plain = type(self.model)(config)
        inner = self.within(compact)
        plain = plain.to(next(inner.parameters()).dtype)
        plain.load_state_dict(self._state(inner.state_dict(), plain.state_dict(), kept))
        return plain.eval()

    def checked(self, space: Sliced, genome: np.ndarray, compact: nn.Module, example: Example) -> nn.Module:
        """Return a plain model that was run and computes the same, also with other weights, so that no number
        in its code hides behind weights to which it hardly matters.

        Raises:
            NotPlain: there is none.
        """
        try:
            plain = self.make(space, genome, compact)
            difference = self._difference(plain, compact, example, self._kept(space, genome))
        except NotPlain:
            raise
        except Exception as error:  # configs and models refuse what does not fit them in ways of their own
            raise NotPlain(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        if not difference <= TOLERANCE:
            raise NotPlain(
                f"a plain {type(plain).__name__} of these widths computes something else (it differs by "
                f"{difference:.1e})"
            )
        return plain

    def _difference(
        self, plain: nn.Module, compact: nn.Module, example: Example, kept: Mapping[Axis, np.ndarray]
    ) -> float:
        """Return how far copies of two models with the same tensors are from each other, relative to max(1,
        largest output): in double precision, and with parameters that make much of everything.
        """
        arguments, named = arguments_within(compact, self.path, example)
        inputs = mapped(_double, arguments), mapped(_double, named)
        plain, compact = cloned(plain).double(), cloned(self.within(compact)).double().cpu().eval()
        for strength in (STRONG, *PERTURBATIONS):
            perturb(compact, strength, [name for name, _ in compact.named_parameters()])
            plain.load_state_dict(self._state(compact.state_dict(), plain.state_dict(), kept))
            with torch.no_grad(), uncached(plain), uncached(compact), widened(True):
                found, expected = (leaves(model(*inputs[0], **inputs[1])) for model in (plain, compact))
            if all(tensor.isfinite().all() for tensor in tensors_in(expected)):
                break
        return distance(found, expected)

    def _kept(self, space: Sliced, genome: np.ndarray) -> dict[Axis, np.ndarray]:
        return {
            (name.removeprefix(self._prefix), dim): positions
            for name, axes in space.slice_indices(genome).items()
            if name.startswith(self._prefix)
            for dim, positions in axes.items()
        }

    def _values(self, kept: Mapping[Axis, np.ndarray], shares: list[_Share]) -> dict[Path, float]:
        """Return the numbers of the config that describes what is kept."""
        equations = self._equations(kept)
        ratio: dict[Path, float] = {}
        _propagate(equations, ratio)
        for path in self.numbers.values:
            name = str(path[-1] if isinstance(path[-1], str) else path[-2])
            if path not in ratio and re.search(r"head|kv", name):
                kind = "head_dim" if re.search(r"dim|d_kv", name) else "heads"
                near = [share for share in shares if share.kind == kind and self._is_near(share, path)]
                found = {share.kept for share in near}
                if len(found) > 1:
                    raise NotPlain(f"{name} is one number, and layers keep {_listed(found)} of it")
                ratio[path] = found.pop() if found else 1.0
                _propagate(equations, ratio)
        return {
            path: _number(value, ratio[path])
            for path, value in self.numbers.values.items()
            if abs(ratio.get(path, 1.0) - 1) > 1e-9 or path in self.numbers.implied
        }

    def _equations(self, kept: Mapping[Axis, np.ndarray]) -> dict[frozenset[Path], float]:
        """Return what share is kept of the axes that follow the same numbers."""
        sizes = shapes_of(self.model)
        shares: dict[frozenset[Path], dict[float, Axis]] = defaultdict(dict)
        for axis, paths in self.numbers.follows.items():
            if axis in kept and sizes[axis[0]][axis[1]]:
                shares[paths].setdefault(len(kept[axis]) / sizes[axis[0]][axis[1]], axis)
        for paths, found in shares.items():
            if len(found) > 1:
                names = " and ".join(sorted(".".join(map(str, path)) for path in paths))
                (a, first), (b, second), *_ = found.items()
                raise NotPlain(
                    f"{names} is one number for all layers, and {first[0]} keeps {a:.0%}, {second[0]} {b:.0%}"
                )
        return {
            paths: next(iter(shares.get(paths, {1.0: None}))) for paths in {*self.numbers.follows.values()}
        }

    def _is_near(self, share: _Share, path: Path) -> bool:
        """Whether a group lies on axes that follow numbers of the same part of the config."""
        part = path[:-1] if isinstance(path[-1], str) else path[:-2]
        return any(
            other[: len(part)] == part and len(other) <= len(path) + 1
            for axis in share.axes
            for other in self.numbers.follows.get(axis, ())
        )

    def _state(
        self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], kept: Mapping[Axis, np.ndarray]
    ) -> dict[str, Tensor]:
        """Return the weights of a compact model; what no operation uses is cut as its likes are."""
        if found.keys() != expected.keys():
            names = ", ".join(sorted(found.keys() ^ expected.keys())[:3])
            raise NotPlain(f"a plain model of these widths has other layers ({names})")
        state = {}
        for name, tensor in found.items():
            for dim, size in enumerate(tensor.shape):
                if size != expected[name].shape[dim] and (name, dim) not in kept:
                    tensor = self._cut(tensor, (name, dim), kept)
            if tensor.shape != expected[name].shape:
                raise NotPlain(
                    f"a plain model has {name} as {tuple(expected[name].shape)}, this one as "
                    f"{tuple(tensor.shape)}"
                )
            state[name] = tensor
        return state

    def _cut(self, tensor: Tensor, axis: Axis, kept: Mapping[Axis, np.ndarray]) -> Tensor:
        sizes, own = shapes_of(self.model), self.numbers.follows.get(axis)
        for other, positions in kept.items():
            same_size = sizes[other[0]][other[1]] == tensor.shape[axis[1]]
            if own is not None and self.numbers.follows.get(other) == own and same_size:
                return tensor.index_select(axis[1], torch.from_numpy(positions).to(tensor.device))
        return tensor


class _Share:
    """What is kept of a group of heads, or of places in a head; the axes that it lies on."""

    def __init__(self, kind: str, kept: float, axes: list[Axis]) -> None:
        self.kind, self.kept, self.axes = kind, kept, axes


def _shares(space: Sliced, genome: np.ndarray, prefix: str) -> list[_Share]:
    starts, shares = space.plan.starts, []
    for group in space.plan.groups:
        kind = _KIND.search(group.name)
        if kind is not None and group.name in starts:
            axes = [member.rpartition("[") for member in group.members]
            places = [(name.removeprefix(prefix), int(dim.rstrip("]"))) for name, _, dim in axes]
            shares.append(_Share(kind[1], float(genome[starts[group.name]].mean()), places))
    return shares


def _propagate(equations: Mapping[frozenset[Path], float], ratio: dict[Path, float]) -> None:
    """Add the ratios that follow: an axis is as much shorter as the product of its numbers is smaller."""
    for _ in equations:
        for paths, share in equations.items():
            unknown = [path for path in paths if path not in ratio]
            if len(unknown) == 1:
                known = np.prod([ratio[path] for path in paths if path in ratio])
                ratio[unknown[0]] = share / float(known)


def _number(value: float, ratio: float) -> float:
    """Return a number times its ratio, of the same kind where it can be."""
    exact = value * ratio
    whole = abs(exact - round(exact)) < 1e-6
    if isinstance(value, int) and whole:
        return round(exact)
    return float(np.nextafter(exact, np.inf))  # what models cut off shall not be one less


def _listed(shares: set[float]) -> str:
    return " and ".join(f"{share:.0%}" for share in sorted(shares))


def arguments_within(model: nn.Module, path: str, example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return with what a part of a model is called, first of all."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = model.get_submodule(path).register_forward_pre_hook(
        lambda module, arguments, named: seen.append((arguments, named)), with_kwargs=True
    )
    try:
        with mode(model, False), torch.no_grad():
            call(model, example)
    finally:
        handle.remove()
    return seen[0]


def _double(tensor: Tensor) -> Tensor:
    return tensor.cpu().double() if tensor.is_floating_point() else tensor.cpu()
