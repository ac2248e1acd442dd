"""What each known ATen operation does to channels; importing this package registers the rules."""

from spaces.channels.rules import parametric, pointwise, products, shapes, spatial
from spaces.channels.rules.registry import RULES, Context, Labels, find, operation_name, rule

__all__ = ["RULES", "Context", "Labels", "find", "operation_name", "parametric", "pointwise", "products", "rule", "shapes", "spatial"]
