"""The three published ways to prune, on one autoencoder of the paper's, and the schedules that say when.

Written from the published code, apart from the product's, so that each can be held against the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.coevolution.nets import SIZES, Layers, outputs

AMOUNT, CASES, THRESHOLD = 0.1, 100, 0.1

Schedule = Callable[[float, int, int, int], float]
"""``schedule(p, epoch, last, solutions)``: the probability of an event."""


def exponential(p: float, epoch: int, last: int, solutions: int) -> float:
    """p (1 - exp(-2 t / T)) [P]."""
    return p * (1 - math.exp(-2 * epoch / last))


def population(p: float, epoch: int, last: int, solutions: int) -> float:
    """p t / (T n), n the solutions of a neighbourhood [P]."""
    return p * epoch / (last * solutions)


def final_quarter(p: float, epoch: int, last: int, solutions: int) -> float:
    """p in the last quarter, nothing before [P, final_n]."""
    return p if epoch >= last - 0.25 * last else 0.0


Event = Callable[[Tensor, Tensor, Tensor, np.random.Generator], None]
"""``event(net, train, test, rng)`` zeroes entries of a ``(1, PARAMETERS)`` net in place; examples are
``(n, 1000)``.
"""


def random(net: Tensor, train: Tensor, test: Tensor, rng: np.random.Generator) -> None:
    """Zero a tenth of the entries of every tensor, drawn among all of them, the dead ones included [P]."""
    for tensor in Layers(net).tensors():
        dropped = rng.permutation(tensor.numel())[: round(AMOUNT * tensor.numel())]
        tensor.view(-1)[torch.from_numpy(dropped)] = 0.0


def variance(net: Tensor, train: Tensor, test: Tensor, rng: np.random.Generator) -> None:
    """Keep an entry with the probability minmax(1 - s), s the deviation of its unit's output [P]: the
    livelier, the likelier to go.

    Hidden units count after their ReLU, which the published code applies in place to what its hooks recorded,
    outputs before their sigmoid. It sums deviations over five places in a batch, recorded over an epoch of
    training; here one pass over the same data after it: minmax takes out the factor, what remains is how much
    the net moved during that epoch.
    """
    layers = Layers(net)
    for weight, bias, out in zip(layers.weights, layers.biases, outputs(net, train), strict=True):
        score = 1 - out[0].std(0, correction=0).double().numpy()
        span = np.ptp(score)
        keep = (score - score.min()) / span if span > 0 else score
        for tensor in (weight[0], bias[0]):
            tensor.mul_(torch.from_numpy(rng.random(tuple(tensor.shape)) < keep))


def revive(net: Tensor, train: Tensor, test: Tensor, rng: np.random.Generator) -> None:
    """Draw the weights of hidden and latent units anew that are silent on all training examples; prune
    nothing [O].

    What RANDOM does to dead units, as its zeros grow back, without what it does to the others.
    """
    layers = Layers(net)
    for i in range(3):
        silent = (outputs(net, train)[i][0] <= 0).all(0)
        for tensor in (layers.weights[i][0], layers.biases[i][0]):
            drawn = torch.from_numpy(rng.uniform(-1, 1, tuple(tensor.shape))).float() * SIZES[i] ** -0.5
            tensor[..., silent] = drawn[..., silent]


def conjunctive(net: Tensor, train: Tensor, test: Tensor, rng: np.random.Generator) -> None:
    """Zero the units which are among the least active of their layer in example after example [P].

    A unit is a candidate in an example where its output, scaled to 0..1 over the layer, is below .1.
    Candidates are intersected over a hundred test examples drawn with replacement, until one or none is left;
    none is what it may come to, as in the published code.
    """
    layers = Layers(net)
    cases = test[torch.from_numpy(rng.integers(0, len(test), CASES))]
    for weight, bias, out in zip(layers.weights, layers.biases, outputs(net, cases), strict=True):
        low, high = out[0].amin(1, keepdim=True), out[0].amax(1, keepdim=True)
        candidates = ((out[0] - low) / (high - low)) < THRESHOLD
        chosen = candidates[0]
        for others in candidates[1:]:
            if int(chosen.sum()) <= 1:
                break
            chosen = chosen & others
        weight[0][:, chosen] = 0.0
        bias[0][chosen] = 0.0
