"""A folder as people expect it of a model of transformers: config, weights, tokenizer files, model card."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import nn

from spaces.calling import Example, mode
from spaces.channels.shrinking import attributes_of, named_once, slices_of
from spaces.errors import InputError
from spaces.files import write_bytes
from spaces.outputs import distance, uncached
from spaces.pretrained.card import CARD, card
from spaces.pretrained.loading import CONFIG, FORMAT, GUARD, WEIGHTS, WIDTHS, load_pretrained, quiet
from spaces.pretrained.numbers import configured
from spaces.pretrained.plain import arguments_within

SENTENCE = "layers of this model differ in width; secateur.load_pretrained(folder) loads it by secateur.json"
LOADED = 1e-4
"""Largest difference of a model that is loaded again, relative to max(1, largest output)."""
COPIED = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "feature_extractor_config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files of tokenizers and processors, which pruning leaves as they are."""


def save_pretrained(
    folder: Path,
    space: Any,
    genome: np.ndarray,
    compact: nn.Module,
    before: Mapping[str, float] | None = None,
    after: Mapping[str, float] | None = None,
) -> str:
    """Write a compact model of transformers as a folder.

    Where a plain config describes it, ``from_pretrained`` of transformers loads it. Else the widths stand in
    ``secateur.json``, and transformers refuses the folder by a sentence in its config.

    Args:
        folder: is written anew.
        space: of channels, that built the model.
        genome: uint8 of shape ``(length,)``.
        compact: the built model, tuned or not; stays as it is.
        before: what was measured on the base model, for the card.
        after: the same on this one.

    Returns:
        Why no plain config describes the model; empty where one does.

    Raises:
        RuntimeError: what was written computes something else than the model.
    """
    found = configured(space.model)
    assert found is not None
    path, base = found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = Path(getattr(base.config, "name_or_path", "") or "")
    if source.is_dir():
        for name in COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    reason = ""
    try:
        with quiet():
            space.plain(genome, compact).save_pretrained(folder)
    except InputError as error:
        reason = str(error)
        _save_widths(folder, path, space, genome, compact.get_submodule(path), reason)
    _check(folder, path, space.example, compact)
    text = card(type(base).__name__, base.config.model_type, source.name, before or {}, after or {}, reason)
    write_bytes(folder / CARD, text.encode())
    return reason


def _save_widths(folder: Path, path: str, space: Any, genome: np.ndarray, compact: Any, reason: str) -> None:
    prefix = f"{path}." if path else ""
    state, tied = named_once(compact)
    content = save_tensors(state, {"format": "pt"})
    widths = {
        "format": FORMAT,
        "class": type(compact).__name__,
        "reason": reason,
        "transformers": _version(),
        "weights": hashlib.sha256(content).hexdigest(),
        "tied": tied,
        "attributes": [
            {"module": s.module.removeprefix(path).lstrip("."), "name": s.name, "value": s.value}
            for s in attributes_of(space, genome)
            if s.module == path or s.module.startswith(prefix)
        ],
        "slices": [
            {"tensor": s.tensor.removeprefix(prefix), "dim": s.dim, "kept": s.kept}
            for s in slices_of(space, genome)
            if s.tensor.startswith(prefix)
        ],
    }
    config = json.loads(compact.config.to_json_string()) | {
        "architectures": [type(compact).__name__],
        GUARD: SENTENCE,
    }
    write_bytes(folder / WEIGHTS, content)
    write_bytes(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())
    write_bytes(folder / WIDTHS, f"{json.dumps(widths)}\n".encode())


def _check(folder: Path, path: str, example: Example, compact: nn.Module) -> None:
    """Load what was written and run it.

    Raises:
        RuntimeError: it computes something else.
    """
    again, inner = load_pretrained(folder), compact.get_submodule(path)
    arguments, named = arguments_within(compact, path, example)
    with mode(inner, False), torch.no_grad(), uncached(again), uncached(inner):
        difference = distance(again(*arguments, **named), inner(*arguments, **named))
    if not difference <= LOADED:
        raise RuntimeError(f"{folder}, loaded again, differs by {difference:.1e} of the largest output")


def _version() -> str:
    from transformers import __version__

    return __version__
