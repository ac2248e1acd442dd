import pickle

import numpy as np
import torch

from evaluators import Arrays
from evaluators.data.preloaded import Preloaded


class Counted(Arrays):
    """Counts how often a split is read."""

    reads = 0

    def batches(self, split, size, generator=None):
        self.reads += 1
        for inputs, targets in super().batches(split, size, generator):
            yield inputs * 1.0, targets


def counted():
    return Counted(np.arange(80.0)[:, None], np.arange(80) % 2)


def test_a_split_is_read_once():
    data = counted()
    preloaded = Preloaded(data)
    first, second = (list(preloaded.batches("search", 5)) for _ in range(2))
    assert data.reads == 1
    assert [len(t) for _, t in first] == [5, 5, 5, 1]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


def test_sizes_and_counts_do_not_mix():
    preloaded = Preloaded(counted())
    assert len(list(preloaded.batches("search", 5, count=2))) == 2
    assert len(list(preloaded.batches("search", 5))) == 4
    assert len(list(preloaded.batches("search", 8))) == 2


def test_beyond_its_limit_it_keeps_nothing_and_gives_the_same():
    data = counted()
    small = Preloaded(data, limit_mib=1e-4)
    for _ in range(2):
        assert [t.tolist() for _, t in small.batches("train", 9)] == [
            t.tolist() for _, t in data.batches("train", 9)
        ]
    assert data.reads == 4


def test_half_a_reading_is_not_taken_for_the_whole():
    preloaded = Preloaded(counted())
    next(iter(preloaded.batches("search", 5)))
    assert len(list(preloaded.batches("search", 5))) == 4


def test_what_inference_read_may_teach_afterwards():
    preloaded = Preloaded(counted())
    with torch.inference_mode():
        list(preloaded.batches("search", 5))
    inputs, _ = next(iter(preloaded.batches("search", 5)))
    weight = torch.ones(1, requires_grad=True)
    (inputs * weight).sum().backward()
    assert weight.grad is not None


def test_it_travels_without_its_batches():
    preloaded = Preloaded(counted())
    before = len(pickle.dumps(preloaded))
    list(preloaded.batches("train", 5))
    assert len(pickle.dumps(preloaded)) <= before + 64
    assert len(list(pickle.loads(pickle.dumps(preloaded)).batches("search", 5))) == 4
