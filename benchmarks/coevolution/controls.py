"""Controls on digits at equal MACs of gradient steps, in plain torch: iterative pruning of units, restarts of
it, nets from scratch.

``python -m benchmarks.coevolution.controls [--seeds 5] [--tune]`` records shards, one an arm, task and seed;
what is there stays.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.coevolution.arms import (
    BUDGET,
    LATENT,
    TASKS,
    WIDTHS,
    Arm,
    Point,
    Spent,
    Task,
    hypervolume,
    macs,
    measured,
)
from benchmarks.coevolution.faithful import FOLDER, write

Criterion = Literal["magnitude", "activation"]
Share = Literal["macs", "epochs"]
"""Whether nets of several sizes get equal MACs, so that small ones are trained for more epochs, or equal
epochs.
"""


def parts(sizes: Sequence[Sequence[int]], share: Share) -> list[float]:
    """Parts of a budget for nets of these widths."""
    weights = np.array([macs(widths) if share == "epochs" else 1 for widths in sizes], dtype=float)
    return list(weights / weights.sum())


class Net(nn.Module):
    """The pair's layers in a row, of any widths: ReLU after every layer but the latent and the last."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(n, m) for n, m in itertools.pairwise(widths)])

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs, units of every group, outputs."""
        layers: list[nn.Linear] = list(self.layers)  # type: ignore[arg-type]
        return (layers[0].in_features, *(layer.out_features for layer in layers))

    def groups(self, x: Tensor) -> list[Tensor]:
        """What every layer hands on, ``(samples, units)`` each."""
        found = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            x = x if i + 1 in (LATENT, len(self.layers)) else x.relu()
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.groups(x)[-1]


class Stepper:
    """Gradient steps on the squared error with the backward pass written out: for nets of this size autograd
    takes most of the time.

    The net's parameters become views of one flat tensor, which Adam sees as one parameter.
    """

    def __init__(self, net: Net, batch: int) -> None:
        self._layers: list[nn.Linear] = list(net.layers)  # type: ignore[arg-type]
        tensors = [t for layer in self._layers for t in (layer.weight, layer.bias)]
        self.flat = torch.cat([t.detach().flatten() for t in tensors])
        self.flat.grad = torch.empty_like(self.flat)
        grads = []
        for tensor, values, grad in zip(
            tensors,
            *(f.split([t.numel() for t in tensors]) for f in (self.flat, self.flat.grad)),
            strict=True,
        ):
            tensor.data = values.view(tensor.shape)
            grads.append(grad.view(tensor.shape))
        self._weights, self._biases = [t.data for t in tensors[::2]], [t.data for t in tensors[1::2]]
        self._weight_grads, self._bias_grads = grads[::2], grads[1::2]
        self._out = [torch.empty(batch, n) for n in net.widths[1:]]
        self._err = [torch.empty(batch, n) for n in net.widths[1:]]

    def backward(self, inputs: Tensor, targets: Tensor) -> None:
        """Write the gradient of the mean squared error into ``flat.grad``."""
        out, err, last = self._out, self._err, len(self._layers) - 1
        x = inputs
        for i, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            torch.addmm(bias, x, weight.T, out=out[i])
            x = out[i] if i + 1 in (LATENT, last + 1) else out[i].relu_()
        torch.sub(x, targets, out=err[last]).mul_(2 / targets.numel())
        for i in range(last, -1, -1):
            if i + 1 not in (LATENT, last + 1):
                err[i].masked_fill_(out[i] <= 0, 0.0)
            torch.mm(err[i].T, out[i - 1] if i else inputs, out=self._weight_grads[i])
            torch.sum(err[i], 0, out=self._bias_grads[i])
            if i:
                torch.mm(err[i], self._weights[i], out=err[i - 1])


def train(
    net: Net,
    task: Task,
    seed: int,
    spent: Spent,
    budget: float,
    rate: float,
    batch: int,
    generator: torch.Generator,
) -> None:
    """Train with Adam for as many steps as the MACs hold; the learning rate rises over a fifth of them and
    falls by a cosine to zero.
    """
    inputs, targets = task.tensors(seed)["train"]
    steps, widths = int(budget // (3 * macs(net.widths) * batch)), net.widths
    stepper = Stepper(net, batch)
    optimiser = torch.optim.Adam([stepper.flat], rate, fused=True)
    rows = len(inputs) // batch * batch
    for step in range(steps):
        place = step * batch % rows
        if not place:
            order = torch.randperm(len(inputs), generator=generator)[:rows]
            x, y = inputs[order], targets[order]
        part = slice(place, place + batch)
        done = (step + 1) / steps
        optimiser.param_groups[0]["lr"] = rate * (
            done / 0.2 if done < 0.2 else (1 + math.cos(math.pi * (done - 0.2) / 0.8)) / 2
        )
        stepper.backward(x[part], y[part])
        optimiser.step()
        spent.step(widths, batch)


def importance(net: Net, inputs: Tensor, criterion: Criterion) -> list[Tensor]:
    """Score every prunable unit, by group, over the group's mean: norm of its weights in, or deviation of its
    output, times norm out.
    """
    layers: list[nn.Linear] = list(net.layers)  # type: ignore[arg-type]
    with torch.no_grad():
        said = net.groups(inputs)
        scores = []
        for i in range(len(layers) - 1):
            enters = layers[i].weight.norm(dim=1) if criterion == "magnitude" else said[i].std(0)
            score = enters * layers[i + 1].weight.norm(dim=0)
            scores.append(score / score.mean().clamp(min=1e-12))
    return scores


def shrunk(net: Net, keep: Sequence[Tensor], inputs: Tensor) -> Net:
    """Return a net of the units kept, what the others put out on average folded into the biases after them
    (METHODS 5).

    Args:
        keep: indices by group.
    """
    layers: list[nn.Linear] = list(net.layers)  # type: ignore[arg-type]
    small = Net((layers[0].in_features, *(len(k) for k in keep), layers[-1].out_features))
    rows = [*keep, torch.arange(layers[-1].out_features)]
    columns = [torch.arange(layers[0].in_features), *keep]
    with torch.no_grad():
        means = [said.mean(0) for said in net.groups(inputs)]
        for i, (old, new) in enumerate(zip(layers, small.layers, strict=True)):
            assert isinstance(new, nn.Linear)
            new.weight.copy_(old.weight[rows[i]][:, columns[i]])
            bias = old.bias.detach()
            if i:
                gone = torch.ones(old.in_features, dtype=torch.bool)
                gone[columns[i]] = False
                bias = bias + old.weight[:, gone] @ means[i - 1][gone]
            new.bias.copy_(bias[rows[i]])
    return small


def kept_units(scores: Sequence[Tensor], share: float) -> list[Tensor]:
    """Indices of the best units over all groups, at least one in each."""
    flat = torch.cat(list(scores))
    best = torch.zeros(len(flat), dtype=torch.bool)
    best[flat.argsort(descending=True)[: max(1, round(share * len(flat)))]] = True
    found = []
    for score, part in zip(scores, best.split([len(s) for s in scores]), strict=True):
        part = part.clone()
        part[score.argmax()] = True
        found.append(part.nonzero()[:, 0])
    return found


@dataclass
class IterativePruning(Arm):
    """Train, then prune units and train on, round after round (Han et al. 2015, by units); each round ends in
    a point.

    The settings are the best of ``tune``, which found both shares level at this depth; equal epochs take a
    third of the time.

    Attributes:
        restarts: runs from other initial weights, each with its part of the budget; the points of all count.
        dense: share of the budget before the first pruning.
        keep: share of all units that a round leaves.
        rounds: of pruning.
        later: learning rate of the rounds over the first one's.
    """

    name: str = "iterative magnitude pruning"
    restarts: int = 1
    dense: float = 0.2
    keep: float = 0.9
    rounds: int = 32
    rate: float = 4e-3
    later: float = 0.3
    batch: int = 16
    criterion: Criterion = "magnitude"
    share: Share = "epochs"

    def run(self, task: Task, seed: int, budget: float) -> tuple[list[Point], float]:
        spent, points = Spent(budget), []
        inputs = task.tensors(seed)["train"][0]
        for restart in range(self.restarts):
            torch.manual_seed(1000 * seed + restart)
            generator, whole = torch.Generator().manual_seed(1000 * seed + restart), budget / self.restarts
            net = Net(WIDTHS)
            train(net, task, seed, spent, self.dense * whole, self.rate, self.batch, generator)
            points.append(measured(net, task, seed))
            left = (1 - self.dense) * whole
            for done in range(self.rounds):
                net = shrunk(net, kept_units(importance(net, inputs, self.criterion), self.keep), inputs)
                rest = [
                    [max(1, round(w * self.keep**k)) for w in net.widths[1:-1]]
                    for k in range(self.rounds - done)
                ]
                part = left * parts([(WIDTHS[0], *widths, WIDTHS[-1]) for widths in rest], self.share)[0]
                train(net, task, seed, spent, part, self.later * self.rate, self.batch, generator)
                points.append(measured(net, task, seed))
                left -= part
        return points, spent.macs


@dataclass
class FromScratch(Arm):
    """Nets of several sizes, each from scratch.

    The settings are the best of ``tune``.

    Attributes:
        sizes: number of nets; hidden widths fall from the unpruned pair's to ``smallest`` of it in equal
            ratios.
        latent: the latent width falls by this power of the hidden widths' ratio.
    """

    name: str = "from scratch"
    sizes: int = 8
    smallest: float = 0.08
    latent: float = 0.5
    rate: float = 1.6e-2
    batch: int = 32
    share: Share = "macs"

    def widths(self) -> list[tuple[int, ...]]:
        """The nets' widths, largest first."""
        found = []
        for ratio in np.geomspace(1, self.smallest, self.sizes):
            scaled = [
                max(1, round(w * ratio ** (self.latent if i + 1 == LATENT else 1)))
                for i, w in enumerate(WIDTHS[1:-1])
            ]
            found.append((WIDTHS[0], *scaled, WIDTHS[-1]))
        return found

    def run(self, task: Task, seed: int, budget: float) -> tuple[list[Point], float]:
        spent, points = Spent(budget), []
        for number, (widths, part) in enumerate(
            zip(self.widths(), parts(self.widths(), self.share), strict=True)
        ):
            torch.manual_seed(1000 * seed + number)
            net, generator = Net(widths), torch.Generator().manual_seed(1000 * seed + number)
            train(net, task, seed, spent, budget * part, self.rate, self.batch, generator)
            points.append(measured(net, task, seed))
        return points, spent.macs


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        IterativePruning(),
        IterativePruning("best of 10 restarts", restarts=10),
        FromScratch(),
    )
}
"""The product's arms join here: subclasses of ``Arm`` that run the coevolution and return its front as
points.
"""


def shard_file(folder: Path, task: Task, arm: Arm, seed: int, setting: str = "front") -> Path:
    """Where a shard lies."""
    return folder / f"{setting}-{task.name}-{arm.name.replace(' ', '_')}-{seed}.json"


def record(
    folder: Path, task: Task, arm: Arm, seed: int, budget: float = BUDGET, setting: str = "front"
) -> None:
    """Run an arm and write its shard, if it is not there."""
    file = shard_file(folder, task, arm, seed, setting)
    if file.exists():
        return
    began = time.perf_counter()
    points, spent = arm.run(task, seed, budget)
    assert spent <= budget * 1.001, f"{arm.name} took {spent / budget:.3f} of its budget"
    shard = {
        "setting": setting,
        "task": task.name,
        "arm": arm.name,
        "seed": seed,
        "budget": budget,
        "spent": spent,
    }
    found = {"constant": task.constant(seed), "points": [asdict(p) for p in points]}
    write(
        file,
        shard
        | found
        | {"hypervolume": hypervolume(points, task.constant(seed)), "seconds": time.perf_counter() - began},
    )


TUNING_SEEDS, TRIALS, NEAR, TUNING_SHARE = (100, 101), 10, 5, 1 / 6


def tune(file: Path) -> None:
    """Try settings of both methods on digits, on seeds that are not reported, and write down what came out,
    best first.

    That has a budget of its own: ten draws of each method, then five near the best, every one on two seeds
    with a sixth of the budget. Settings are scored by the mean hypervolume over (search loss, params). What
    the file has is not tried again. The draws end at a fourteenth of the units; the best of them was then
    taken down to about one unit a layer, which served it (``deeper``).
    """
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    found |= {"setting": "tuning", "seeds": TUNING_SEEDS, "budget": TUNING_SHARE * BUDGET}
    for name, draw in (("iterative", _draw_iterative), ("scratch", _draw_scratch)):
        tried = found.setdefault(name, [])
        for trial in range(len(tried), TRIALS + NEAR):
            arm = draw(np.random.default_rng([0, trial]), trial >= TRIALS)
            tried.append(
                {
                    "hypervolume": float(np.mean([_by_search(arm, seed) for seed in TUNING_SEEDS])),
                    "arm": asdict(arm),
                }
            )
            print(tried[-1], flush=True)
        tried.sort(key=lambda one: -one["hypervolume"])
        file.write_text(json.dumps(found, indent=1) + "\n")
    shares: tuple[Share, ...] = ("macs", "epochs")
    arms = [IterativePruning(share=share) for share in shares]
    found["deeper"] = [
        {"hypervolume": float(np.mean([_by_search(arm, seed) for seed in TUNING_SEEDS])), "arm": asdict(arm)}
        for arm in arms
    ]
    file.write_text(json.dumps(found, indent=1) + "\n")


def _by_search(arm: Arm, seed: int) -> float:
    task = TASKS["digits"]
    points, _ = arm.run(task, seed, TUNING_SHARE * BUDGET)
    return hypervolume([Point(p.search, p.search, p.params) for p in points], task.constant(seed, "search"))


def _draw_iterative(rng: np.random.Generator, near: bool) -> Arm:
    keep = float(rng.choice([0.85, 0.9, 0.93] if near else [0.75, 0.8, 0.85, 0.9]))
    return IterativePruning(
        dense=float(rng.choice([0.1, 0.2, 0.3] if near else [0.1, 0.2, 0.4])),
        keep=keep,
        rounds=math.ceil(math.log(0.07) / math.log(keep)),
        rate=float(rng.choice([3e-3, 4e-3, 6e-3] if near else [1e-3, 2e-3, 4e-3, 8e-3])),
        later=float(rng.choice([0.2, 0.3, 0.5] if near else [0.3, 0.6, 1.0])),
        batch=int(rng.choice([16] if near else [16, 32, 64])),
        criterion="magnitude" if near or rng.random() < 0.5 else "activation",
    )


def _draw_scratch(rng: np.random.Generator, near: bool) -> Arm:
    return FromScratch(
        sizes=int(rng.choice([6, 8] if near else [6, 8, 12])),
        smallest=float(rng.choice([0.08, 0.12] if near else [0.04, 0.08, 0.12])),
        latent=float(rng.choice([0.3, 0.5] if near else [0.3, 0.5, 0.8, 1.0])),
        rate=float(rng.choice([1.2e-2, 1.6e-2, 3e-2] if near else [2e-3, 4e-3, 8e-3, 1.6e-2])),
        batch=int(rng.choice([16, 32] if near else [16, 32, 64])),
    )


def main() -> None:
    """Record what is missing, or tune."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coevolution.controls")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--tune", action="store_true", help="try settings on other seeds instead, and write them down"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments.tune:
        tune(FOLDER / "controls-tuning.json")
        return
    for seed in range(arguments.seeds):
        for task in TASKS.values():
            for arm in ARMS.values():
                record(FOLDER, task, arm, seed)


if __name__ == "__main__":
    main()
