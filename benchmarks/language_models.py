"""What is left of language models at half of their channels, embedding and head not counted.

Tiny models of transformers with random weights are planned and verified; then the first half of every group
goes. Heads that share keys are two groups, so that a quarter of the queries stays. `largest_difference` is
that of the smaller models from the masked ones, in double precision.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import harness
from spaces import ChannelSpace
from spaces.channels.remembered import OFF, VARIABLE

SIZES = {"hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 1000}
LLAMA = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 4, "num_heads": 4, "vocab_size": 1000}
APART = ("embed", "lm_head", "shared.")
"""Parts of the names of embeddings and heads, which are not counted."""
QUICK = ("Llama",)


class Translates(nn.Module):
    """Gives an encoder and decoder the same words."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, decoder_input_ids=ids).logits


def models() -> dict[str, Callable[[], nn.Module]]:
    """Return how each model is made."""
    import transformers as t

    return {
        "Llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, **LLAMA)),
        "Mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**SIZES, **LLAMA)),
        "Qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**SIZES, **LLAMA)),
        "Qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, **LLAMA, head_dim=16)),
        "Gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**SIZES, **LLAMA, head_dim=16)),
        "T5": lambda: Translates(t.T5ForConditionalGeneration(t.T5Config(**T5))),
        "Mamba": lambda: t.MambaForCausalLM(t.MambaConfig(**SIZES, state_size=8)),
    }


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    os.environ[VARIABLE] = OFF  # else the second run plans nothing
    made = {name: make for name, make in models().items() if not quick or name in QUICK}
    found = {name: left(make) for name, make in made.items()}
    return {
        "left_at_half": float(np.median([one["left"] for one in found.values()])),
        "left_at_half_with_embeddings": float(np.median([one["left_of_all"] for one in found.values()])),
        "largest_difference": max(one["difference"] for one in found.values()),
        "models": found,
    }, {"sizes": SIZES | LLAMA, "t5": T5}


def left(make: Callable[[], nn.Module]) -> dict[str, float]:
    """Return what is left of one model, how far it is from the masked one, and CPU seconds to plan it."""
    torch.manual_seed(0)
    model, ids = make().eval(), torch.randint(1, 1000, (2, 12))
    began = time.process_time()
    space = ChannelSpace(model, ids)
    seconds = time.process_time() - began
    genome = space.base
    for part in space.slices.values():
        genome[part][: (part.stop - part.start) // 2] = 0
    compact = space.build(genome)
    return {
        "left": _parameters(compact, APART) / _parameters(model, APART),
        "left_of_all": _parameters(compact) / _parameters(model),
        "difference": space.difference(genome, precise=True),
        "seconds_to_plan": seconds,
    }


def _parameters(model: nn.Module, apart: tuple[str, ...] = ()) -> int:
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if not any(part in name for part in apart))


if __name__ == "__main__":
    torch.set_num_threads(1)
    harness.main("language_models", measure)
