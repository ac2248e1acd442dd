"""Blocks for random architectures: each takes a map ``(batch, channels, 8, 8)`` and gives one. Sizes come
from shapes.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attributes:
    width: channels that come out.
    """

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.width = channels


class Conv(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(draw.choice([4, 6, 8, 12]), draw)
        self.conv = nn.Conv2d(
            channels, self.width, draw.choice([1, 3]), padding="same", bias=draw.random() < 0.5
        )
        self.norm = draw.choice([nn.BatchNorm2d, nn.InstanceNorm2d])(self.width, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Residual(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        hidden = draw.choice([4, 6, 10])
        self.a, self.b = nn.Conv2d(channels, hidden, 3, padding=1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.silu(self.a(x)))


class Depthwise(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels * draw.choice([1, 2]), draw)
        self.conv = nn.Conv2d(channels, self.width, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x))


class Grouped(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(draw.choice([4, 8, 12]), draw)
        self.conv = nn.Conv2d(channels, self.width, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Gate(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        self.squeeze, self.excite = nn.Linear(channels, 3), nn.Linear(3, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))[:, :, None, None]


class Dense(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels + 4, draw)
        self.conv, self.first = nn.Conv2d(channels, 4, 3, padding=1), draw.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x), x] if self.first else [x, self.conv(x)], 1)


class Halves(Block):
    """One half gates the other, or is worked on; they come back in another order."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        self.conv, self.order = nn.Conv2d(channels // 2, channels // 2, 1), draw.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([self.conv(b), a] if self.order else [a * torch.sigmoid(b), b], 1)


class Shuffle(Block):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Groups(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        self.norm = nn.GroupNorm(draw.choice([1, 2, channels]), channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Last(Block):
    """Channels last: layer norm, two linear layers, layer scale."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        self.norm, self.a, self.b = (
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.Linear(2 * channels, channels),
        )
        self.scale = nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.scale * self.b(F.gelu(self.a(self.norm(x.permute(0, 2, 3, 1)))))).permute(0, 3, 1, 2)


class Tokens(Block):
    """An attention over positions, heads without numbers in the code; then a mixer over the positions."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        self.q, self.k, self.v = (nn.Linear(channels, 6) for _ in range(3))
        self.out, self.mix, self.unmix = nn.Linear(6, channels), nn.Linear(64, 5), nn.Linear(5, 64)

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(2).transpose(1, 2)
        q, k, v = (layer(y).unflatten(-1, (-1, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = self.out(F.scaled_dot_product_attention(q, k, v, scale=0.5).transpose(1, 2).flatten(2)).transpose(
            1, 2
        )
        return x + self.unmix(F.relu(self.mix(y))).reshape(x.shape)


class Pyramid(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        self.down, self.up = nn.Conv2d(channels, 6, 2, 2), nn.ConvTranspose2d(6, channels, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.up(F.avg_pool2d(F.interpolate(self.down(x), scale_factor=2.0), 2)))


class Pixels(Block):
    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(6, draw)
        self.expand = nn.Conv2d(channels, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pixel_shuffle(self.expand(x), 2), 2)


class Unknown(Block):
    """What no rule lets pass: an order along channels, a mean over them, one of them by its number."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__(channels, draw)
        self.kind = draw.randrange(4)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == 0:
            return torch.cumsum(x, 1) * 0.3
        if self.kind == 1:
            return x - x.mean(1, keepdim=True)
        if self.kind == 2:
            return x * torch.sigmoid(x[:, 1:2])
        return torch.linalg.svdvals(x)[:, :, None] + x


BLOCKS: tuple[type[Block], ...] = (
    Conv,
    Residual,
    Depthwise,
    Grouped,
    Gate,
    Dense,
    Halves,
    Shuffle,
    Groups,
    Last,
    Tokens,
    Pyramid,
    Pixels,
    Unknown,
)


class Random(nn.Module):
    """A model drawn from a seed: up to `most` blocks, a long skip, one or two outputs."""

    def __init__(self, seed: int, most: int = 5) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        blocks, width = [], 8
        for kind in draw.choices(BLOCKS, k=draw.randint(1, most)):
            block = kind(width, draw)
            blocks.append(block)
            width = block.width
        self.blocks = nn.ModuleList(blocks)
        self.skip = draw.random() < 0.4
        self.last = nn.Conv2d(width + 8 * self.skip, 10, 1)
        self.flat = draw.random() < 0.5
        self.head = nn.Linear(10 * 16 if self.flat else 10, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = y = F.relu(self.stem(x))
        for block in self.blocks:
            y = block(y)
        y = F.relu(self.last(torch.cat([y, first], 1) if self.skip else y))
        return self.head(F.max_pool2d(y, 2).flatten(1) if self.flat else y.amax((2, 3)))
