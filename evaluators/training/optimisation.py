"""What moves the weights: optimisers, parameter groups, learning-rate schedules."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from spaces.errors import InputError

OptimiserName = Literal["adamw", "sgd"]
ScheduleName = Literal["one-cycle", "constant"]
OPTIMISERS: tuple[OptimiserName, ...] = ("adamw", "sgd")
SCHEDULES: tuple[ScheduleName, ...] = ("one-cycle", "constant")
_SHORT = (torch.float16, torch.bfloat16)
_NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Return the trainable parameters in two groups: weights that decay, and norms, biases and other vectors,
    which do not.

    Raises:
        InputError: no parameter requires a gradient.
    """
    norms = {
        id(p)
        for module in model.modules()
        if isinstance(module, _NORMS)
        for p in module.parameters(recurse=False)
    }
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InputError(
            f"training: no parameter of {type(model).__name__} requires a gradient; expected at least one "
            f"that is not frozen"
        )
    undecayed = [p for p in trainable if p.ndim <= 1 or id(p) in norms]
    decayed = [p for p in trainable if p.ndim > 1 and id(p) not in norms]
    return [
        group
        for group in (
            {"params": decayed, "weight_decay": weight_decay},
            {"params": undecayed, "weight_decay": 0.0},
        )
        if group["params"]
    ]


def make_optimiser(
    name: OptimiserName, model: nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return AdamW (decoupled weight decay), or SGD with Nesterov momentum of .9. Parameters of 16 bits are
    moved in float32: their own type cannot hold what a step adds, nor the moments.
    """
    groups = parameter_groups(model, weight_decay)
    short = any(p.dtype in _SHORT for group in groups for p in group["params"])
    if name == "adamw":
        return (_FullAdamW if short else torch.optim.AdamW)(groups, lr=learning_rate)
    return (_FullSGD if short else torch.optim.SGD)(groups, lr=learning_rate, momentum=0.9, nesterov=True)


class _InFullPrecision(torch.optim.Optimizer):
    """Mixed into an optimiser: copies in float32 of parameters of 16 bits take its steps, and are rounded to
    the parameters after each.
    """

    _copies: list[tuple[nn.Parameter, Tensor]]

    def __init__(self, groups: list[dict], **settings: Any) -> None:
        self._copies = []
        super().__init__([{**g, "params": [self._full(p) for p in g["params"]]} for g in groups], **settings)

    def _full(self, parameter: nn.Parameter) -> Tensor:
        if parameter.dtype not in _SHORT:
            return parameter
        copy = parameter.detach().float()
        self._copies.append((parameter, copy))
        return copy

    def step(self, closure: Any = None) -> Any:
        for parameter, copy in self._copies:
            copy.grad = None if parameter.grad is None else parameter.grad.float()
        returned = super().step(closure)
        with torch.no_grad():
            for parameter, copy in self._copies:
                parameter.copy_(copy)
        return returned

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for parameter, _ in self._copies:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"copies": [copy.clone() for _, copy in self._copies]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({name: part for name, part in state_dict.items() if name != "copies"})
        with torch.no_grad():
            for (_, copy), known in zip(self._copies, state_dict["copies"], strict=True):
                copy.copy_(known)


class _FullAdamW(_InFullPrecision, torch.optim.AdamW):
    pass


class _FullSGD(_InFullPrecision, torch.optim.SGD):
    pass


def make_schedule(
    name: ScheduleName, optimiser: torch.optim.Optimizer, learning_rate: float, steps: int
) -> LRScheduler | None:
    """Return a schedule to step after every batch, `steps` in all, or None for a constant rate.

    One cycle: up to `learning_rate` and down again (Smith and Topin, arXiv 1708.07120 [P]).
    """
    return (
        OneCycleLR(optimiser, learning_rate, total_steps=steps) if name == "one-cycle" and steps > 1 else None
    )


def train_mode(model: nn.Module) -> None:
    """Put the model in training mode, but for BatchNorm whose parameters are all frozen: a frozen backbone
    keeps its statistics too.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            parameters = list(module.parameters(recurse=False))
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()


def needs_two_samples(model: nn.Module) -> bool:
    """Whether a batch of one sample has no statistics: some BatchNorm is in training mode."""
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())
