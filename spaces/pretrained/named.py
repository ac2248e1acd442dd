"""Models of timm and torchvision by name, with weights drawn at random: a checkpoint gives them theirs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module, util
from typing import Any

from torch import nn

from spaces.errors import InputError

_WEIGHTS = ("pretrained", "weights", "checkpoint", "cache_dir", "hub")
"""What arguments begin with that name files or addresses of weights."""


class Timm(nn.Module):
    """A model of timm; what is made is the model itself. In configurations ``class_path: timm.resnet18`` with
    the arguments of ``timm.create_model`` is the same.

    Args:
        name: of the model, as ``timm.list_models`` has it.
        arguments: of its constructor, such as ``num_classes``.

    Raises:
        InputError: timm is not installed, has no such model, or would load weights.
    """

    def __new__(cls, name: str, arguments: dict[str, Any] | None = None) -> nn.Module:  # type: ignore[misc]
        timm = _library("timm")
        if not name.isidentifier() or not timm.is_model(name):
            raise InputError(f"model: timm has no {name!r}; expected one of timm.list_models()")
        return _made(f"timm.{name}", lambda **given: timm.create_model(name, **given), arguments)

    def __init__(self, name: str, arguments: dict[str, Any] | None = None) -> None: ...


class Torchvision(nn.Module):
    """A model of torchvision; what is made is the model itself. In configurations ``class_path:
    torchvision.models.resnet18`` with its arguments is the same.

    Args:
        name: of the model, as ``torchvision.models.list_models`` has it.
        arguments: of its constructor, such as ``num_classes``.

    Raises:
        InputError: torchvision is not installed, has no such model, or would load weights.
    """

    def __new__(cls, name: str, arguments: dict[str, Any] | None = None) -> nn.Module:  # type: ignore[misc]
        models = _library("torchvision.models")
        if name not in models.list_models():
            raise InputError(f"model: torchvision has no {name!r}; expected one of models.list_models()")
        make = models.get_model_builder(name)
        # a detector's backbone has weights of its own unless told otherwise
        none = {"weights_backbone": None} if "weights_backbone" in inspect.signature(make).parameters else {}
        return _made(f"torchvision.models.{name}", lambda **given: make(**none, **given), arguments)

    def __init__(self, name: str, arguments: dict[str, Any] | None = None) -> None: ...


def by_name(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``class_path`` with its ``init_args`` of which a model of timm or torchvision has become an
    argument; any other as it is.
    """
    path = spec.get("class_path")
    first, _, rest = path.partition(".") if isinstance(path, str) else ("", "", "")
    if first not in _CLASSES or not rest:
        return dict(spec)
    name, arguments = rest.rpartition(".")[2], spec.get("init_args")
    return {"class_path": _CLASSES[first], "init_args": {"name": name, "arguments": arguments or None}}


_CLASSES = {"timm": "spaces.pretrained.Timm", "torchvision": "spaces.pretrained.Torchvision"}


def _library(name: str) -> Any:
    package = name.partition(".")[0]
    if util.find_spec(package) is None:
        raise InputError(f"model: {package} is not installed; expected it: pip install {package}")
    return import_module(name)


def _made(place: str, make: Any, arguments: Mapping[str, Any] | None) -> nn.Module:
    for key, value in (arguments or {}).items():
        if key.startswith(_WEIGHTS) and value:
            raise InputError(
                f"{place}: {key}: weights are not downloaded; expected `checkpoint: FILE` instead"
            )
    try:
        return make(**(arguments or {}))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{place}: {type(error).__name__}: {' '.join(str(error).split())}") from error
