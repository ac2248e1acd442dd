"""Which numbers of a rewritten ``forward`` follow what: calls that torch.fx sees are matched with the
operations of the trace.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from spaces.calling import Example, mode
from spaces.channels.rewriting import (
    ATTENTION,
    FLOATS,
    GIVEN,
    PINNED,
    SIZE,
    TRAINED,
    Program,
    Unwritable,
    code_of,
    divided,
    graph_of,
    sizes_of,
)
from spaces.channels.rules import operation_name
from spaces.channels.slicing import cloned
from spaces.channels.training import own_random_numbers
from spaces.outputs import outputs_of

FAMILIES = {
    "view": "reshape",
    "reshape": "reshape",
    "_unsafe_view": "reshape",
    "unflatten": "reshape",
    "split": "split",
    "split_with_sizes": "split",
    "expand": "expand",
    "broadcast_to": "expand",
    **{
        name: name
        for name in (
            "zeros",
            "ones",
            "full",
            "empty",
            "randn",
            "rand",
            "new_zeros",
            "new_ones",
            "new_full",
            "new_empty",
        )
    },
}
"""Operations whose numbers can follow, by what torch calls them in a trace and in code."""


@dataclass(frozen=True)
class Number:
    """A number of an operation of the trace that must follow.

    Attributes:
        node: the operation's name in the graph.
        place: among its sizes.
        value: in the full model.
        literal: which one of the analysis it is.
        axis: says whether two numbers follow the same axis.
    """

    node: str
    place: int
    value: int
    literal: int
    axis: bytes = b""


@dataclass(frozen=True, eq=False)
class Numbers:
    """What must follow in the code of one module, in one mode.

    Attributes:
        operations: of the trace that the module's own code made, in order, those of its first call.
        values: of the trace, by node name.
        found: what must follow.
    """

    operations: Sequence[fx.Node]
    values: Mapping[str, Any]
    found: Sequence[Number]


@dataclass(frozen=True)
class Rewriting:
    """How the ``forward`` of a module is rewritten.

    Attributes:
        path: of the module.
        sizes: attribute -> the number that it follows.
        pins: attribute -> a number that stays: sizes that scales are made of, and 1 for an optional argument
            that is given.
    """

    path: str
    sizes: Mapping[str, Number]
    pins: Mapping[str, int]


class Calls:
    """What the modules of a model are called with, the first time, on an example: in eval mode, and in
    training mode those that it alone calls.
    """

    def __init__(self, model: nn.Module, example: Example, paths: Iterable[str]) -> None:
        self.model, self._calls = model, dict[str, tuple[tuple[Any, ...], dict[str, Any]]]()
        copied = cloned(model)  # calls may leave something in a model
        with torch.no_grad(), own_random_numbers(model):
            with mode(copied, False):
                self._run(copied, example, paths)
            others = [path for path in paths if path not in self._calls]
            if others:
                with suppress(Exception), mode(copied, True):
                    self._run(copied, example, others)

    def _run(self, model: nn.Module, example: Example, paths: Iterable[str]) -> None:
        handles = [self._watch(model, path) for path in paths]
        try:
            outputs_of(model, example)
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, model: nn.Module, path: str) -> torch.utils.hooks.RemovableHandle:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._calls.setdefault(path, (_cloned(args), _cloned(kwargs)))

        return model.get_submodule(path).register_forward_pre_hook(enter, with_kwargs=True)

    def rewriting(self, path: str, modes: Sequence[Numbers]) -> Rewriting:
        """Return how the ``forward`` of the module at `path` is rewritten.

        Args:
            modes: what must follow in eval mode, and in training mode where that was traced.

        Raises:
            Unwritable: saying why not.
        """
        if path not in self._calls:
            raise Unwritable("it is not called")
        module, (args, kwargs) = self.model.get_submodule(path), self._calls[path]
        given, bound = _given(module, args, kwargs)
        graph = graph_of(module, given, training=False)
        found = _values(module, graph, bound)
        sizes = _match(graph, found, modes[0])
        for in_training in modes[1:]:
            sizes |= {
                f"{TRAINED}{call}": number
                for call, number in self._sizes_in_training(module, given, bound, in_training).items()
                if f"{SIZE}{call}" not in sizes or sizes[f"{SIZE}{call}"].axis != number.axis
            }
        pins = dict.fromkeys(given, 1)
        for node in graph.nodes:
            if (
                node.op == "call_function"
                and ATTENTION in str(node.target)
                and node.kwargs.get("scale") is None
            ):
                pins[f"{PINNED}{node.name}"] = int(found[node.args[0]].shape[-1])
            elif type(found.get(node)) is int and any(
                type(found.get(user)) is float and user.target in FLOATS for user in node.users
            ):
                pins[f"{PINNED}{node.name}"] = found[node]
        rewriting = Rewriting(path, sizes, pins)
        self._check(module, rewriting, args, kwargs)
        return rewriting

    def _sizes_in_training(
        self, module: nn.Module, given: Sequence[str], bound: Sequence[Any], numbers: Numbers
    ) -> dict[str, Number]:
        """Return what must follow in the code of training mode, by call and place."""
        if not numbers.found:
            return {}
        graph = graph_of(module, given, training=True)
        sizes = _match(graph, _values(module, graph, bound, training=True), numbers)
        return {name.removeprefix(SIZE): number for name, number in sizes.items()}

    def _check(
        self, module: nn.Module, rewriting: Rewriting, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Run the full module as it is and rewritten, in both modes, with the same random numbers."""
        program = Program(module, [*rewriting.sizes, *rewriting.pins])
        numbers = dict(rewriting.pins) | {name: number.value for name, number in rewriting.sizes.items()}
        for training in (False, True):
            outputs = []
            for rewritten in (False, True):
                clone = copy.deepcopy(module).train(training)
                clone.__dict__.update(numbers)
                with torch.random.fork_rng(devices=[]), torch.no_grad():
                    torch.manual_seed(0)
                    given = _cloned(args), _cloned(kwargs)
                    outputs.append(
                        program(clone, *given[0], **given[1]) if rewritten else clone(*given[0], **given[1])
                    )
            if not _same(*outputs):
                raise Unwritable(
                    f"in {'training' if training else 'eval'} mode torch.fx makes something else of it"
                )


def _given(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[str], list[Any]]:
    """Return attributes for the arguments of a call that are not as the defaults are, and the values of all
    tensors.
    """
    _, defaults = divided(module, ())
    names = [
        p.name
        for p in inspect.signature(code_of(module)).parameters.values()
        if p.kind <= p.POSITIONAL_OR_KEYWORD
    ][1:]
    if len(args) > len(names):
        raise Unwritable("it takes any number of arguments")
    bound = dict(zip(names, args, strict=False)) | kwargs
    made = []
    for name, value in bound.items():
        if isinstance(value, Tensor):
            made += [f"{GIVEN}{name}"] if name in defaults else []
        elif value is not None and type(value) not in (bool, int, float, str):
            raise Unwritable(f"it is called with {name} of type {type(value).__name__}")
        elif name not in defaults or defaults[name] != value:
            made.append(f"{name}={value!r}")
    kept, _ = divided(module, made)
    return made, [bound[name] for name in kept]


def _values(
    module: nn.Module, graph: fx.Graph, inputs: Sequence[Any], training: bool = False
) -> dict[fx.Node, Any]:
    """Return what every node gives, as the module in one mode."""
    try:
        clone = copy.deepcopy(module).train(training)
    except Exception as error:
        raise Unwritable(f"its module cannot be copied ({type(error).__name__})") from None
    interpreter = fx.Interpreter(clone, garbage_collect_values=False, graph=graph)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        interpreter.run(*_cloned(tuple(inputs)), enable_io_processing=False)
    return dict(interpreter.env)


def _match(
    graph: fx.Graph,
    found: Mapping[fx.Node, Any],
    numbers: Numbers,
) -> dict[str, Number]:
    """Pair the operations of the trace with calls of the code: the same family and the same
    sizes, in order.
    """
    calls = [
        (node, family)
        for node in graph.nodes
        if (family := FAMILIES.get(getattr(node.target, "__name__", str(node.target))))
    ]
    sizes: dict[str, Number] = {}
    position = 0  # of the first call behind the one that was paired last: both orders are the same
    values = numbers.values
    for operation in numbers.operations:
        name = operation_name(operation.target).split(".")[0]
        of_operation = [number for number in numbers.found if number.node == operation.name]
        if name not in FAMILIES:
            if of_operation:
                raise Unwritable(f"numbers of {name} are not read from attributes")
            continue
        wanted = [
            values[item.name] if isinstance(item, fx.Node) else item for item in _sizes(operation, name)
        ]
        for index in range(position, len(calls)):
            call, family = calls[index]
            start = _start(call, found, wanted) if family == FAMILIES[name] else None
            if start is not None:
                position = index + 1
                if start >= 0:
                    sizes |= {f"{SIZE}{call.name}_{start + number.place}": number for number in of_operation}
                break
        else:
            if of_operation:
                raise Unwritable(f"no call of its code is the {name} of the trace")
    return sizes


def _start(call: fx.Node, found: Mapping[fx.Node, Any], wanted: Sequence[Any]) -> int | None:
    """Return where the wanted sizes begin among those of a call, None where they are not there; -1 where the
    call takes a whole shape that is computed of another value, and so follows by itself.
    """
    if any(_is_shape(found.get(item), wanted) for item in call.all_input_nodes):
        return -1
    return _run(
        [found.get(item) if isinstance(item, fx.Node) else item for _, item in sizes_of(call)], wanted
    )


def _sizes(operation: fx.Node, name: str) -> list[Any]:
    arguments = operation.args
    given: Any = (
        arguments[2]
        if name == "unflatten"
        else arguments[0]
        if isinstance(arguments[0], list | tuple)
        else arguments[1]
    )
    return [*given] if isinstance(given, list | tuple) else [given]


def _is_shape(value: Any, wanted: Sequence[Any]) -> bool:
    return isinstance(value, tuple) and [*value] == [*wanted]


def _run(values: Sequence[Any], wanted: Sequence[Any]) -> int | None:
    """Return where `wanted` stands in `values`."""
    plain = [value if type(value) is int else None for value in values]
    return next(
        (i for i in range(len(plain) - len(wanted) + 1) if plain[i : i + len(wanted)] == [*wanted]), None
    )


def _cloned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple | list):
        return type(value)(map(_cloned, value))
    return {k: _cloned(v) for k, v in value.items()} if isinstance(value, dict) else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and a.shape == b.shape
            and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return isinstance(b, tuple | list) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
