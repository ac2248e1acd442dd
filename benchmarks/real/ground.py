"""What all arms share: teacher, data, the space of its channels, and half of its multiply-accumulates."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.real import encoder
from benchmarks.real.pairs import QUICK_PACKAGES, QUICK_SIZES, Pairs, collected, digest
from benchmarks.real.retrieval import Retrieval, Texts, encoded
from evaluators import Cost, assess, count
from evaluators.cost.latency import export, onnx_call
from evaluators.data.base import SPLITS, Split
from operators.criteria import Criterion, score_all
from spaces import ChannelSpace
from spaces.calling import Example
from spaces.files import replacing
from spaces.structures import rows

CACHE = Path(__file__).parents[2] / "build" / "real"
HALF = 0.5
CORES = 2
"""A minute of the ceiling is so many minutes of CPU time, however many threads spend it."""
STEPS = {"*intermediate*": 16, "*": 1}
_BATCH = 256


@dataclass
class Ground:
    """The task of all arms.

    Attributes:
        teacher: the whole model.
        data: texts of the four splits with the teacher's vectors.
        pairs: the texts themselves.
        planning: CPU seconds that planning the space took.
    """

    teacher: nn.Module
    data: Retrieval
    pairs: Pairs
    planning: float = 0.0

    @classmethod
    def make(cls, quick: bool, cache: Path = CACHE) -> Ground:
        """Collect pairs and ask the teacher, or read what was kept of it."""
        pairs = (
            collected(cache / "pairs-quick.json", QUICK_PACKAGES, QUICK_SIZES)
            if quick
            else collected(cache / "pairs.json")
        )
        model = encoder.teacher()
        texts: dict[Split, Texts] = {}
        for split in reversed(SPLITS):
            ids = encoder.tokens(_texts(pairs, split))
            file = cache / f"vectors-{digest(pairs)}-{split}.safetensors"
            texts[split] = Texts(ids, _vectors(file, model, ids))
        return cls(model, Retrieval(texts), pairs)

    @property
    def digest(self) -> str:
        return digest(self.pairs)

    @cached_property
    def space(self) -> ChannelSpace:
        """Heads and feed-forward channels of every layer; the width is that of the vectors, and stays."""
        began = time.process_time()
        found = ChannelSpace(self.teacher, self.data.example(), round_to=STEPS, freeze=["*head_dim"])
        self.planning = time.process_time() - began
        return found

    @cached_property
    def whole(self) -> float:
        """Multiply-accumulates of the whole model for one text; looking up embeddings takes none."""
        return self.macs_of(self.teacher)

    @property
    def limit(self) -> float:
        return HALF * self.whole

    def macs_of(self, model: nn.Module) -> float:
        return count(model, self.data.example())["macs"]

    def macs(self, genomes: np.ndarray) -> np.ndarray:
        """Return the multiply-accumulates of masks ``(n, length)``, ``(n,)``."""
        return self._cost.screen(genomes)["macs"]

    @cached_property
    def _cost(self) -> Cost:
        cost = Cost()
        cost.bind(self.space, self.data)
        return cost

    def loss(self, model: nn.Module, pairs: int | None = None, split: Split = "search") -> float:
        """Return the mean loss of some pairs of a split, by default of all."""
        texts = self.data.texts[split]
        data = self.data if pairs is None else Retrieval({split: part(texts, pairs)})
        return assess(model, data, data.batches(split, _BATCH), whole=False)["loss"]

    def scores(self, criterion: Criterion) -> np.ndarray:
        """Return a criterion's scores on the calibration split, ``(length,)``."""
        batches = self.data.batches("calibration", _BATCH)
        return score_all([criterion], self.teacher, batches, self.space.plan, self.data.loss)[criterion.name]

    @cached_property
    def _single(self) -> Example:
        """One text of full length."""
        return rows(self.data.example(), slice(1))

    @cached_property
    def _exported(self) -> bytes:
        return export(self.teacher, self._single)

    def speedup(self, model: nn.Module, rounds: int) -> dict[str, float]:
        """Return how many times faster one text is in onnxruntime than with the teacher, one thread, both by
        turns: the median ratio of CPU times; and the fastest call in milliseconds.
        """
        calls = [onnx_call(one, self._single) for one in (self._exported, export(model, self._single))]
        took = np.zeros((rounds, 2))
        for row in took:
            for place, call in enumerate(calls):
                call()
                began = time.thread_time()
                call()
                row[place] = time.thread_time() - began
        ratio = float(np.median(took[:, 0] / took[:, 1]))
        return {"speedup": ratio, "latency_ms": 1e3 * took[:, 1].min(), "teacher_ms": 1e3 * took[:, 0].min()}


class Clock:
    """CPU seconds of this process and of those before it that did the same, noted in a file.

    Args:
        file: where they are noted.
        budget: how many there are.
    """

    def __init__(self, file: Path, budget: float) -> None:
        self.file, self.budget = file, budget
        self.marks: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
        self._before, self._began = self.marks.get("spent", 0.0), time.process_time()

    @property
    def spent(self) -> float:
        return self._before + time.process_time() - self._began

    def note(self, mark: str = "spent") -> float:
        """Keep the time so far, under a name as well if it has none; return what the name has."""
        self.marks["spent"] = self.spent
        kept = self.marks.setdefault(mark, self.spent)
        with replacing(self.file) as part:
            part.write_text(json.dumps(self.marks))
        return kept


def part(texts: Texts, pairs: int) -> Texts:
    """Return the first pairs of a split, all where there are not as many."""
    pairs = min(pairs, texts.pairs)
    chosen = torch.cat([torch.arange(pairs), torch.arange(pairs) + texts.pairs])
    return Texts(texts.ids[chosen], texts.vectors[chosen])


def _texts(pairs: Pairs, split: Split) -> list[str]:
    return [pair.first for pair in pairs[split]] + [pair.rest for pair in pairs[split]]


def _vectors(file: Path, model: nn.Module, ids: Tensor) -> Tensor:
    """Return the teacher's vectors of the texts of a split, computed once."""
    if not file.exists():
        with replacing(file) as made:
            save_file({"vectors": encoded(model, Texts(ids, torch.empty(0)))}, made)
    return load_file(file)["vectors"]
