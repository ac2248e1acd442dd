"""Element by element: channels pass through, and operands tie theirs together."""

from __future__ import annotations

from torch import Tensor

from spaces.channels.rules.registry import Call, Context, Label, Labels, rule, varies

ACTIVATIONS = (
    "relu",
    "relu6",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "silu",
    "gelu",
    "sigmoid",
    "tanh",
    "elu",
    "selu",
    "celu",
    "leaky_relu",
    "rrelu",
    "mish",
    "threshold",
    "hardshrink",
    "softshrink",
)
DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")
COPIES = (
    "clone",
    "detach",
    "alias",
    "contiguous",
    "to",
    "_to_copy",
    "type_as",
    "lift_fresh_copy",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
)
FUNCTIONS = (
    "abs",
    "neg",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "sqrt",
    "rsqrt",
    "square",
    "reciprocal",
    "erf",
    "sin",
    "cos",
    "sign",
    "floor",
    "ceil",
    "round",
    "softplus",
    "softsign",
    "log_sigmoid",
    "bitwise_not",
    "logical_not",
    "isnan",
    "isfinite",
    "nan_to_num",
)
BOUNDS = ("clamp", "clamp_min", "clamp_max", "rsub")
BINARY = (
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "pow",
    "atan2",
    "remainder",
    "fmod",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "bitwise_and",
    "bitwise_or",
    "logical_and",
    "logical_or",
    "where",
    "masked_fill",
    "lerp",
    "addcmul",
    "addcdiv",
    "floor_divide",
    "copy",
)


def in_place(names: tuple[str, ...]) -> tuple[str, ...]:
    """Add the variants that overwrite their operand."""
    return (*names, *(f"{name}_" for name in names))


@rule(*in_place(ACTIVATIONS + DROPOUTS + COPIES + FUNCTIONS))
def unary(context: Context, node: Call) -> Labels:
    """One operand: its channels pass."""
    return context.labels(node.args[0])


@rule(*in_place(BINARY + BOUNDS))
def binary(context: Context, node: Call) -> Labels:
    """Several operands: what meets is tied; what is broadcast along the channels of another has no say."""
    operands = [a for a in node.all_input_nodes if isinstance(context.value(a), Tensor)]
    shape = context.shape(node)
    out: list[Label] = []
    for dim in range(len(shape)):
        met: Label | None = None
        for operand in operands:
            own = dim - len(shape) + len(context.shape(operand))
            if own >= 0 and context.shape(operand)[own] == shape[dim]:
                label = context.labels(operand)[own]
                met = label if met is None else context.meet(met, label)
        out.append(context.plain("a number", node) if met is None else met)
    return tuple(out)


@rule("glu")
def gated_linear_unit(context: Context, node: Call) -> Labels:
    """One half of the channels gates the other, so the two are tied."""
    labels = context.labels(node.args[0])
    dim = (int(node.args[1]) if len(node.args) > 1 else -1) % len(labels)
    if varies(labels[dim]):
        halves, half = context.split(labels[dim], (2, context.shape(node)[dim]), node)
        context.freeze(halves, "the halves of a gated linear unit", node)
        return (*labels[:dim], half, *labels[dim + 1 :])
    return labels
