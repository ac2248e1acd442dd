"""A GRU that trains four times as fast on a CPU: torch's takes dozens of small kernels a step there, forward
and backward.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuickGRU(nn.GRU):
    """torch's, one layer and one direction, first states zeros; training takes its own steps, in float32 on a
    CPU, the rest torch's.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def forward(self, x: Tensor, state: Tensor | None = None) -> Any:  # type: ignore[override]
        if not self.training or state is not None:
            return super().forward(x, state)
        gates = F.linear(x.transpose(0, 1), self.weight_ih_l0, self.bias_ih_l0)
        states = _Steps.apply(gates, self.weight_hh_l0, self.bias_hh_l0)
        return states.transpose(0, 1), states[-1:]


class _Steps(torch.autograd.Function):
    """What the inputs say to the gates, ``(length, batch, 3 * units)``: reset, keep, new; to states
    ``(length, batch, units)``.

    numpy, since a call of it takes a third of the time of one of torch's on arrays as small as these.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        length, batch, wide = inputs.shape
        units, (said, turned, offset) = (
            wide // 3,
            (inputs.numpy(), np.ascontiguousarray(weight.numpy().T), bias.numpy()),
        )
        hidden, gates = np.empty_like(said), np.empty((length, batch, 2 * units), np.float32)
        states, news = (
            np.zeros((length + 1, batch, units), np.float32),
            np.empty((length, batch, units), np.float32),
        )
        for i, h, s, n, before, after in zip(said, hidden, gates, news, states, states[1:], strict=False):
            np.dot(before, turned, out=h)
            h += offset
            np.add(i[:, : 2 * units], h[:, : 2 * units], out=s)
            s *= 0.5  # the logistic function, by the hyperbolic tangent
            np.tanh(s, out=s)
            s *= 0.5
            s += 0.5
            np.multiply(s[:, :units], h[:, 2 * units :], out=n)
            n += i[:, 2 * units :]
            np.tanh(n, out=n)
            np.subtract(before, n, out=after)
            after *= s[:, units:]
            after += n
        ctx.save_for_backward(weight, *map(torch.from_numpy, (hidden, gates, news, states)))
        return torch.from_numpy(states)[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, hidden, gates, news, states = ctx.saved_tensors
        length, batch, units = news.shape
        reset, keep = gates.chunk(2, -1)
        to_new = (1 - keep) * (1 - news.square())
        to_reset = to_new * hidden[..., 2 * units :] * reset * (1 - reset)
        to_keep = (states[:-1] - news) * keep * (1 - keep)
        slopes = torch.stack([to_reset, to_keep, to_new * reset], 2)
        totals, each = torch.empty_like(news), torch.empty_like(slopes)
        back = each.view(length, batch, 3 * units)
        state, matrix = np.zeros((batch, units), np.float32), weight.numpy()
        late = (t.numpy()[::-1] for t in (grad.contiguous(), totals, slopes, each, back, keep))
        for g, total, slope, parts, b, k in zip(*late, strict=True):
            np.add(g, state, out=total)
            np.multiply(slope, total[:, None], out=parts)
            np.dot(b, matrix, out=state)
            state += total * k
        to_inputs = torch.cat([back[..., : 2 * units], totals * to_new], -1)
        to_weight = back.reshape(-1, 3 * units).t() @ states[:-1].reshape(-1, units)
        return to_inputs, to_weight, back.sum((0, 1))
