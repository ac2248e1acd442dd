"""What each known ATen operation does to channels; importing this package registers the rules."""

from spaces.channels.rules import (
    creation,
    gathering,
    norms,
    parametric,
    parts,
    pointwise,
    products,
    recurrent,
    reductions,
    shapes,
    spatial,
)
from spaces.channels.rules.registry import RULES, Context, Label, Labels, find, operation_name, rule

__all__ = [
    "RULES",
    "Context",
    "Label",
    "Labels",
    "creation",
    "find",
    "gathering",
    "norms",
    "operation_name",
    "parametric",
    "parts",
    "pointwise",
    "products",
    "recurrent",
    "reductions",
    "rule",
    "shapes",
    "spatial",
]
