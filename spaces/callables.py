"""Functions that a configuration names: a dotted path, or a class that is called."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Any

from spaces.allowed import imported
from spaces.errors import InputError
from spaces.names import public_name

FunctionSpec = str | Mapping[str, Any] | Callable[..., Any]
"""A function, its path ``module.function``, or ``class_path`` and ``init_args`` of a class whose objects are
called (or of a function, whose last arguments they are).
"""


def function_of(spec: FunctionSpec, place: str) -> Callable[..., Any]:
    """Return the function that is named, or the object that is called in its place.

    Args:
        place: where it stands, for people.

    Raises:
        InputError: the path cannot be imported, or is not allowed where stored data are being read; what is
            there cannot be called, or the arguments do not fit.
    """
    if callable(spec):
        return spec
    path, given = (
        (spec, {})
        if isinstance(spec, str)
        else (spec.get("class_path"), spec.get("init_args") or {})
        if isinstance(spec, Mapping)
        else (None, {})
    )
    if not isinstance(path, str) or not isinstance(given, Mapping):
        raise InputError(
            f"{place}: {spec!r}; expected a function, 'module.function', or class_path and init_args"
        )
    found = imported(path, f"{place}:")
    if callable(found) and not isinstance(found, type):
        return functools.partial(found, **given) if given else found
    if isinstance(found, type):
        try:
            found = found(**given)
        except TypeError as error:
            raise InputError(f"{place}: init_args do not fit {path}: {error}") from None
    if not callable(found):
        raise InputError(f"{place}: {path} cannot be called; expected a function or a class with __call__")
    return found


def function_name(function: Callable[..., Any]) -> str:
    """Return what a function is called and is given, the same in every process: ``module.name`` and the plain
    values that it holds.
    """
    if isinstance(function, functools.partial):
        held: Mapping[str, Any] = function.keywords
        name = function_name(function.func)
        held = {str(i): value for i, value in enumerate(function.args)} | dict(held)
    elif hasattr(function, "__qualname__"):
        return public_name(function)
    else:
        held, name = getattr(function, "__dict__", {}), public_name(type(function))
    plain = {
        key: value
        for key, value in sorted(held.items())
        if isinstance(value, bool | int | float | str | None)
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in plain.items())})" if plain else name


def function_text(function: Callable[..., Any]) -> str:
    """Return its name and what it is given, and a short hash of its code, not of what it calls."""
    inner = function.func if isinstance(function, functools.partial) else function
    method = inner if isinstance(inner, types.FunctionType) else vars(type(inner)).get("__call__")
    if not isinstance(method, types.FunctionType):
        return function_name(function)
    return f"{function_name(function)} {hashlib.sha256(code_of(method).encode()).hexdigest()[:16]}"


def code_of(function: types.FunctionType) -> str:
    """Return the syntax tree of a function as text, without comments, docstrings and layout."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):  # typed in a console, or built at run time
        return function.__code__.co_code.hex() + repr(_constants(function.__code__))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _constants(code: types.CodeType) -> list[Any]:
    return [item for item in code.co_consts if not isinstance(item, types.CodeType)]
