"""A search of cells of seconds, for the tests of this folder."""

from collections.abc import Mapping

import numpy as np
import torch

from evaluators.data import Arrays
from evaluators.supernet import SupernetSettings, SupernetTraining
from operators.stability import EdgeHistory, Rule
from spaces.cells import CellStack, DenseGraph, Design

OPERATIONS = ("none", "skip", "avg_pool_3", "sep_conv_3")
FAST = {"warmup": 1, "batch_size": 16, "architecture_learning_rate": 0.05, "share": 1}


def data() -> Arrays:
    """Forty-eight images, of which the brighter half is to be told."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = rng.normal(size=(48, 1, 6, 6)) + np.where(labels[:, None, None, None] == 1, 1.0, 0.0) * (
        np.indices((6, 6)).sum(0) % 2
    )
    shares = {"train": 0.4, "calibration": 0.2, "search": 0.2, "test": 0.2}
    return Arrays(images.astype(np.float32), labels, shares)  # type: ignore[arg-type]


def design(nodes: int = 1, **more: object) -> Design:
    host = CellStack(width=2, cells=2, reductions=[1], joined=nodes, classes=2)
    return Design(host, data().example(), graph=DenseGraph(nodes), operations=OPERATIONS, **more)  # type: ignore[arg-type]


def training(seed: int = 0, **more: object) -> SupernetTraining:
    return SupernetTraining(design(), data(), SupernetSettings(**(FAST | more)), seed)  # type: ignore[arg-type]


class Script(Rule):
    """Removes what it is told, at the end of the epochs it is told; never done before that."""

    def __init__(self, kept: Mapping[int, Mapping[str, tuple[str, ...]]]) -> None:
        self.kept = dict(kept)

    def done(self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory]) -> bool:
        return False

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        return {edge: kept for edge, kept in self.kept.get(epoch, {}).items() if edge in edges}


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
