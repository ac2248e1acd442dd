"""Hooks on what a plan taps: outputs of modules, and inputs of those behind attention heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spaces.channels.attention import plain
from spaces.channels.depth import Skip
from spaces.channels.plan import SlicePlan, Tap

See = Callable[[int, Tensor], Tensor | None]
"""Takes the number of a tap and what was seen there; may return what takes its place."""


@contextmanager
def watched(model: nn.Module, plan: SlicePlan, see: See) -> Iterator[None]:
    """Call `see` with every value that passes a tap while the context is open; taps in blocks that were left
    out see nothing.

    Args:
        model: the full model, or a compact one.
        plan: of the full model.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    left_out = tuple(f"{name}." for name, module in modules.items() if isinstance(module, Skip))

    def attach(index: int, tap: Tap) -> RemovableHandle:
        def enter(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            instead = see(index, inputs[0]) if inputs else None  # by keyword: not seen
            return None if instead is None else (instead, *inputs[1:])

        module = modules[tap.module]
        if tap.at_input:
            return module.register_forward_pre_hook(enter)
        return module.register_forward_hook(lambda _, inputs, output: see(index, output))

    handles = [
        attach(index, tap) for index, tap in enumerate(plan.taps) if not tap.module.startswith(left_out)
    ]
    try:
        with plain(model):
            yield
    finally:
        for handle in handles:
            handle.remove()
