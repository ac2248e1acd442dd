"""Transformers, recurrent layers, mixers and graph networks of a few thousand parameters. Written as people
write them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FusedAttention(nn.Module):
    """timm's: one layer for queries, keys and values."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class ViTBlock(nn.Module):
    def __init__(self, dim: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = (
            nn.LayerNorm(dim),
            attention,
            nn.LayerNorm(dim),
            Mlp(dim, 2 * dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Fused qkv, class token, position embedding, embedding width over the residual stream."""

    def __init__(
        self, dim: int = 16, heads: int = 4, depth: int = 2, channels: int = 3, classes: int = 4
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, dim, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, dim) * 0.2)
        self.blocks = nn.ModuleList(ViTBlock(dim, FusedAttention(dim, heads)) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class SeparateAttention(nn.Module):
    """Three layers, and the inner width apart from the outer."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1 / math.sqrt(head_dim)
        self.q, self.k, self.v = (nn.Linear(dim, heads * head_dim) for _ in range(3))
        self.out = nn.Linear(heads * head_dim, dim)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(
            self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x)), scale=self.scale
        )
        return self.out(y.transpose(1, 2).flatten(2))


class SeparateViT(ViT):
    """Separate q, k and v, mean over the tokens."""

    def __init__(self) -> None:
        super().__init__(depth=0)
        del self.cls_token, self.pos_embed
        self.blocks = nn.ModuleList(ViTBlock(16, SeparateAttention(16, 3, 4)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class CausalAttention(nn.Module):
    """nanoGPT's: fused, split by the width, heads by division of the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.n_head, self.n_embd = heads, width
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class GPT(nn.Module):
    """Causal attention, learned positions, embedding and head tied."""

    def __init__(
        self,
        width: int = 16,
        heads: int = 4,
        depth: int = 2,
        attention: type[nn.Module] = CausalAttention,
        vocabulary: int = 20,
        block: int = 8,
    ) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.blocks = nn.ModuleList(ViTBlock(width, attention(width, heads)) for _ in range(depth))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class HeadwiseAttention(nn.Module):
    """As CausalAttention, with the head dimension kept apart from the width and its scale in the module."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.n_head, self.head_dim, self.inner = heads, width // heads, width
        self.scale = self.head_dim**-0.5
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (
            y.view(batch, tokens, self.n_head, self.head_dim).transpose(1, 2)
            for y in self.c_attn(x).split(self.inner, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self.c_proj(y.transpose(1, 2).reshape(batch, tokens, self.inner))


class HeadwiseGPT(GPT):
    def __init__(self) -> None:
        super().__init__(attention=HeadwiseAttention)


def rotate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


class GroupedAttention(nn.Module):
    """Llama's: fewer heads of keys and values than of queries, rotary positions."""

    def __init__(self, dim: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim, self.n_rep = (
            heads,
            kv_heads,
            head_dim,
            heads // kv_heads,
        )
        self.wq, self.wo = (
            nn.Linear(dim, heads * head_dim, bias=False),
            nn.Linear(heads * head_dim, dim, bias=False),
        )
        self.wk, self.wv = (nn.Linear(dim, kv_heads * head_dim, bias=False) for _ in range(2))
        angles = torch.outer(torch.arange(6.0), 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim))
        self.register_buffer("cos", torch.cat([angles, angles], 1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], 1).sin())

    def repeat(self, x: Tensor) -> Tensor:
        if self.n_rep == 1:
            return x
        batch, heads, tokens, width = x.shape
        return (
            x[:, :, None]
            .expand(batch, heads, self.n_rep, tokens, width)
            .reshape(batch, heads * self.n_rep, tokens, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q = self.wq(x).view(batch, tokens, self.n_heads, self.head_dim).transpose(1, 2)
        k = self.wk(x).view(batch, tokens, self.n_kv_heads, self.head_dim).transpose(1, 2)
        v = self.wv(x).view(batch, tokens, self.n_kv_heads, self.head_dim).transpose(1, 2)
        q, k = q * self.cos + rotate(q) * self.sin, k * self.cos + rotate(k) * self.sin
        y = F.scaled_dot_product_attention(q, self.repeat(k), self.repeat(v), is_causal=True)
        return self.wo(y.transpose(1, 2).reshape(batch, tokens, -1))


class SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (
            nn.Linear(dim, hidden, bias=False),
            nn.Linear(hidden, dim, bias=False),
            nn.Linear(dim, hidden, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class LlamaBlock(nn.Module):
    def __init__(self, dim: int, kv_heads: int) -> None:
        super().__init__()
        self.attention, self.feed_forward = GroupedAttention(dim, 4, kv_heads, 4), SwiGLU(dim, 24)
        self.attention_norm, self.ffn_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Llama(nn.Module):
    """Grouped-query attention, rotary embedding, SwiGLU, RMSNorm."""

    kv_heads = 2

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(20, 16)
        self.layers = nn.ModuleList(LlamaBlock(16, self.kv_heads) for _ in range(2))
        self.norm, self.output = nn.RMSNorm(16), nn.Linear(16, 20, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


class MultiQuery(Llama):
    """All queries share one head of keys and values."""

    kv_heads = 1


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.norm1, self.token_mix = nn.LayerNorm(dim), Mlp(tokens, 12)
        self.norm2, self.channel_mix = nn.LayerNorm(dim), Mlp(dim, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channel_mix(self.norm2(x))


class Mixer(nn.Module):
    """MLPs over tokens and over channels in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks = (
            nn.Conv2d(3, 16, 2, 2),
            nn.Sequential(MixerBlock(16, 16), MixerBlock(16, 16)),
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.patch(x).flatten(2).transpose(1, 2))).mean(1))
