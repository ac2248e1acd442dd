"""Fourteen architectures of Hugging Face's transformers with tiny configs and random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
_TEXT = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
_TEXT |= {"num_attention_heads": 4}
_CAUSAL = _TEXT | {"num_key_value_heads": 2, "max_position_embeddings": 16}
_IMAGE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
_GPT2 = {"vocab_size": 64, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
_GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}
_SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
_SPEECH = {"conv_dim": [16, 16], "conv_stride": [4, 2], "conv_kernel": [8, 3], "num_feat_extract_layers": 2}
_SPEECH |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}
_CLIP_TEXT = _TEXT | {"max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "BERT": ("BertForSequenceClassification", _TEXT | {"max_position_embeddings": 16}, ("text", "mask")),
    "DistilBERT": (
        "DistilBertForSequenceClassification",
        {
            "vocab_size": 64,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 16,
        },
        ("text", "mask"),
    ),
    "RoBERTa": (
        "RobertaForSequenceClassification",
        _TEXT | {"max_position_embeddings": 18, "pad_token_id": 0},
        ("text", "mask"),
    ),
    "GPT-2": ("GPT2LMHeadModel", _GPT2, ("text",)),
    "Llama": ("LlamaForCausalLM", _CAUSAL, ("text",)),
    "Qwen3": ("Qwen3ForCausalLM", _CAUSAL | {"head_dim": 8}, ("text",)),
    "T5": (
        "T5ForConditionalGeneration",
        {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
        ("text", "target"),
    ),
    "ViT": ("ViTForImageClassification", _IMAGE | {"intermediate_size": 48}, ("image",)),
    "DINOv2": ("Dinov2ForImageClassification", _IMAGE | {"mlp_ratio": 2}, ("image",)),
    "Swin": ("SwinForImageClassification", _SWIN | {"window_size": 4, "mlp_ratio": 2.0}, ("image",)),
    "ConvNeXtV2": (
        "ConvNextV2ForImageClassification",
        {"patch_size": 2, "num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 1], "image_size": 16},
        ("image",),
    ),
    "ResNet": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
        ("image",),
    ),
    "Wav2Vec2": (
        "Wav2Vec2ForSequenceClassification",
        _TEXT | _SPEECH | {"vocab_size": 32, "apply_spec_augment": False},
        ("sound",),
    ),
    "CLIP": (
        "CLIPModel",
        {
            "text_config": _CLIP_TEXT | {"projection_dim": 16},
            "vision_config": _IMAGE | {"intermediate_size": 48, "projection_dim": 16},
            "projection_dim": 16,
        },
        ("text", "mask", "image"),
    ),
}
"""Name -> class, arguments of its config, what it is given."""

_INPUTS: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "text": ("input_ids", lambda: torch.randint(3, 64, (2, 8))),
    "mask": ("attention_mask", lambda: torch.ones(2, 8, dtype=torch.long)),
    "target": ("decoder_input_ids", lambda: torch.randint(3, 64, (2, 8))),
    "image": ("pixel_values", lambda: torch.randn(2, 3, 16, 16)),
    "sound": ("input_values", lambda: torch.randn(2, 128)),
}


def architecture(name: str, seed: int = 0) -> tuple[nn.Module, Inputs]:
    """Return a model in eval mode, its weights drawn at random, its norms made uneven, and two samples."""
    import transformers

    kind, settings, given = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model_class = getattr(transformers, kind)
        model = model_class(model_class.config_class(**settings)).eval()
        _uneven(model)
        return model, {key: draw() for key, draw in map(_INPUTS.__getitem__, given)}


def _uneven(model: nn.Module) -> None:
    """Draw the scales, shifts and statistics of normalisations anew, so that none is one or zero."""
    with torch.no_grad():
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if name.startswith("running_"):
                    buffer.copy_(torch.rand_like(buffer) + 0.5 * (name == "running_var"))
            if "norm" in type(module).__name__.lower():
                for parameter in module.parameters(recurse=False):
                    parameter += 0.2 * torch.randn_like(parameter)
