"""New values that are the same everywhere: they may be tied to whatever they meet, if their size follows."""

from __future__ import annotations

from typing import Any

from spaces.channels.rules.registry import Call, Context, Label, Labels, argument, rule

UNIFORM = (
    "zeros",
    "ones",
    "full",
    "empty",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "randn",
    "rand",
)


@rule(*UNIFORM)
def create(context: Context, node: Call) -> Labels:
    """Zeros, ones, noise: no position differs from another."""
    sizes: Any = argument(node, 1 if str(node.target).startswith("aten.new_") else 0, "size")
    out: list[Label] = []
    for place, (size, given) in enumerate(zip(context.shape(node), sizes, strict=True)):
        out.append(context.loci.new(size))
        if isinstance(given, int) and size > 1:
            context.literal(node, given, out[-1], place)
    return tuple(out)


@rule("sym_size", "_assert_tensor_metadata", "_assert_scalar", "sym_numel", "sym_stride", "is_floating_point")
def ask(context: Context, node: Call) -> Labels:
    """A question about a value changes none."""
    return ()
