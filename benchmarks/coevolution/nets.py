"""Several of the paper's autoencoders side by side: one ``bmm`` trains them all, the backward pass is written
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

SIZES = (1000, 30, 10, 30, 1000)
"""Inputs, hidden, latent, hidden, outputs [P]: ReLU after every layer, a sigmoid after the last one."""
PARAMETERS = sum(n * m + m for n, m in pairwise(SIZES))
EPSILON = 1e-8


class Layers:
    """Weights ``(nets, inputs, outputs)`` and biases ``(nets, outputs)`` of every layer: views of one
    ``(nets, PARAMETERS)`` tensor.
    """

    def __init__(self, flat: Tensor) -> None:
        self.flat = flat
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        start = 0
        for n, m in pairwise(SIZES):
            self.weights.append(flat[:, start : start + n * m].view(len(flat), n, m))
            self.biases.append(flat[:, start + n * m : start + n * m + m])
            start += n * m + m

    def tensors(self) -> list[Tensor]:
        """All weights and biases."""
        return [t for pair in zip(self.weights, self.biases, strict=True) for t in pair]


def initial(nets: int, generator: torch.Generator) -> Tensor:
    """Draw parameters ``(nets, PARAMETERS)`` as ``nn.Linear`` does: uniform within one over the root of the
    inputs.
    """
    layers = Layers(torch.empty(nets, PARAMETERS))
    for n, weight, bias in zip(SIZES, layers.weights, layers.biases, strict=False):
        for tensor in (weight, bias):
            tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * n**-0.5)
    return layers.flat


def outputs(flat: Tensor, inputs: Tensor) -> list[Tensor]:
    """Return what every layer puts out, ``(nets, examples, units)`` each, the last one before its sigmoid.

    Args:
        inputs: ``(nets, examples, 1000)`` or, for all nets the same, ``(examples, 1000)``.
    """
    layers, x, found = Layers(flat), inputs, []
    for i, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        x = x @ weight + bias[:, None]
        x = x.relu() if i < len(SIZES) - 2 else x
        found.append(x)
    return found


def l1(flat: Tensor, inputs: Tensor) -> Tensor:
    """Mean absolute error of every net, ``(nets,)``, on inputs as ``outputs`` takes them."""
    return (outputs(flat, inputs)[-1].sigmoid() - inputs).abs().mean((1, 2))


def alive(flat: Tensor, inputs: Tensor) -> Tensor:
    """Number of units with an output other than zero on any of the inputs, ``(nets, 3)``: hidden, latent,
    hidden.
    """
    return torch.stack([(out > 0).any(1).sum(1) for out in outputs(flat, inputs)[:3]], 1).float()


class Trainer:
    """Gradient steps on the L1 loss for ``nets`` nets at once, each on ``batch`` rows of zeros and ones of
    its own.

    All buffers are made once: with tensors of this size making them takes longer than filling them.
    """

    def __init__(self, flat: Tensor, batch: int = 5) -> None:
        nets, self.flat = len(flat), flat
        self.layers, self.gradient = Layers(flat), Layers(torch.empty_like(flat))
        self._x = torch.empty(nets * batch, SIZES[0])
        self._outputs = [torch.empty(nets, batch, n) for n in SIZES[1:]]
        self._errors = [torch.empty(nets, batch, n) for n in SIZES[1:]]
        self._scale = 1 / (batch * SIZES[-1])
        self._denominator = torch.empty(flat.shape[1])

    def backward(self, data: Tensor, rows: Tensor) -> None:
        """Write the gradients of the mean absolute error on these rows into ``gradient``.

        For targets of zeros and ones the sign of the error is 1 - 2 target, whatever is put out [O].
        """
        torch.index_select(data, 0, rows, out=self._x)
        x = self._x.view(len(self.flat), -1, SIZES[0])
        out, err, w, b = self._outputs, self._errors, self.layers.weights, self.layers.biases
        h = x
        for i in range(4):
            torch.baddbmm(b[i][:, None], h, w[i], out=out[i])
            h = out[i].relu_() if i < 3 else out[i].sigmoid_()
        torch.addcmul(h, h, h, value=-1, out=err[3])
        err[3].mul_(torch.add(self._scale, x, alpha=-2 * self._scale))
        for i in (3, 2, 1):
            torch.bmm(err[i], w[i].mT, out=err[i - 1])
            err[i - 1].mul_(out[i - 1] > 0)
        for i in range(4):
            torch.bmm((x if i == 0 else out[i - 1]).mT, err[i], out=self.gradient.weights[i])
            torch.sum(err[i], 1, out=self.gradient.biases[i])

    def fresh(self, rates: Sequence[float]) -> None:
        """Take the step of an Adam made anew [P]: g / (|g| + epsilon) times the net's own rate; betas fall
        out of a first step.
        """
        d = self._denominator
        for p, g, rate in zip(self.flat, self.gradient.flat, rates, strict=True):
            torch.abs(g, out=d)
            p.addcdiv_(g, d.add_(EPSILON), value=-rate)
