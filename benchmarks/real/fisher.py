"""Masks by Fisher information, with tuned masks: Kwon et al. 2022, "A Fast Post-Training Pruning Framework
for Transformers" (arXiv 2204.00408) [P].

Three steps, no gradient step: which heads and feed-forward channels go follows from the diagonal of the
masks' Fisher information; within every layer it is rearranged by the block of that layer; then masks of what
is left become numbers, by least squares of the layers' outputs, which are put into the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.real.arms import Mask, best_of, largest, layers_of
from benchmarks.real.ground import Clock, Ground
from spaces.calling import forward

BATCH = 8
"""Texts of a gradient, whose outer products are summed (the paper takes 32, of larger sets)."""
_LARGEST = 10.0
"""A tuned mask that is larger is not taken, as in the paper."""


class FisherMasks(Mask):
    """Heads and channels by their Fisher information for what they cost, rearranged and tuned."""

    name = "Fisher masks"

    def choose(self, ground: Ground, clock: Clock, rng: np.random.Generator) -> np.ndarray:
        gradients = mask_gradients(ground, places(ground))
        mask = _searched(ground, {name: (found**2).sum(0) for name, found in gradients.items()})
        for name, found in gradients.items():
            part = ground.space.slices[name]
            mask[part] = rearranged(mask[part] == 1, found.T @ found)
        return mask

    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        mask = self.mask(ground, clock, seed, folder)
        model = ground.space.build(mask)
        tune_masks(model, ground, mask)
        return model


def _searched(ground: Ground, fisher: dict[str, np.ndarray]) -> np.ndarray:
    """Return the mask within the limit that loses least: for every number of heads the most important ones,
    and as many channels as there is room for.
    """
    space, where = ground.space, places(ground)
    scores = np.concatenate([fisher[name] for name in space.slices])
    is_head = np.concatenate(
        [np.full(len(fisher[name]), "attention" in where[name]) for name in space.slices]
    )
    heads, channels = (np.flatnonzero(kind)[np.argsort(-scores[kind])] for kind in (is_head, ~is_head))
    found = [_filled(ground, heads[:kept], channels, scores) for kept in range(len(heads) + 1)]
    lost = np.array([scores[genome == 0].sum() for genome in found])
    return found[np.where(ground.macs(np.stack(found)) <= ground.limit, lost, np.inf).argmin()]


def _filled(ground: Ground, heads: np.ndarray, channels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the largest mask within the limit with these heads and the first channels."""

    def mask_of(share: float) -> np.ndarray:
        chosen = np.zeros(len(scores), dtype=int)
        chosen[heads] = chosen[channels[: round(share * len(channels))]] = 1
        return best_of(ground, [chosen[part].sum() for part in ground.space.slices.values()], scores)

    return largest(ground, mask_of)


def places(ground: Ground) -> dict[str, str]:
    """Return by the name of every group the layer whose inputs its mask multiplies, in the order in which
    they compute.
    """
    found = {}
    for number, _ in enumerate(layers_of(ground.teacher)):
        layer = f"model.encoder.layer.{number}."
        own = [name for name in ground.space.slices if name.startswith(layer)]
        for group in sorted(own, key=lambda name: "intermediate" in name):
            found[group] = layer + ("output.dense" if "intermediate" in group else "attention.output.dense")
    return found


@contextmanager
def masked(model: nn.Module, where: dict[str, str], sizes: dict[str, int]) -> Iterator[dict[str, Tensor]]:
    """Give masks of ones, by group, that multiply the inputs of layers while the context is open."""
    masks = {name: torch.ones(sizes[name], requires_grad=True) for name in where}

    def hook(name: str) -> Any:
        def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            wide = masks[name].repeat_interleave(inputs[0].shape[-1] // len(masks[name]))
            return (inputs[0] * wide, *inputs[1:])

        return enter

    handles = [
        model.get_submodule(module).register_forward_pre_hook(hook(name)) for name, module in where.items()
    ]
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()


def mask_gradients(ground: Ground, where: dict[str, str]) -> dict[str, np.ndarray]:
    """Return the gradients of the loss by the masks, a row a batch of the calibration split, by group."""
    sizes = {name: part.stop - part.start for name, part in ground.space.slices.items()}
    rows: dict[str, list[Tensor]] = {name: [] for name in where}
    with masked(ground.teacher, where, sizes) as masks:
        for inputs, targets in ground.data.batches("calibration", BATCH):
            loss = ground.data.loss(forward(ground.teacher, inputs), targets).mean()
            for name, found in zip(masks, torch.autograd.grad(loss, [*masks.values()]), strict=True):
                rows[name].append(found)
    return {name: torch.stack(found).double().numpy() for name, found in rows.items()}


def rearranged(kept: np.ndarray, fisher: np.ndarray) -> np.ndarray:
    """Return a mask of as many, after swaps of one that is kept for one that is not, as long as one lowers
    ``(1 - m) F (1 - m)``, at most as often as there are units.

    Args:
        fisher: the group's block of the information, ``(size, size)``.
    """
    gone = (~kept).astype(float)
    for _ in range(len(kept)):
        pull, own = 2 * fisher @ gone, np.diag(fisher)
        # what putting one back saves, what taking another away costs, and what both have in common
        change = (pull + own)[None, :] - (pull - own)[:, None] - 2 * fisher
        change[gone == 0], change[:, gone == 1] = np.inf, np.inf
        back, away = np.unravel_index(change.argmin(), change.shape)
        if not change[back, away] < -1e-15:
            break
        gone[back], gone[away] = 0.0, 1.0
    return (gone == 0).astype(np.uint8)


def tune_masks(model: nn.Module, ground: Ground, mask: np.ndarray) -> None:
    """Multiply what every layer keeps by the numbers that bring its output nearest to the teacher's, layer by
    layer, on the calibration split.
    """
    for name, module in places(ground).items():
        units = int(mask[ground.space.slices[name]].sum())
        factors = least_squares(*_moments(model, ground, module, units))
        if np.isfinite(factors).all() and np.abs(factors).max() <= _LARGEST:
            dense = model.get_submodule(module)
            wide = torch.from_numpy(factors).float().repeat_interleave(dense.weight.shape[1] // units)  # type: ignore[union-attr, index, operator]
            with torch.no_grad():
                dense.weight.mul_(wide)  # type: ignore[union-attr, operator]


def least_squares(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the factors, near 1 where nothing says otherwise."""
    ridge = 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return 1 + np.linalg.solve(gram + ridge, right - gram.sum(1))


def _moments(model: nn.Module, ground: Ground, module: str, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return products of what units add to a layer's output with each other, and with what they should add
    up to: the teacher's output with its residual, less the model's residual.
    """
    seen: dict[str, Tensor] = {}

    def hook(who: str) -> Any:
        def after(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[who], seen[f"{who} output"] = inputs[0], output - layer.bias

        return after

    def block(who: str) -> Any:
        def before(_: Any, inputs: tuple[Tensor, ...]) -> None:
            seen[f"{who} residual"] = inputs[1]

        return before

    handles = []
    for who, one in (("own", model), ("teacher", ground.teacher)):
        handles.append(one.get_submodule(module).register_forward_hook(hook(who)))
        handles.append(one.get_submodule(module.rpartition(".")[0]).register_forward_pre_hook(block(who)))
    weight = model.get_submodule(module).weight.detach().double()  # type: ignore[union-attr, operator]
    width = weight.shape[1] // units
    gram, right = torch.zeros(units, units, dtype=torch.float64), torch.zeros(units, dtype=torch.float64)
    with torch.no_grad():
        for inputs, _ in ground.data.batches("calibration", 64):
            real = inputs["attention_mask"].bool()  # type: ignore[call-overload, index]
            for one in (model, ground.teacher):
                forward(one, inputs)
            hidden = seen["own"][real].double()
            wanted = (seen["teacher output"] + seen["teacher residual"] - seen["own residual"])[real].double()
            products = (hidden.T @ hidden) * (weight.T @ weight)
            gram += products.reshape(units, width, units, width).sum((1, 3))
            right += (hidden * (wanted @ weight)).sum(0).reshape(units, width).sum(1)
    for handle in handles:
        handle.remove()
    return gram.numpy(), right.numpy()
