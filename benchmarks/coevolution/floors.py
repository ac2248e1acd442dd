"""What simple things reach on the paper's data, in seconds: ``python -m benchmarks.coevolution.floors``
records them for all seeds [O].
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from benchmarks.coevolution.clusters import Clusters, clusters
from benchmarks.coevolution.faithful import FOLDER, shard_file, write
from benchmarks.coevolution.nets import PARAMETERS

EPOCHS, BATCH, RATE = 60, 50, 1e-3
Predict = Callable[[Tensor], Tensor]
"""Inputs ``(n, 1000)`` to what is put out for them."""


def ones(data: Clusters, seed: int) -> tuple[Predict, int]:
    """Ones everywhere."""
    return torch.ones_like, 0


def majority(data: Clusters, seed: int) -> tuple[Predict, int]:
    """Every bit's majority in the training data: the best output that does not depend on the input."""
    bits = (data.train.mean(0) > 0.5).float()
    return lambda x: bits.expand_as(x), len(bits)


def kmeans(data: Clusters, seed: int) -> tuple[Predict, int]:
    """The rounded centre of the nearest of ten clusters."""
    found = KMeans(10, n_init=10, random_state=seed).fit(data.train.numpy())
    centres = torch.from_numpy(found.cluster_centers_).float()
    return lambda x: (centres[torch.cdist(x, centres).argmin(1)] > 0.5).float(), centres.numel()


def centroids(data: Clusters, seed: int) -> tuple[Predict, int]:
    """The true centroid: what is left is the noise."""
    return lambda x: data.centroids[torch.cdist(x, data.centroids).argmin(1)], data.centroids.numel()


def _autoencoder(sizes: tuple[int, ...], data: Clusters, seed: int, batch: int = BATCH) -> nn.Module:
    """Train one with binary cross-entropy and Adam, one-cycle up to 1e-3, 60 epochs."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    steps = EPOCHS * len(data.train) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data.train)).split(batch):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(
                model(data.train[rows]), data.train[rows]
            ).backward()
            optimiser.step()
            schedule.step()
    return model.eval().requires_grad_(False)


def full_sigmoid(data: Clusters, seed: int) -> tuple[Predict, int]:
    """The paper's architecture, trained with binary cross-entropy."""
    model = _autoencoder((1000, 30, 10, 30, 1000), data, seed)
    return lambda x: model(x).sigmoid(), PARAMETERS


def full_rounded(data: Clusters, seed: int) -> tuple[Predict, int]:
    """The same, its output rounded."""
    model = _autoencoder((1000, 30, 10, 30, 1000), data, seed)
    return lambda x: (model(x) > 0).float(), PARAMETERS


def narrow_rounded(data: Clusters, seed: int) -> tuple[Predict, int]:
    """A net of half the size from scratch, rounded; in batches of ten, since with fewer steps it mixes up
    clusters.
    """
    model = _autoencoder((1000, 14, 10, 14, 1000), data, seed, 10)
    return lambda x: (model(x) > 0).float(), sum(p.numel() for p in model.parameters())


FLOORS = {
    "ones": ones,
    "majority": majority,
    "kmeans": kmeans,
    "centroids": centroids,
    "full_sigmoid": full_sigmoid,
    "full_rounded": full_rounded,
    "narrow_rounded": narrow_rounded,
}
"""By the names of their shards, which stay whatever the functions are called."""


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coevolution.floors")
    parser.add_argument("--seeds", type=int, default=10)
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in range(parser.parse_args().seeds):
        for name, make in FLOORS.items():
            file = shard_file(FOLDER, "floor", name, seed)
            if file.exists():
                continue
            data, began = clusters(seed), time.perf_counter()
            predict, size = make(data, seed)
            found = {
                side: float((predict(x) - x).abs().mean())
                for side, x in (("train", data.train), ("test", data.test))
            }
            shard = {
                "setting": "floor",
                "arm": name,
                "seed": seed,
                "seconds": time.perf_counter() - began,
                "parameters": size,
            }
            write(file, shard | found)


if __name__ == "__main__":
    main()
