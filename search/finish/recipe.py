"""A recipe: plain JSON that turns the base model into an exported one, so that it can be loaded anywhere
without a search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from spaces.allowed import Allowed, Names
from spaces.base import Space
from spaces.channels.shrinking import EXPECTED, Setting, Slice, named_once, shrink
from spaces.channels.shrinking import attributes_of as attributes_of
from spaces.channels.shrinking import slices_of as slices_of
from spaces.errors import InputError
from spaces.redaction import left_out
from spaces.weights import put_weights

FORMAT = 1
Kind = TypeVar("Kind")
RECIPE, WEIGHTS = "recipe.json", "weights.safetensors"


@dataclass(frozen=True)
class Recipe:
    """How an exported model comes from its base model, and what is known of it.

    Attributes:
        model: ``class_path`` and ``init_args`` of the base model, or None where it was given as an object:
            then :func:`load` needs it.
        space: ``class_path`` and ``init_args`` of a space that builds models anew instead of slicing one,
            else None.
        slices: axes that are shortened; empty where the space builds models anew.
        attributes: module attributes that follow.
        tied: name of a tensor that shares its storage -> the name under which the weights file has it.
        genome: segment -> the alleles, for keep bits as a string of 0 and 1.
        metrics: of the search and of the test split.
        requested: cost as the search computed it; realised: as counted on the exported model.
        fingerprint: of the space.
        weights: sha256 of the weights file.
        onnx: what is known of the ONNX file: ``file`` and ``max_difference`` to torch, or ``missing`` with
            the reason.
        versions: of the libraries that wrote it.
        tuning: what was done to the weights after the search, where it was not our fine-tuning: ``not
            tuned``, or the name of the function that tuned them; else empty, and left out of the file.
    """

    id: int
    model: dict[str, Any] | None
    space: dict[str, Any] | None
    slices: list[Slice]
    attributes: list[Setting]
    tied: dict[str, str]
    genome: dict[str, str | list[int]]
    metrics: dict[str, float]
    requested: dict[str, float]
    realised: dict[str, float]
    fingerprint: str
    weights: str
    onnx: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    tuning: str = ""
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the recipe as JSON, a slice a line."""
        parts = asdict(self)
        if not self.tuning:
            del parts["tuning"]
        lists = {name: parts.pop(name) for name in ("slices", "attributes")}
        text = json.dumps({"format": parts.pop("format"), **parts}, indent=2, allow_nan=False)
        for name, rows in lists.items():
            body = ",\n".join(f"    {json.dumps(row)}" for row in rows)
            text = (
                f"{text[:-2]},\n  {json.dumps(name)}: [{chr(10) + body + chr(10) + '  ' if rows else ''}]\n}}"
            )
        return text + "\n"

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read the recipe at `path`, the file or its folder.

        Raises:
            InputError: where there is none, where it is damaged, or where a newer version wrote it.
        """
        file = _file(path)
        try:
            parts = json.loads(file.read_text(encoding="utf-8"))
            version = parts["format"]
        except OSError as error:
            raise InputError(
                f"{file}: cannot be read ({error.strerror}); expected a recipe that a search exported"
            ) from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(
                f"{file}: not a recipe; expected JSON with a 'format', as a search exports it"
            ) from None
        if version != FORMAT:
            raise InputError(f"{file}: format {version}; this version of Secateur reads format {FORMAT}")
        try:
            parts["slices"] = [Slice(**row) for row in parts["slices"]]
            parts["attributes"] = [Setting(**row) for row in parts["attributes"]]
            return cls(**parts)
        except (KeyError, TypeError) as error:
            raise InputError(f"{file}: damaged recipe ({error}); export the model again") from None


def load(path: str | Path, model: nn.Module | None = None, allow: Names = ()) -> nn.Module:
    """Return an exported model, in eval mode, with its weights. No pickle is read.

    A recipe is data: it may name public classes of Secateur and layers of torch; anything else is neither
    imported nor called unless `allow` names it.

    Args:
        path: the folder ``models/<id>`` or the ``recipe.json`` in it.
        model: the base model, where the recipe does not know how to make it; it stays as it is. (For a space
            that builds models anew: the model of the recipe's genome.) The names in the recipe do not matter
            then.
        allow: what else the recipe may name: dotted names (``"my_file.Net"``), modules and packages
            (``"my_file"``), or classes and functions themselves.

    Raises:
        InputError: naming the first thing that is not allowed, with the line that allows it; or that does
            not fit: a file, the hash of the weights, a tensor, a shape.
    """
    file = _file(path)
    recipe = Recipe.read(file)
    allowed = Allowed(allow, place=str(file))
    if model is None:  # before anything is read, imported or called
        allowed.check_within("model", recipe.model)
        allowed.check_within("space", recipe.space)
    weights = read_weights(file.parent / WEIGHTS, recipe.weights)
    base = _base(recipe, file, allowed) if model is None else model
    with _sound(file, "slices and attributes"):
        slim = shrink(base, recipe.slices, recipe.attributes, str(file))
    state = weights | {alias: weights[name] for alias, name in recipe.tied.items() if name in weights}
    _check(slim.state_dict(), state, str(file))
    put_weights(slim, state)
    return slim.eval()


def read_weights(file: Path, sha256: str) -> dict[str, Tensor]:
    """Read a weights file and check its hash.

    Raises:
        InputError: where the file is missing, or is not the one that was written.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror}); expected the weights beside their recipe"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(
            f"{file}: sha256 is {found[:12]}..., the recipe says {sha256[:12]}...; export the model again"
        )
    return load_tensors(content)


def serialise_weights(model: nn.Module) -> tuple[bytes, dict[str, str]]:
    """Return the state of a model as safetensors bytes, and the names that were left out because they are
    tied to another.
    """
    state, tied = named_once(model)
    return save_tensors(state), tied


def describe_genome(space: Space, genome: np.ndarray) -> dict[str, str | list[int]]:
    """Return the alleles of every segment by its name; keep bits as a string of 0 and 1."""
    alleles: dict[str, str | list[int]] = {}
    start = 0
    for segment in space.segments:
        part = genome[start : start + segment.size].tolist()
        alleles[segment.name] = "".join(map(str, part)) if segment.choices == 2 else part
        start += segment.size
    return alleles


def construct(spec: object, kind: type[Kind], place: str, allowed: Allowed | None = None) -> Kind:
    """Make an object of its ``class_path`` and ``init_args``.

    Args:
        spec: as a recipe has it.
        kind: of the object.
        place: where it stands in the recipe.
        allowed: what may be named, at any depth; None: only our own public classes and layers of torch.

    Raises:
        InputError: where the class is not allowed, does not import, is not of the kind, or does not take the
            arguments.
    """
    allowed = allowed or Allowed()
    where = f"{allowed.place}: {place}" if allowed.place else place
    if not isinstance(spec, Mapping) or not isinstance(spec.get("init_args") or {}, Mapping):
        raise InputError(f"{where} is {str(spec)[:60]!r}; expected class_path and init_args")
    class_path = spec.get("class_path")
    if (argument := left_out(dict(spec))) is not None:
        raise InputError(
            f"{where}: {argument} of {class_path} was a secret and is left out; give load() the model"
        )
    found = allowed.find(f"{place}.class_path", class_path, kind)  # type: ignore[arg-type]  # it looks
    arguments = dict(spec.get("init_args") or {})
    # modules may be made of modules; spaces make theirs themselves
    if not (isinstance(found, type) and issubclass(found, Space)):
        for name, value in arguments.items():
            if isinstance(value, Mapping) and "class_path" in value:
                arguments[name] = construct(value, nn.Module, f"{place}.init_args.{name}", allowed)
    try:
        with allowed.reading():
            made = found(**arguments)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{where}: init_args do not fit {class_path}: {type(error).__name__}: {reason}"
        ) from None
    if not isinstance(made, kind):
        raise InputError(
            f"{where}: {class_path} made a {type(made).__name__}; expected a {kind.__module__}."
            f"{kind.__name__}"
        )
    return made


@contextmanager
def _sound(file: Path, part: str) -> Iterator[None]:
    """Have whatever goes wrong with a part of a recipe be a refusal.

    Raises:
        InputError: something went wrong.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{file}: {part} do not fit the model ({type(error).__name__}: {reason}); export the model again"
        ) from error


def _base(recipe: Recipe, file: Path, allowed: Allowed) -> nn.Module:
    if recipe.model is not None:
        return construct(recipe.model, nn.Module, "model", allowed)
    if recipe.space is not None:
        space: Space = construct(recipe.space, Space, "space", allowed)  # type: ignore[type-abstract]
        with allowed.reading(), _sound(file, "the alleles"):
            alleles = [int(allele) for part in recipe.genome.values() for allele in part]
            return space.build(np.array(alleles, dtype=np.uint8))
    raise InputError(
        f"{file}: the {'base ' if recipe.slices else ''}model was given as an object, not by class_path; "
        f"give it to load()"
    )


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], place: str) -> None:
    """Name the first tensor that the weights lack, have too many, or have in another shape."""
    for name, tensor in expected.items():
        if name not in found:
            raise InputError(f"{place}: the weights have no tensor {name!r}; {EXPECTED}")
        if found[name].shape != tensor.shape:
            raise InputError(
                f"{place}: tensor {name!r} is {tuple(found[name].shape)} in the weights and "
                f"{tuple(tensor.shape)} in the model; {EXPECTED}"
            )
    for name in found:
        if name not in expected:
            raise InputError(f"{place}: the model has no tensor {name!r}; {EXPECTED}")


def _file(path: str | Path) -> Path:
    return Path(path) / RECIPE if Path(path).is_dir() else Path(path)
