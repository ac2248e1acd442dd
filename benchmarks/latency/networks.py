"""Five kinds of networks at which predictions are tried, small enough for a batch of 1 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKENS, VOCABULARY = 64, 512
_PIXELS = 32


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.a, self.b = _convolution(inputs, outputs, stride=stride), _convolution(outputs, outputs)
        self.shortcut = _convolution(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b(F.relu(self.a(x))) + self.shortcut(x))


class Residual(nn.Module):
    """A residual network of three stages of two blocks."""

    def __init__(self, widths: Sequence[int] = (24, 48, 96)) -> None:
        super().__init__()
        self.stem = _convolution(3, widths[0])
        sizes = zip((widths[0], *widths), widths, strict=False)
        stages = [
            nn.Sequential(ResidualBlock(i, o, 1 + (stage > 0)), ResidualBlock(o, o, 1))
            for stage, (i, o) in enumerate(sizes)
        ]
        self.stages, self.head = nn.Sequential(*stages), nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(F.relu(self.stem(x))).mean((2, 3)))


class Depthwise(nn.Module):
    """Depthwise convolutions between pointwise ones, as in MobileNets."""

    def __init__(self, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, widths[0]), nn.Hardswish()]
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            for stride in (1 + (stage > 0), 1):
                inner = 4 * inputs
                layers += [_convolution(inputs, inner, 1), nn.Hardswish()]
                layers += [_convolution(inner, inner, 3, stride, inner), nn.Hardswish()]
                layers += [_convolution(inner, outputs, 1)]
                inputs = outputs
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((2, 3)))


class UNet(nn.Module):
    """Two scales down and up again, with concatenations."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def twice(inputs: int, outputs: int) -> nn.Sequential:
            first, second = _convolution(inputs, outputs), _convolution(outputs, outputs)
            return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

        self.first, self.second, self.bottom = (
            twice(1, width),
            twice(width, 2 * width),
            twice(2 * width, 4 * width),
        )
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up_first = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join_second, self.join_first = twice(4 * width, 2 * width), twice(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        second = self.join_second(torch.cat([self.up_second(bottom), second], 1))
        return self.head(self.join_first(torch.cat([self.up_first(second), first], 1)))


class Attention(nn.Module):
    """Heads of scaled dot products."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        parts = (layer(x) for layer in (self.query, self.key, self.value))
        q, k, v = (part.view(batch, tokens, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class Layer(nn.Module):
    """Attention and two linear layers, with norms before (GPT) or after them (BERT)."""

    def __init__(self, width: int, heads: int, gpt: bool) -> None:
        super().__init__()
        self.gpt, self.attention = gpt, Attention(width, heads, gpt)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.gpt:
            x = x + self.attention(self.norm1(x))
            return x + self.narrow(F.gelu(self.wide(self.norm2(x))))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.narrow(F.gelu(self.wide(x))))


class Transformer(nn.Module):
    """Four layers over tokens: as a BERT with a class, as a GPT with logits."""

    def __init__(self, gpt: bool, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.gpt, self.tokens = gpt, nn.Embedding(VOCABULARY, width)
        self.places = nn.Parameter(torch.randn(TOKENS, width) * 0.1)
        self.layers = nn.ModuleList(Layer(width, heads, gpt) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY if gpt else 10)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.head(x if self.gpt else x[:, 0])


def _images(channels: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randn(batch, channels, _PIXELS, _PIXELS)


def _sentences(batch: int) -> Tensor:
    return torch.randint(0, VOCABULARY, (batch, TOKENS))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "residual": (Residual, _images(3)),
    "depthwise": (Depthwise, _images(3)),
    "unet": (UNet, _images(1)),
    "bert": (lambda: Transformer(gpt=False), _sentences),
    "gpt": (lambda: Transformer(gpt=True), _sentences),
}
"""Name -> the network, and inputs of a batch."""
