"""Export: a built model becomes files that stand on their own, each checked by running it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.cost.onnx_extra import onnx_bytes, onnx_feed, onnx_session
from search.finish.checks import tolerance
from search.finish.recipe import (
    RECIPE,
    WEIGHTS,
    Recipe,
    describe_genome,
    load,
    serialise_weights,
)
from spaces.allowed import named_within
from spaces.base import Pretrained, Sliced, Space
from spaces.calling import Example
from spaces.channels.shrinking import attributes_of, slices_of
from spaces.errors import InputError
from spaces.files import write_bytes
from spaces.outputs import distance, outputs_of, tensors_in
from spaces.pretrained.loading import FOLDER
from spaces.pretrained.saving import save_pretrained
from spaces.redaction import left_out, redacted
from spaces.structures import mapped, samples

ONNX, INT8 = "model.onnx", "model.int8.onnx"
EXTRA = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ModelSource:
    """Where models come from, so that a recipe can make them again.

    Attributes:
        model: ``class_path`` and ``init_args`` of the base model, None where it was given as an object.
        space: the same for a space that builds models anew.
    """

    model: Mapping[str, Any] | None = None
    space: Mapping[str, Any] | None = None


def base_of(space: Space, genome: np.ndarray) -> nn.Module:
    """Return what a recipe without an origin starts from: the model that its slices cut, or what the genome
    builds.
    """
    return space.model if isinstance(space, Sliced) else space.build(genome)


def export(
    directory: Path,
    id: int,
    genome: np.ndarray,
    model: nn.Module,
    space: Space,
    example: Example,
    origin: ModelSource | None = None,
    *,
    base: nn.Module | None = None,
    metrics: Mapping[str, float] | None = None,
    requested: Mapping[str, float] | None = None,
    realised: Mapping[str, float] | None = None,
    onnx: bool = True,
    tuning: str = "",
    card: tuple[Mapping[str, float], Mapping[str, float]] | None = None,
) -> Recipe:
    """Write weights, ONNX file and recipe of a built model, and check that what was written computes what the
    model computes.

    A model of Hugging Face's transformers is also written as a folder that those expect, ``pretrained``.
    The recipe is written last: where it is there, the export is whole.

    Args:
        directory: of this model, ``models/<id>``; made where it is missing.
        id: of the candidate.
        genome: uint8 of shape ``(length,)``.
        model: as the space built it, tuned or not; stays as it is.
        space: that built the model.
        example: inputs of one forward call, at least 2 samples.
        origin: how to make the base model again.
        base: the base model, to check the recipe with where `origin` does not say how to make it.
        metrics: of the search and of the test split, for the recipe.
        requested: cost as the search computed it.
        realised: cost as counted on the model.
        tuning: see :class:`search.finish.recipe.Recipe`.
        card: what was measured on the base model and on this one, for the model card of a ``pretrained``
            folder.
        onnx: whether to write an ONNX file; without the export extra none is written and the recipe says so.

    Raises:
        RuntimeError: where an exported file computes something else than the model.
    """
    origin = origin or ModelSource()
    directory.mkdir(parents=True, exist_ok=True)
    for name in (RECIPE, INT8):  # the second is of the weights that were there
        (directory / name).unlink(missing_ok=True)
    weights, tied = serialise_weights(model)
    expected = _run(model, example)
    write_bytes(directory / WEIGHTS, weights)
    if isinstance(space, Pretrained) and space.pretrained:
        before, after = card or ({}, {**(metrics or {}), **(realised or {})})
        save_pretrained(directory / FOLDER, space, genome, model, _finite(before), _finite(after))
    # a recipe is given away
    made_of, made_by = map(redacted, space.made_of(genome, origin.model, origin.space))
    recipe = Recipe(
        id=id,
        model=made_of,
        space=made_by,
        slices=slices_of(space, genome) if isinstance(space, Sliced) else [],
        attributes=attributes_of(space, genome) if isinstance(space, Sliced) else [],
        tied=tied,
        genome=describe_genome(space, genome),
        metrics=_finite(metrics),
        requested=_finite(requested),
        realised=_finite(realised),
        fingerprint=space.fingerprint,
        weights=hashlib.sha256(weights).hexdigest(),
        onnx=export_onnx(model, example, directory / ONNX) if onnx else {"missing": "not asked for"},
        versions=_versions(),
        tuning=tuning,
    )
    write_bytes(directory / RECIPE, recipe.to_json().encode())
    made_again = (recipe.model is not None or recipe.space is not None) and left_out(
        [made_of, made_by]
    ) is None
    if made_again or base is not None:
        try:
            # the recipe was made here, of what the user gave
            allow = named_within([recipe.model, recipe.space])
            again = load(directory, None if made_again else base, allow)
            difference = distance(_run(again, example), expected)
            if not difference <= tolerance(model):
                raise InputError(f"it differs by {difference:.1e} of the largest output")
        except InputError as error:
            (directory / RECIPE).unlink(missing_ok=True)
            raise RuntimeError(
                f"the export of candidate {id}, loaded again, is not the model it was made of: {error}"
            ) from error
    return recipe


def export_onnx(model: nn.Module, example: Example, file: Path) -> dict[str, Any]:
    """Write a model as ONNX with a dynamic batch axis where it can have one, and compare it with torch in
    onnxruntime.

    Returns:
        ``file``, ``max_difference`` (absolute), ``dynamic_batch`` and ``bytes``; or ``missing`` with the
        reason.
    """
    file.unlink(missing_ok=True)
    missing = [name for name in EXTRA if util.find_spec(name) is None]
    if missing:
        return {"missing": f"{', '.join(missing)} not installed; pip install secateur[export]"}
    try:
        content, dynamic = onnx_bytes(model, example)
        difference, relative = _onnx_difference(content, model, example, dynamic)
    # torch, onnx and onnxruntime raise whatever they like: the model stays usable without the file
    except Exception as error:
        others = {str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {"torch.float32"}
        kind = f"of a model of {', '.join(sorted(others))}: " if others else ""
        return {"missing": f"{kind}{type(error).__name__}: {first_line(error)}"}
    if not relative <= (limit := tolerance(model)):
        return {
            "missing": f"onnxruntime differs from torch by {difference:.1e}, more than {limit:g} of the "
            f"largest output"
        }
    write_bytes(file, content)
    return {"file": file.name, "max_difference": difference, "dynamic_batch": dynamic, "bytes": len(content)}


def _run(model: nn.Module, example: Example) -> list[Tensor]:
    """Outputs in eval mode; modes of all modules come back as they were."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return [tensor.detach().clone() for tensor in tensors_in(outputs_of(model, example))]
    finally:
        for module, training in before:
            module.training = training


def _onnx_difference(
    content: bytes, model: nn.Module, example: Example, dynamic: bool
) -> tuple[float, float]:
    """Run the ONNX file on the example, and where the batch is dynamic on three times as many samples;
    absolute and relative difference.
    """
    session = onnx_session(content, torch.get_num_threads())
    trials, count = [example], samples(example)
    if dynamic:
        trials.append(mapped(lambda x: torch.cat([x, x, x]) if x.ndim and len(x) == count else x, example))
    absolute = relative = 0.0
    for inputs in trials:
        wanted = [x.float() if x.is_floating_point() else x for x in _run(model, inputs)]
        found = [torch.from_numpy(np.asarray(x)) for x in session.run(None, onnx_feed(session, inputs))]
        relative = max(relative, distance(found, wanted))
        differences = [
            (a.double() - b.double()).nan_to_num(0.0).abs().max()  # of infinities that agree
            for a, b in zip(found, wanted, strict=True)
            if b.numel()
        ]
        absolute = max(absolute, *map(float, differences), 0.0)
    return absolute, relative


def _versions() -> dict[str, str]:
    """Versions of what wrote the files, as far as they are installed."""
    versions = {}
    for name in ("secateur", "torch", "numpy", "safetensors", *EXTRA):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _finite(values: Mapping[str, float] | None) -> dict[str, float]:
    """Plain numbers that JSON can hold."""
    return {name: float(value) for name, value in (values or {}).items() if np.isfinite(value)}


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
