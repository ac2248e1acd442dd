"""Operations of OpenVINO's graphs as plain data, and models of one operation."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluators.cost.predicted.runtime import Operation

_COPIES, _COLD_BYTES = 8, 1 << 20
"""Of an operation, at most, and the bytes of their weights, about."""
_MOST_SIZES = 16
"""Elements of a constant whose values may be sizes."""
_AROUND = ("Const", "Input", "Output", "Reorder")
"""Layers of an executed graph that are no operations."""
_OUTSIDE = ("Parameter", "Constant", "Result")
"""Nodes of a model that are no operations."""


def operations(model: Any, executed: Any) -> list[Operation]:
    """Return what is executed, each with the nodes of the model whose names it has, and those that lead to
    them and whose names nothing has.
    """
    layers = [_texts(node) for node in executed.get_ordered_ops()]
    layers = [layer for layer in layers if layer["layerType"] not in _AROUND]
    layers.sort(key=lambda layer: int(layer["execOrder"]))
    owners: dict[str, int] = {}
    for i, layer in enumerate(layers):
        owners |= dict.fromkeys(layer["originalLayersNames"].split(","), i)
    nodes: dict[int, list[Any]] = defaultdict(list)
    for node in reversed([one for one in model.get_ordered_ops() if one.get_type_name() not in _OUTSIDE]):
        name = node.get_friendly_name()
        if name not in owners:
            owners[name] = next((owners[user] for user in _users(node) if user in owners), -1)
        nodes[owners[name]].insert(0, node)
    return [_operation(layer["layerType"], nodes[i]) for i, layer in enumerate(layers) if i in nodes]


def alone(operation: Operation) -> tuple[Any, list[np.ndarray], int, int]:
    """Return a model of copies of an operation, what it is fed, how many there are, and the bytes of their
    weights.
    """
    import openvino

    rng, outputs, inputs, feed = np.random.default_rng(0), [], [], []
    own, copies, done = 0, 1, 0
    while done < copies:
        numbers = iter(operation.numbers)
        made: list[Any] = []
        for version, name, attributes, given in json.loads(operation.template):
            arguments = []
            for one in given:
                if isinstance(one, list):
                    node, place = one
                    arguments.append(made[node].output(place))
                    continue
                array = _array(one, numbers, rng)
                if one["constant"]:
                    own += array.nbytes
                    arguments.append(openvino.opset13.constant(array).output(0))
                else:
                    feed.append(array)
                    inputs.append(openvino.opset13.parameter(array.shape, array.dtype))
                    arguments.append(inputs[-1].output(0))
            made.append(openvino.utils.node_factory.NodeFactory(version).create(name, arguments, attributes))
        outputs += [one for node in made for one in node.outputs() if not one.get_target_inputs()]
        done += 1
        copies = int(np.clip(_COLD_BYTES // max(1, own // done), 1, _COPIES))
    return openvino.Model(outputs, inputs), feed, copies, own


def _texts(node: Any) -> dict[str, str]:
    return {name: value.astype(str) for name, value in node.get_rt_info().items()}


def _users(node: Any) -> list[str]:
    """Return the names of the nodes that take what a node makes."""
    return [user.get_node().get_friendly_name() for one in node.outputs() for user in one.get_target_inputs()]


def _operation(kind: str, nodes: Sequence[Any]) -> Operation:
    places = {node.get_friendly_name(): i for i, node in enumerate(nodes)}
    numbers: list[int] = []
    told = []
    for node in nodes:
        inputs: list[Any] = []
        for source in (one.get_source_output() for one in node.inputs()):
            place = places.get(source.get_node().get_friendly_name())
            inputs.append(_told(source, numbers) if place is None else [place, source.get_index()])
        kept = dict(node.get_attributes())
        told.append([node.get_type_info().version_id, node.get_type_name(), kept, inputs])
    return Operation(kind, json.dumps(told), tuple(numbers))


def _told(source: Any, numbers: list[int]) -> dict[str, Any]:
    """Return an input from outside as plain data, its sizes in a list of their own."""
    node, shape, dtype = source.get_node(), [*source.shape], np.dtype(source.element_type.to_dtype())
    numbers += shape
    told = {"type": dtype.name, "rank": len(shape), "constant": node.get_type_name() == "Constant"}
    if told["constant"] and np.issubdtype(dtype, np.integer) and np.prod(shape) <= _MOST_SIZES:
        told["values"] = int(np.prod(shape))
        numbers += [int(value) for value in node.data.ravel()]
    return told


def _array(told: Mapping[str, Any], numbers: Iterator[int], rng: np.random.Generator) -> np.ndarray:
    """Return an input as it is told: its values where they may be sizes, else any."""
    shape, dtype = [next(numbers) for _ in range(told["rank"])], np.dtype(told["type"])
    if "values" in told:
        return np.array([next(numbers) for _ in range(told["values"])], dtype).reshape(shape)
    if np.issubdtype(dtype, np.floating):
        return rng.normal(0, 0.1, shape).astype(dtype)
    return np.ones(shape, dtype)
