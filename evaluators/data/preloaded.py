"""Batches held in memory: a candidate takes milliseconds, so its data must take none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from evaluators.data.base import Data, Inputs, Split
from spaces.calling import placed
from spaces.errors import InputError
from spaces.structures import joined, tensors

Batch = tuple[Inputs, Any]


class Preloaded:
    """Keeps the batches of splits on a device once they were read, within a limit of memory; beyond it they
    are read anew.

    It pickles without what it keeps: every process reads for itself.
    """

    def __init__(self, data: Data, limit_mib: float = 512) -> None:
        self.data, self.limit = data, limit_mib * 2**20
        self._clear()

    def batches(
        self, split: Split, size: int, device: torch.device | str = "cpu", count: int | None = None
    ) -> Iterable[Batch]:
        """Return the first `count` batches (None: all) of at most `size` samples of a split, unshuffled, on
        `device`.
        """
        key = (split, size, str(device), count)
        if key in self._kept:
            return self._kept[key]
        read = (to_device(batch, device) for batch in islice(self.data.batches(split, size), count))
        return read if key in self._too_big else self._read(key, read)

    def whole(self, split: Split, size: int, device: torch.device | str = "cpu") -> Batch:
        """Return all samples of a split, in their order, as one batch on `device`.

        Args:
            size: samples that are read at once.

        Raises:
            InputError: they take more memory than the limit, or differ in shape.
        """
        key = (split, "whole", str(device))
        if key not in self._kept:
            read: list[Batch] = []
            with torch.inference_mode(False):
                for batch in self.data.batches(split, size):
                    read.append(to_device(batch, "cpu"))
                    if self._used + sum(map(batch_bytes, read)) > self.limit:
                        raise InputError(
                            f"data: the {split} split takes more than {self.limit / 2**20:g} MiB in memory; "
                            f"expected a larger cache_mib, or a smaller split"
                        )
                try:
                    inputs, targets = joined(read)
                except RuntimeError:
                    raise InputError(
                        f"data: samples of the {split} split differ in shape; expected one shape"
                    ) from None
                self._kept[key] = [to_device((inputs, targets), device)]
            self._used += batch_bytes(self._kept[key][0])
        return self._kept[key][0]

    def _read(self, key: tuple, batches: Iterator[Batch]) -> Iterator[Batch]:
        kept: list[Batch] = []
        used = 0
        while True:
            # the first reader may be in inference mode, and a later one may want gradients
            with torch.inference_mode(False):
                batch = next(batches, None)
            if batch is None:
                break
            used += batch_bytes(batch)
            if self._used + used > self.limit:
                self._too_big.add(key)
                kept.clear()
            elif key not in self._too_big:
                kept.append(batch)
            yield batch
        if key not in self._too_big:
            self._kept[key] = kept
            self._used += used

    def _clear(self) -> None:
        self._kept: dict[tuple, list[Batch]] = {}
        self._too_big: set[tuple] = set()
        self._used = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """Return the batch on a device; the very same tensors where they are there already."""
    inputs, targets = batch
    return placed(inputs, device), placed(targets, device)


def batch_bytes(batch: Batch) -> int:
    """Return the bytes that a batch takes."""
    return sum(x.nbytes for x in tensors(batch))
