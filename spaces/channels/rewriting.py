"""Rewriting: a module's ``forward`` as a graph whose numbers are attributes, where those in the user's code
cannot follow. [O]

``view(B, T, 4, 8)``, ``split([8, 6])``, ``C // self.n_head``: no attribute holds what has to change there. So
the ``forward`` of the smallest module around is traced with torch.fx (its submodules stay calls, with their
parameters, modes and hooks) and the numbers are read from attributes of the module instead. They travel in a
recipe as other attributes do; the code is made again from the user's own.

Names say all: ``size_of_view_1_3`` is argument 3 of the sizes of the call ``view_1``
(``size_in_training_of_view_1_3``: of a call that training alone makes), ``pinned_x`` a size
that a scale is made of and that stays what it was, ``given_mask`` an optional tensor that the module is
called with, ``causal=True`` another argument of the call.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import math
import operator
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, fx, nn

from spaces.errors import InputError

SIZE, PINNED, GIVEN = "size_of_", "pinned_", "given_"
TRAINED = "size_in_training_of_"
ATTENTION = "scaled_dot_product_attention"
FLOATS = (operator.truediv, operator.pow, math.sqrt)
_COPIED = frozenset((dict, list, set))


def is_made(name: str) -> bool:
    """Whether an attribute is one of a rewritten module, which the user's own does not have."""
    return name.startswith((SIZE, TRAINED, PINNED, GIVEN)) or "=" in name


class Unwritable(Exception):
    """A ``forward`` that torch.fx cannot trace, or that does more than compute; the text says what."""


class Program:
    """The code of a ``forward`` in eval and in training mode; its numbers are attributes of the module that
    it runs on.

    Args:
        module: of the full model; it is not changed.
        names: attributes of the rewritten module.

    Raises:
        Unwritable: naming what cannot be traced, or the call that `names` speak of and that is not there.
    """

    def __init__(self, module: nn.Module, names: Iterable[str]) -> None:
        made = [*names]
        self.parameters, self.fixed = divided(module, made)
        self.arguments = [*inspect.signature(code_of(module)).parameters][1:]
        self._codes: dict[bool, tuple[str, dict[str, Any]]] = {}
        for training in (False, True):
            graph = graph_of(module, made, training)
            nodes = {node.name: node for node in graph.nodes}
            for name in made:
                if _is_edited(name, made, training):
                    _edit(graph, nodes, name)
            code = graph.python_code("self")
            # torch.fx writes these lines for tracing alone
            lines = [
                line for line in code.src.splitlines() if not line.startswith("torch.fx._symbolic_trace.wrap")
            ]
            self._codes[training] = "\n".join(lines), code.globals
        self._functions: dict[bool, Callable[..., Any]] = {}

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.fixed:
            args, kwargs = self._unfixed(module, args, kwargs)
        return self.function(bool(module.training))(module, *args, **kwargs)

    def function(self, training: bool) -> Callable[..., Any]:
        """Return the ``forward`` of a mode, which takes the module and its tensors."""
        if training not in self._functions:
            source, names = self._codes[training]
            scope = dict(names)
            exec(compile(source, "<rewritten forward>", "exec"), scope)  # torch.fx wrote it
            self._functions[training] = scope["forward"]
        return self._functions[training]

    def _unfixed(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = dict(zip(self.arguments, args, strict=False)) | kwargs
        for name, value in self.fixed.items():
            if name in bound and (isinstance(given := bound.pop(name), Tensor) or given != value):
                raise InputError(
                    f"{type(module).__name__}.forward was rewritten for {name}={value!r}, as the example "
                    f"had it; got another"
                )
        return tuple(bound[name] for name in self.parameters if name in bound), {}

    def __getstate__(self) -> dict[str, Any]:
        """Modules do not pickle, their names do."""
        codes = {
            mode: (source, {k: _Named(v) for k, v in names.items()})
            for mode, (source, names) in self._codes.items()
        }
        return self.__dict__ | {"_codes": codes, "_functions": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._codes = {
            mode: (source, {k: v.value for k, v in names.items()})
            for mode, (source, names) in self._codes.items()
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self


class _Named:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __getstate__(self) -> Any:
        return (
            ("module", self.value.__name__)
            if isinstance(self.value, types.ModuleType)
            else ("value", self.value)
        )

    def __setstate__(self, state: Any) -> None:
        kind, value = state
        self.value = __import__("importlib").import_module(value) if kind == "module" else value


def code_of(module: nn.Module) -> Callable[..., Any]:
    """Return the function that is a module's ``forward``: of its class, or of a method that the object has
    in its place.
    """
    own = vars(module).get("forward")
    if isinstance(own, types.MethodType) and own.__self__ is module:
        return own.__func__
    return type(module).forward


class Forward:
    """Stands in for ``module.forward``."""

    def __init__(self, module: nn.Module, program: Program) -> None:
        self.module, self.program = module, program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(self.module, *args, **kwargs)


_PROGRAMS: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], Program]] = WeakKeyDictionary()


def program_of(module: nn.Module, names: Iterable[str]) -> Program:
    """Return the program of a module with these attributes; the same one for the same.

    Raises:
        InputError: it cannot be made (another model than the one that was searched).
    """
    key, known = tuple(sorted(names)), _PROGRAMS.setdefault(module, {})
    if key not in known:
        try:
            known[key] = Program(module, key)
        except Unwritable as error:
            raise InputError(
                f"{type(module).__name__}.forward cannot be rewritten with {', '.join(key)}: {error}"
            ) from None
    return known[key]


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # what is made of a buffer is made at every call

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


@contextmanager
def _lengths(names: dict[str, Any]) -> Iterator[None]:
    """Have ``len`` of a traced value be a call of the graph, in the file with these names."""
    own = "len" in names
    before = names.get("len", len)
    names["len"] = lambda x: (
        x.tracer.create_proxy("call_function", len, (x,), {}) if isinstance(x, fx.Proxy) else before(x)
    )
    try:
        yield
    finally:
        if own:
            names["len"] = before
        else:
            del names["len"]


def divided(module: nn.Module, made: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments of a ``forward`` that are tensors, and the others with their values: their
    defaults, or what `made` says.
    """
    given, fixed = _arguments(made)
    parameters = [*inspect.signature(code_of(module)).parameters.values()][1:]
    # the names may come from a recipe, and are about to be code
    unknown = (given | fixed.keys()) - {p.name for p in parameters}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # it hands such words on
        unknown = {name for name in unknown if name in given or not _is_word(name)}
    if unknown:
        raise Unwritable(f"it has no argument {', '.join(sorted(unknown))}")
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL or (p.kind is p.VAR_KEYWORD and p.name in given):
            raise Unwritable("it takes any number of arguments")
        if p.default is not p.empty and p.name not in given:
            fixed.setdefault(p.name, p.default)
    return [p.name for p in parameters if p.name not in fixed and p.kind is not p.VAR_KEYWORD], fixed


def _is_word(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _arguments(made: Iterable[str]) -> tuple[set[str], dict[str, Any]]:
    """Return the arguments that attributes of a rewritten module speak of: optional tensors that are given,
    and others with their values.
    """
    names = [*made]
    given = {name.removeprefix(GIVEN) for name in names if name.startswith(GIVEN)}
    pairs = (name.partition("=") for name in names)
    return given, {name: ast.literal_eval(value) for name, _, value in pairs if value}


def graph_of(module: nn.Module, made: Iterable[str], training: bool) -> fx.Graph:
    """Trace the ``forward`` of a module, its submodules as calls; the module stays as it was.

    Raises:
        Unwritable: it has control flow over values, makes tensors of fixed numbers, or changes its module.
    """
    parameters, fixed = divided(module, made)
    before = getattr(module.__dict__.get("forward"), "program", None)
    original = code_of(module) if before is None else before.function(training)
    # torch.fx looks for functions to wrap among the names of a file: so the function that calls the original
    # with the tensors alone is made with the names of the user's file
    names = getattr(inspect.unwrap(original), "__globals__", {})
    call = ", ".join(
        [*(f"{p}={p}" for p in parameters), *(f"{p}=fixed[{p!r}]" for p in fixed if before is None)]
    )
    made_here: dict[str, Any] = {}
    exec(
        f"def make(original, fixed):\n def forward({', '.join(['self', *parameters])}):\n  return "
        f"original(self, {call})\n return forward",
        names,
        made_here,
    )
    forward = made_here["make"](original, fixed)
    # a stand-in of the same class is traced, so that the module itself stays as it was
    traced: Any = object.__new__(type(type(module).__name__, (type(module),), {"forward": forward}))
    state = {k: v.copy() if type(v) in _COPIED else v for k, v in module.__dict__.items()} | {
        "training": training
    }
    state.pop("forward", None)
    object.__setattr__(traced, "__dict__", state)
    was = {name: id(value) for name, value in state.items()}
    try:
        with _lengths(names):
            graph = _Tracer().trace(traced)
    except Exception as error:
        raise Unwritable(
            f"torch.fx cannot trace it ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''})"
        ) from None
    changed = [name for name, value in traced.__dict__.items() if was.get(name) != id(value)]
    if changed:
        raise Unwritable(f"it makes tensors of fixed numbers, or sets attributes ({', '.join(changed)})")
    return graph


def sizes_of(node: fx.Node) -> list[tuple[tuple[Any, ...], Any]]:
    """Return the arguments of a call that may be sizes, in order, each with its path: index or keyword, then
    place in a list.
    """
    found: list[tuple[tuple[Any, ...], Any]] = []
    for key, value in [*enumerate(node.args), *node.kwargs.items()]:
        if isinstance(value, list | tuple):
            found += [((key, place), item) for place, item in enumerate(value)]
        elif key != "dim":
            found.append(((key,), value))
    return found


def _is_edited(name: str, made: list[str], training: bool) -> bool:
    """Whether a number stands in the code of a mode; what is said of training alone goes before."""
    if name.startswith(TRAINED):
        return training
    return not (training and f"{TRAINED}{name.removeprefix(SIZE)}" in made)


def _edit(graph: fx.Graph, nodes: dict[str, fx.Node], name: str) -> None:
    """Have a number of a call be read from the attribute `name`."""
    if name.startswith(GIVEN) or "=" in name:  # an argument, no number
        return
    is_pin = name.startswith(PINNED)
    call, _, place = (
        (name.removeprefix(PINNED), "", "")
        if is_pin
        else name.removeprefix(SIZE).removeprefix(TRAINED).rpartition("_")
    )
    node = nodes.get(call)
    if node is None:
        raise Unwritable(f"it has no call {call}")
    if is_pin:
        _pin(graph, node, name)
    elif place.isdigit() and int(place) < len(sizes_of(node)):
        _read_size(graph, node, int(place), name)
    else:
        raise Unwritable(f"it has no call {call}")


def _pin(graph: fx.Graph, node: fx.Node, name: str) -> None:
    """Have the scale that is made of a size be made of the attribute `name`, which does not change."""
    if ATTENTION in str(node.target):
        with graph.inserting_before(node):
            read = graph.get_attr(name)
            node.update_kwarg("scale", graph.call_function(operator.pow, (read, -0.5)))
        return
    for user in [*node.users]:
        if user.target in FLOATS:
            with graph.inserting_before(user):
                user.replace_input_with(node, graph.get_attr(name))


def _read_size(graph: fx.Graph, node: fx.Node, place: int, name: str) -> None:
    """Have one of the sizes of a call be read from the attribute `name`."""
    (key, *rest), _ = sizes_of(node)[place]
    with graph.inserting_before(node):
        read = graph.get_attr(name)
    value: Any = read
    if rest:  # it stands in a list, whose other sizes stay as they are
        whole = node.args[key] if isinstance(key, int) else node.kwargs[key]
        value = [read if n == rest[0] else item for n, item in enumerate(whole)]  # type: ignore[arg-type]
    if isinstance(key, int):
        node.update_arg(key, value)
    else:
        node.update_kwarg(key, value)
