"""Models made of torch's own layers for sequences, and of graphs, tables and kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.sequences import Mlp


class TorchAttention(nn.Module):
    """nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.attn, self.norm = nn.MultiheadAttention(16, 4, batch_first=True), nn.LayerNorm(16)
        self.mlp, self.head = Mlp(16, 24), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.norm(x + self.attn(x, x, x, need_weights=False)[0])
        return self.head((x + self.mlp(x)).mean(1))


class TorchEncoder(nn.Module):
    """nn.TransformerEncoderLayer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 2, enable_nested_tensor=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class TorchDecoder(nn.Module):
    """nn.TransformerDecoderLayer: causal attention to itself, attention to another sequence of another width,
    and what it looks at.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        self.decoder = nn.TransformerDecoderLayer(12, 3, 20)
        self.memory = nn.Linear(6, 12)
        self.look = nn.MultiheadAttention(12, 2, kdim=6, vdim=5)
        self.register_buffer("mask", torch.ones(4, 4, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        y, other = self.embed(x).transpose(0, 1), other.transpose(0, 1)
        y = self.decoder(y, self.memory(other), tgt_mask=self.mask, tgt_is_causal=True)
        z, weights = self.look(y, other, other[..., :5])
        return self.head(y + z).transpose(0, 1), weights


class Recurrent(nn.Module):
    """LSTM of two layers and directions, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.lstm = nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.gru, self.head = nn.GRU(12, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.embed(x))
        y, last = self.gru(y)
        return self.head(last[-1]) + self.head(y[:, -1])


class MessagePassing(nn.Module):
    """A graph network: messages along edges, summed where they arrive by scatter_add and index_add."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.message, self.update = nn.Linear(24, 10), nn.Linear(22, 12)
        self.second, self.head = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = F.relu(self.embed(x))
        source, target = edges[:, 0], edges[:, 1]
        messages = F.relu(self.message(torch.cat([x[source], x.index_select(0, target)], -1)))
        total = torch.zeros(x.shape[0], messages.shape[1]).scatter_add_(
            0, target[:, None].expand(-1, messages.shape[1]), messages
        )
        x = x + self.update(torch.cat([x, total], -1))
        y = F.relu(self.second(x))
        return self.head(torch.zeros_like(y).index_add_(0, target, y[source]))


class LinearAttention(nn.Module):
    """Attention without a softmax over tokens, written with einsum; a softmax over features instead."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)
        self.q, self.k, self.v, self.out = (
            nn.Linear(12, 8),
            nn.Linear(12, 8),
            nn.Linear(12, 10),
            nn.Linear(10, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.embed(x))
        q, k = self.q(x).softmax(-1), self.k(x).softmax(1)
        context = torch.einsum("bnd,bne->bde", k, self.v(x))
        return self.out(torch.einsum("bnd,bde->bne", q, context)).mean(1)


class Conditioned(nn.Module):
    """A recommender: embeddings joined with features, a gate by GLU, maximum of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.users = nn.Embedding(10, 6), nn.Embedding(12, 8)
        self.hidden, self.a, self.b = nn.Linear(14, 16), nn.Linear(8, 10), nn.Linear(8, 10)
        self.head = nn.Linear(10, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.glu(self.hidden(torch.cat([self.items(ids[:, 0]), self.users(ids[:, 1])], -1)))
        return self.head(torch.maximum(self.a(x), self.b(x).clamp(min=-1)))
