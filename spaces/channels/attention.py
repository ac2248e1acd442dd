"""``nn.MultiheadAttention`` in operations that follow a width: torch's own takes the inner width for that of
its inputs. [O]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKED = "_qkv_same_embed_dim"
"""Where this is true, torch's transformer layers go past ``forward``."""


class Attention(nn.MultiheadAttention):
    """Computes what ``nn.MultiheadAttention`` does, of the same parameters, whose heads, head dimensions and
    inputs may be fewer.

    ``head_dim`` stays that of the full model: the scale of the scores is made of it. Never constructed: a
    module changes its class.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return as ``nn.MultiheadAttention.forward`` does, arguments and shapes are the same."""
        # from here on there is a batch, of one sample where none was given, and it is the first axis
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._projected(query, key, value)
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout, scale = self.dropout if self.training else 0.0, self.head_dim**-0.5
        if need_weights:  # which the fused operation does not give
            scores = q @ k.transpose(-2, -1) * scale
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            heads = weights @ v
        else:
            causal = is_causal and key_padding_mask is None
            heads = F.scaled_dot_product_attention(
                q, k, v, None if causal else mask, dropout, causal, scale=scale
            )
        output = self.out_proj(heads.transpose(1, 2).flatten(2))
        output = output.squeeze(0) if not batched else output if self.batch_first else output.transpose(0, 1)
        if not need_weights:
            return output, None
        weights = weights.mean(1) if average_attn_weights else weights
        return output, weights if batched else weights.squeeze(0)

    def _projected(self, *inputs: Tensor) -> list[Tensor]:
        """Return queries, keys and values of every head: (N, heads, length, dimensions)."""
        packed = self.in_proj_weight
        matrices = (
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            if packed is None
            else packed.chunk(3)
        )
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        projected = (
            F.linear(x, weight, bias) for x, weight, bias in zip(inputs, matrices, biases, strict=True)
        )
        return [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected]

    def _mask(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, like: Tensor) -> Tensor | None:
        """Return what is added to the scores of every head, of the type of `like`; None: nothing."""
        mask = None if attn_mask is None else self._per_head(_additive(attn_mask, like))
        if key_padding_mask is None:
            return mask
        padding = _additive(key_padding_mask, like)[:, None, None]
        return padding if mask is None else mask + padding

    def _per_head(self, mask: Tensor) -> Tensor:
        """A mask is for all, ``(L, S)``, or for every sample and head, ``(N * heads, L, S)``."""
        return mask if mask.dim() == 2 else mask.unflatten(0, (-1, self.num_heads))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    return (
        torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
        if mask.dtype == torch.bool
        else mask
    )


def plain_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that stands in for a module's, mostly its own. What adds keys of its own stays
    torch's.
    """
    plain = type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn
    return Attention if plain else type(module)


@contextmanager
def plain(model: nn.Module) -> Iterator[None]:
    """Have stand-ins compute for modules of the user's model, and put their own classes back afterwards."""
    before = [
        (module, module.__dict__.get(PACKED))
        for module in model.modules()
        if plain_class(module) is not type(module)
    ]
    for module, _ in before:
        module.__class__ = Attention
        module.__dict__[PACKED] = False
    try:
        yield
    finally:
        for module, packed in before:
            module.__class__ = nn.MultiheadAttention
            module.__dict__[PACKED] = packed
