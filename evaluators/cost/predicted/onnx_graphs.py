"""Operations of onnxruntime's graphs as plain data, and graphs of one operation."""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cost.predicted.runtime import Operation

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_MOST_SIZES = 16
"""Elements of a constant whose values may be sizes."""
_COLD_BYTES = 1 << 20
"""Weights of the copies of an operation: about as much as does not stay in the nearest caches, since in a
whole network other weights were there in between."""
_DOMAINS = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")


def operations(
    model: ModelProto, events: Sequence[Mapping[str, Any]], feed: Mapping[str, Any]
) -> list[Operation]:
    """Return the operations of an optimised graph.

    Args:
        model: as onnxruntime wrote it.
        events: of a profile of one run, which tells the shapes.
        feed: arrays by the names of the inputs.
    """
    from onnx import helper

    shapes = {tensor.name: (tensor.data_type, [*tensor.dims]) for tensor in model.graph.initializer}
    shapes |= {name: (helper.np_dtype_to_tensor_dtype(x.dtype), [*x.shape]) for name, x in feed.items()}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    opset = next(one.version for one in model.opset_import if not one.domain)
    told = _events(events)
    found = []
    for node in model.graph.node:
        shown = told.get(node.name) or told.get("/" + node.op_type)
        if not shown:
            continue  # it was computed beforehand
        outputs = shown.pop(0)["output_type_shape"]
        for name, shape in zip(filter(None, node.output), outputs, strict=False):
            ((kind, sizes),) = shape.items()
            shapes[name] = (_data_type(kind), sizes)
        found.append(_operation(node, shapes, constants, opset))
    return found


def graph(operation: Operation, copies: int | None = None) -> tuple[bytes, dict[str, np.ndarray], int]:
    """Return a graph of an operation, what it is fed, and how many copies there are.

    Args:
        operation: with its numbers.
        copies: at most, each with weights of its own, and nothing looks at their outputs; None: one, whose
            output is the graph's.
    """
    from onnx import NodeProto, helper, numpy_helper

    told = json.loads(operation.template)
    node = NodeProto.FromString(base64.b64decode(told["node"]))
    numbers = iter(operation.numbers)
    arrays = [None if one is None else _array(one, numbers) for one in told["inputs"]]
    for attribute in node.attribute:
        if attribute.name in told["attributes"]:
            attribute.i = next(numbers)
    fixed = [one is not None and one["constant"] for one in told["inputs"]]
    weights = sum(x.nbytes for x, own in zip(arrays, fixed, strict=True) if own and x is not None)
    count = int(np.clip(_COLD_BYTES // max(1, weights), 1, copies or 1))
    feed = {f"x{i}": x for i, x in enumerate(arrays) if x is not None and not fixed[i]}
    nodes, constants, outputs = [], [], []
    for copy in range(count):
        one = NodeProto()
        one.CopyFrom(node)
        one.name = f"copy{copy}"
        for i, x in enumerate(arrays):
            name = "" if x is None else f"c{i}_{copy}" if fixed[i] else f"x{i}"
            one.input.append(name)
            if x is not None and fixed[i]:
                constants.append(numpy_helper.from_array(x, name))
        one.output.extend(f"y{i}_{copy}" if there else "" for i, there in enumerate(told["outputs"]))
        nodes.append(one)
        if copies is None:
            outputs.append(helper.make_empty_tensor_value_info(one.output[0]))
        else:  # the shape of an output costs nothing, and nothing is copied
            nodes.append(helper.make_node("Shape", [one.output[0]], [f"s{copy}"], name=f"shape{copy}"))
            outputs.append(helper.make_empty_tensor_value_info(f"s{copy}"))
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in feed.items()
    ]
    opsets = [helper.make_opsetid("", told["opset"]), *(helper.make_opsetid(name, 1) for name in _DOMAINS)]
    made = helper.make_model(
        helper.make_graph(nodes, "alone", given, outputs, constants), opset_imports=opsets, ir_version=10
    )
    return made.SerializeToString(), feed, count


def _events(events: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return what a profile tells of nodes by their names; without a name, by a slash and their kind."""
    told: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, kind = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            told["/" + kind if re.fullmatch(rf"{kind}_\d+", name) else name].append(event["args"])
    return told


def _operation(
    node: NodeProto, shapes: Mapping[str, Any], constants: Mapping[str, Any], opset: int
) -> Operation:
    from onnx import AttributeProto, NodeProto, numpy_helper

    numbers: list[int] = []
    inputs: list[dict[str, Any] | None] = []
    for name in node.input:
        if name not in shapes:
            inputs.append(None)
            continue
        kind, sizes = shapes[name]
        one: dict[str, Any] = {"type": kind, "rank": len(sizes), "constant": name in constants}
        numbers += sizes
        if name in constants and int(np.prod(sizes)) <= _MOST_SIZES:
            values = numpy_helper.to_array(constants[name])
            if np.issubdtype(values.dtype, np.integer):
                one["values"] = values.size
                numbers += [int(value) for value in values.ravel()]
        inputs.append(one)
    kept, counted = NodeProto(op_type=node.op_type, domain=node.domain), []
    for attribute in sorted(node.attribute, key=lambda one: one.name):
        copied = kept.attribute.add()
        copied.CopyFrom(attribute)
        if attribute.type == AttributeProto.INT:
            counted.append(attribute.name)
            numbers.append(attribute.i)
            copied.i = 0
    template = {
        "node": base64.b64encode(kept.SerializeToString(deterministic=True)).decode(),
        "inputs": inputs,
        "outputs": [bool(name) for name in node.output],
        "attributes": counted,
        "opset": opset,
    }
    return Operation(node.op_type, json.dumps(template), tuple(numbers))


def _array(told: Mapping[str, Any], numbers: Iterator[int]) -> np.ndarray:
    """Return an input as it is told: its values where they say sizes, else any."""
    from onnx import helper

    sizes = [next(numbers) for _ in range(told["rank"])]
    dtype = helper.tensor_dtype_to_np_dtype(told["type"])
    if "values" in told:
        return np.array([next(numbers) for _ in range(told["values"])], dtype).reshape(sizes)
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(0).normal(0, 0.1, sizes).astype(dtype)
    return np.ones(sizes, dtype)


def _data_type(kind: str) -> int:
    """Return ONNX's number of a type as onnxruntime's profile writes it."""
    from onnx import TensorProto

    return int(TensorProto.DataType.Value(kind.upper()))
