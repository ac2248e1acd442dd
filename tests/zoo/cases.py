"""The zoo: every model with an example of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from tests.zoo import assembled as parts
from tests.zoo import convolutional as conv
from tests.zoo import layers, literals, strangers
from tests.zoo import sequences as seq


@dataclass(frozen=True)
class Case:
    """A model of the zoo.

    Attributes:
        make: the model, with torch's current seed.
        example: arguments of one forward call for a batch of this size.
        options: of the space.
        frozen: what of it stays whole, and why; empty where all is prunable.
    """

    make: Callable[[], nn.Module]
    example: Callable[[int], tuple[Tensor, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    frozen: str = ""


def images(batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 3, 8, 8),)


def tokens(batch: int) -> tuple[Tensor, ...]:
    return (torch.randint(0, 20, (batch, 6)),)


def shaped(*shape: int) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda batch: (torch.randn(batch, *shape),)


FROZEN = {
    "MobileViT": "heads of the attention: `t.reshape(*t.shape[:3], 2, 4)` unpacks a shape, which torch.fx "
    "cannot follow",
    "TorchDecoder": "heads of `look`: their mean is an output",
}
"""What of a model stays whole, and why."""

ZOO: dict[str, Case] = {
    **{
        model.__name__: Case(model, images)
        for model in (
            conv.Plain,
            conv.ResNet,
            conv.PaddedResNet,
            conv.DenseNet,
            conv.Inception,
            conv.UNet,
            conv.MobileNet,
            conv.ShuffleNet,
            conv.ShuffleNetV2,
            conv.ResNeXt,
            conv.ConvNeXt,
            conv.Normalised,
            parts.SuperResolution,
            parts.Pieces,
            parts.Unflattened,
            parts.Yolo,
            parts.Twice,
            parts.Functional,
            parts.Bfloat,
            seq.ViT,
            seq.SeparateViT,
            seq.Mixer,
        )
    },
    **{
        model.__name__: Case(model, tokens) for model in (seq.GPT, seq.HeadwiseGPT, seq.Llama, seq.MultiQuery)
    },
    **{model.__name__: Case(model, shaped(5, 6)) for model in (layers.TorchAttention, layers.TorchEncoder)},
    # with a single feature left torch multiplies without a matrix product, which no counter sees
    "TorchDecoder": Case(layers.TorchDecoder, lambda n: (torch.randn(n, 4, 5), torch.randn(n, 6, 6))),
    "LinearAttention": Case(layers.LinearAttention, shaped(5, 6), {"min_keep": 2}),
    "Recurrent": Case(layers.Recurrent, shaped(4, 5)),
    "MessagePassing": Case(layers.MessagePassing, lambda n: (torch.randn(n, 5), torch.randint(0, n, (7, 2)))),
    "Conditioned": Case(layers.Conditioned, lambda n: (torch.randint(0, 10, (n, 2)),)),
    "Refinement": Case(parts.Refinement, lambda n: (torch.randn(n, 3, 8, 8), torch.randn(n, 3, 8, 8))),
    "Autoencoder": Case(parts.Autoencoder, shaped(2, 16)),
    "WeightNormed": Case(parts.WeightNormed, shaped(6)),
    **{model.__name__: Case(model, images) for model in (literals.NumberedViT, literals.Branches)},
    "Decoder": Case(literals.Decoder, lambda n: (torch.randn(n, 4, 6), torch.randn(n, 7, 5))),
}

STRANGERS: dict[str, Case] = {
    "Conformer": Case(strangers.Conformer, shaped(12, 8)),
    "MobileViT": Case(strangers.MobileViT, images),
    "WaveNet": Case(strangers.WaveNet, shaped(1, 9)),
    "CapsuleNet": Case(strangers.CapsuleNet, images),
    "Perceiver": Case(strangers.Perceiver, shaped(9, 6)),
    "AttentionUNet": Case(strangers.AttentionUNet, images),
    "Transducer": Case(strangers.Transducer, lambda n: (torch.randn(n, 7, 6), torch.randint(0, 8, (n, 4)))),
    "Swin": Case(strangers.Swin, images),
}
"""Models of people who have not read the rules."""
ZOO |= STRANGERS

for _name, _text in FROZEN.items():
    ZOO[_name] = replace(ZOO[_name], frozen=_text)


def model_of(name: str) -> nn.Module:
    """Return a model in eval mode whose statistics, scales and shifts are not the trivial ones, so that a
    forgotten one shows.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ZOO[name].make()
        for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
            with torch.no_grad():
                if key.endswith("running_var"):
                    tensor.uniform_(0.5, 2)
                elif key.endswith("running_mean") or (tensor.ndim == 1 and key.endswith("bias")):
                    tensor.normal_(0, 0.5)
                elif tensor.ndim == 1 and key.endswith("weight"):
                    tensor.uniform_(0.5, 1.5)
    return model.eval()


def example_of(name: str, batch: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ZOO[name].example(batch)


@cache
def space_of(name: str) -> ChannelSpace:
    return ChannelSpace(model_of(name), example_of(name), **ZOO[name].options)
