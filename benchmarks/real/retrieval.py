"""The task as data of a search: every text is to lie where the teacher puts it, near its other half."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.data import Data, Inputs, Split
from spaces.calling import Example, forward, mode

LENGTH = 64
"""Tokens of a text at most."""
TEMPERATURE, CONTRAST = 0.05, 0.1
"""Of the contrastive part of the loss, and its weight."""
TOP = 10


@dataclass(frozen=True)
class Texts:
    """The texts of a split, all first lines and then, in the same order, what belongs to them.

    Attributes:
        ids: tokens, int32 ``(texts, LENGTH)``, 0 behind the end.
        vectors: what the teacher makes of each, ``(texts, width)``.
    """

    ids: Tensor
    vectors: Tensor

    @property
    def pairs(self) -> int:
        return len(self.ids) // 2

    def inputs(self, rows: Tensor | slice) -> dict[str, Tensor]:
        """Return some of them as a model takes them, no longer than the longest."""
        ids = self.ids[rows].long()
        ids = ids[:, : max(1, int((ids != 0).sum(1).max()))]
        return {"input_ids": ids, "attention_mask": (ids != 0).long()}


class Retrieval(Data):
    """Texts as samples; a batch holds texts of one kind, so that short ones cost little.

    The loss of a text is its distance from the teacher's vector (1 - cosine), and a tenth of how surely it is
    taken for the neighbour of another half among those of its batch (InfoNCE, van den Oord et al. 2018 [P],
    against the teacher's vectors). ``mrr`` is the mean reciprocal rank, 0 beyond the first ten, of the right
    rest among all of the split by its first line; ``agreement`` how often the teacher has the same first.

    Args:
        texts: of every split.
    """

    metric_names = ("distance",)

    def __init__(self, texts: Mapping[Split, Texts]) -> None:
        self.texts = dict(texts)
        self.split_metrics = {"mrr": mrr, "agreement": agreement}

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, dict[str, Tensor]]]:
        texts = self.texts[split]
        for rows in _parts(texts.pairs, size, generator):
            yield texts.inputs(rows), self._targets(texts, rows)

    def _targets(self, texts: Texts, rows: Tensor) -> dict[str, Tensor]:
        own, other = texts.vectors[rows], texts.vectors[(rows + texts.pairs) % len(texts.ids)]
        return {"own": own, "other": other, "place": rows % texts.pairs, "is_first": rows < texts.pairs}

    def loss(self, outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        scores = outputs @ targets["other"].T / TEMPERATURE
        right = torch.arange(len(outputs), device=outputs.device)
        return distance(outputs, targets) + CONTRAST * F.cross_entropy(scores, right, reduction="none")

    def metrics(self, outputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"distance": distance(outputs, targets)}

    def size(self, split: Split) -> int:
        return len(self.texts[split].ids)

    def example(self) -> Example:
        """Return two texts of full length: costs are those of LENGTH tokens."""
        texts = self.texts["train"]
        full = (texts.ids != 0).all(1).nonzero().flatten()[:2]
        return texts.inputs(full)

    @cached_property
    def fingerprint(self) -> str:
        found = hashlib.sha256(f"{TEMPERATURE} {CONTRAST}".encode())
        for split in sorted(self.texts):
            for tensor in (self.texts[split].ids, self.texts[split].vectors):
                found.update(f"{split} {tuple(tensor.shape)}".encode())
                found.update(tensor.numpy().tobytes())
        return found.hexdigest()[:32]


def _parts(pairs: int, size: int, generator: torch.Generator | None) -> list[Tensor]:
    """Return rows of texts of one kind each, in order or shuffled."""
    if generator is None:
        return [*torch.arange(pairs).split(size), *torch.arange(pairs, 2 * pairs).split(size)]
    firsts, rests = (torch.randperm(pairs, generator=generator) for _ in range(2))
    found = [*firsts.split(size), *(rests + pairs).split(size)]
    return [found[place] for place in torch.randperm(len(found), generator=generator).tolist()]


def distance(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
    """Return 1 - cosine from the teacher's vectors, ``(texts,)``."""
    return 1 - (outputs * targets["own"]).sum(1)


def mrr(outputs: Tensor, targets: dict[str, Tensor]) -> float:
    """Return the mean reciprocal rank of a split."""
    return float(reciprocal(ranks(*_halves(outputs, targets))).mean())


def agreement(outputs: Tensor, targets: dict[str, Tensor]) -> float:
    """Return how often the first that is found is the teacher's."""
    found, expected = (_halves(vectors, targets) for vectors in (outputs, targets["own"]))
    return float((best(*found) == best(*expected)).mean())


def ranks(firsts: Tensor, rests: Tensor) -> np.ndarray:
    """Return at which place each first line finds its rest, from 1 on, int64 ``(pairs,)``."""
    scores = firsts @ rests.T
    return (1 + (scores > scores.diagonal()[:, None]).sum(1)).numpy()


def best(firsts: Tensor, rests: Tensor) -> np.ndarray:
    """Return what each first line finds at the first place."""
    return (firsts @ rests.T).argmax(1).numpy()


def reciprocal(found: np.ndarray | Sequence[int]) -> np.ndarray:
    """Return reciprocal ranks, 0 beyond the first TOP."""
    places = np.asarray(found)
    return np.where(places <= TOP, 1 / places, 0.0)


def _halves(vectors: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the vectors of first lines and of rests in one order."""
    kinds = targets["is_first"], ~targets["is_first"]
    firsts, rests = (vectors[kind][targets["place"][kind].argsort()] for kind in kinds)
    return firsts, rests


def encoded(model: nn.Module, texts: Texts, size: int = 128) -> Tensor:
    """Return a model's vectors of texts, ``(texts, width)``, computed in the order of their lengths."""
    order = (texts.ids != 0).sum(1).argsort()
    found: list[Any] = []
    with mode(model, False), torch.inference_mode():
        found = [forward(model, texts.inputs(rows)) for rows in order.split(size)]
    return torch.cat(found)[order.argsort()].clone()
