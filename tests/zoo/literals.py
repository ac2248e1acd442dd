"""Models whose code holds numbers that no attribute holds. Written as people write them, and as they should
not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.sequences import Mlp, ViTBlock


class NumberedAttention(nn.Module):
    """Every size is a number; the scale is computed of the head dimension; dropout where there is
    training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, 4, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        scores = F.dropout(scores.softmax(-1), 0.1, self.training)
        return self.proj((scores @ v).transpose(1, 2).reshape(B, T, 16))


class NumberedViT(nn.Module):
    """A transformer in which nothing is computed from a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.blocks = nn.ModuleList(ViTBlock(16, NumberedAttention()) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).reshape(-1, 16, 4).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).reshape(-1, 64))


class Branches(nn.Module):
    """Splits into parts by numbers, a reshape into pairs, batch normalisation and dropout between; an
    optional gate is not given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.drop = (
            nn.Conv2d(3, 20, 3, padding=1),
            nn.BatchNorm2d(20),
            nn.Dropout2d(0.2),
        )
        self.a, self.b, self.pair = nn.Conv2d(8, 6, 1), nn.Conv2d(12, 6, 3, padding=1), nn.Conv2d(3, 5, 1)
        self.head = nn.Linear(160, 4)

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        one, two = self.drop(F.relu(self.norm(self.stem(x)))).split([8, 12], 1)
        y = self.a(one) + self.b(two)
        if gate is not None:
            y = y * gate
        y = y.view(-1, 2, 3, 8, 8).amax(1)
        return self.head(F.max_pool2d(self.pair(y), 2).repeat(1, 2, 1, 1).view(x.shape[0], 160))


class CrossAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.h = heads
        self.to_q, self.to_kv, self.to_out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        context = x if context is None else context
        b, n, d = x.shape
        q, (k, v) = self.to_q(x), self.to_kv(context).chunk(2, -1)
        q, k, v = (t.reshape(b, -1, self.h, d // self.h).transpose(1, 2) for t in (q, k, v))
        scores = torch.matmul(q, k.transpose(-1, -2)) * (d // self.h) ** -0.5
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None] < 0, -1e4)
        if causal:
            scores = scores + torch.full_like(scores, -1e4).triu(1)
        return self.to_out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d))


class Decoder(nn.Module):
    """Attention to itself and to something else: one class, called with other arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.other = nn.Linear(6, 16), nn.Linear(5, 16)
        self.own, self.cross, self.mlp = CrossAttention(16, 4), CrossAttention(16, 2), Mlp(16, 20)
        self.norms, self.head = nn.ModuleList(nn.LayerNorm(16) for _ in range(3)), nn.Linear(16, 3)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x, other = self.embed(x), self.other(context)
        x = x + self.own(self.norms[0](x), causal=True)
        x = x + self.cross(self.norms[1](x), other, mask=context[:, :, 0] + 2)
        return self.head(x + self.mlp(self.norms[2](x)))
