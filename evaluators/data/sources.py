"""Where samples come from: what a DataLoader reads, a Dataset with places, or one that flows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from evaluators.randomness import Randomness
from spaces.allowed import imported
from spaces.errors import InputError

_SETTINGS = (
    "num_workers",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "prefetch_factor",
)
"""What of a DataLoader says how it reads, not what."""
_END = object()
EXPECTED = (
    "expected a torch DataLoader, a Dataset (with places or iterable), a Hugging Face dataset, or a function "
    "that makes one"
)


class Source:
    """Reads batches of any size from what one split is given as, by a DataLoader that is made anew each time.

    Of a DataLoader the dataset, the samples that it draws, the function that collates and the settings of its
    workers are taken. Numbers of a Hugging Face dataset come as tensors.

    Args:
        given: a DataLoader, a Dataset, a Hugging Face dataset, or a function that makes one (itself, its
            path, or ``class_path`` and ``init_args``).
        name: of the split, for people.

    Attributes:
        dataset: that is read.
        places: the samples that are read of a dataset with places, int64; None: it flows.
        largest: the batch size of the DataLoader, None without one.

    Raises:
        InputError: it is something else, or has no samples.
    """

    def __init__(self, given: Any, name: str) -> None:
        made = _made(given, name)
        self.name = name
        self.largest: int | None = None
        self._collate: Callable[[Any], Any] = default_collate
        self._whole = False  # whether it flows in batches of its own
        self._sampler: Any = None
        self._settings: dict[str, Any] = {}
        self.dataset: Any = made
        if isinstance(made, DataLoader):
            self._take(made)
        if hasattr(self.dataset, "with_format"):
            self.dataset = self.dataset.with_format("torch")
        flows = isinstance(self.dataset, IterableDataset)
        self.places = None if flows else self._drawn()
        if self.places is not None and not len(self.places):
            raise InputError(f"data: split {name!r} is empty; expected at least one sample")

    def _take(self, loader: DataLoader) -> None:
        self.dataset, self.largest = loader.dataset, loader.batch_size
        self._collate = loader.collate_fn
        self._settings = {name: getattr(loader, name) for name in _SETTINGS}
        whole = loader.batch_size is None and loader.batch_sampler is None
        if isinstance(loader.dataset, IterableDataset):
            self._whole = whole
            return
        if whole:
            raise InputError(
                f"data: {self.name} is a DataLoader with batch_size None over a dataset with places; "
                f"expected a "
                f"batch_size"
            )
        sampler = loader.batch_sampler if loader.batch_size is None else loader.sampler
        if not (
            isinstance(sampler, SequentialSampler)
            or (isinstance(sampler, RandomSampler) and not sampler.replacement)
        ):
            self._sampler = sampler

    def _drawn(self) -> np.ndarray:
        """Return the places that the sampler may draw, in order."""
        if self._sampler is None or isinstance(self._sampler, RandomSampler | WeightedRandomSampler):
            return np.arange(len(self.dataset))
        return np.unique(_places(self._sampler, 0))

    def part(self, name: str, places: np.ndarray) -> Source:
        """Return a split of it that holds some of its places."""
        other = copy.copy(self)
        other.name, other.places = name, places
        return other

    def __len__(self) -> int:
        """Return the number of samples; 0 where it flows."""
        return 0 if self.places is None else len(self.places)

    def first(self, size: int) -> Any:
        """Return the first batch.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        for batch in self.batches(size):
            return batch
        raise InputError(f"data: split {self.name!r} is empty; expected at least one sample")

    def at(self, place: int) -> Any:
        """Return the sample at a place of the dataset.

        Raises:
            InputError: it cannot be read.
        """
        with self._told():
            return self.dataset[place]

    def batches(
        self, size: int, generator: torch.Generator | None = None, most: int | None = None
    ) -> Iterator[Any]:
        """Yield batches as they are collated, once over all samples.

        Args:
            size: of a batch; what flows in batches of its own has them as they come.
            generator: shuffles places, and seeds what else is random; None: in order.
            most: so many samples are wanted; of what flows a few more may come.

        Raises:
            InputError: samples cannot be read, or not be collated to a batch.
        """
        with self._told():
            found = iter(self._read(size, generator, most))
        while True:
            with self._told():
                batch = next(found, _END)
            if batch is _END:
                return
            yield batch

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one line what a dataset raises."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            if "Original Traceback" in reason:  # of a worker
                reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"data: split {self.name!r} cannot be read: {reason[:300]}; expected samples that a "
                f"DataLoader makes a batch of"
            ) from error

    def _read(self, size: int, generator: torch.Generator | None, most: int | None) -> Iterator[Any]:
        settings = dict(self._settings)
        # what is drawn outside stays as it is: a loader draws a seed for its workers
        drawn = None if generator is None else int(torch.randint(2**62, (), generator=generator))
        settings["generator"] = torch.Generator().manual_seed(drawn or 0)
        if self.places is None:
            size = size if most is None else min(size, most)
            yield from DataLoader(
                self.dataset, batch_size=None if self._whole else size, collate_fn=self._collate, **settings
            )
            return
        order = self.places[:most]
        if generator is not None:
            assert drawn is not None
            if self._sampler is None:
                order = order[torch.randperm(len(order), generator=generator).numpy()]
            else:
                found = _places(self._sampler, drawn)
                order = found[np.isin(found, order)]
        yield from DataLoader(
            self.dataset, batch_size=size, sampler=order.tolist(), collate_fn=self._collate, **settings
        )


def labels_of(dataset: Any, column: str | None = None) -> np.ndarray | None:
    """Return the class of every sample where it is at hand without reading the samples: the last tensor of a
    TensorDataset, a column, or an attribute ``targets`` or ``labels``; int64 ``(samples,)``, None elsewhere.
    """
    if isinstance(dataset, Subset):
        inner = labels_of(dataset.dataset, column)
        return None if inner is None else inner[np.asarray(dataset.indices)]
    if isinstance(dataset, TensorDataset):
        found: Any = dataset.tensors[-1]
    elif hasattr(dataset, "column_names"):
        found = dataset.with_format(None)[column][:] if column in (dataset.column_names or ()) else None
    else:
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        labels = np.asarray(found)
    except (TypeError, ValueError, RuntimeError):  # tables of unequal length
        return None
    whole = labels.dtype.kind in "iub" and labels.shape == (len(dataset),)
    return labels.astype(np.int64) if whole else None


def divided(
    labels: np.ndarray | None, places: np.ndarray, shares: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Divide places among splits, class by class where labels are known: every split gets its share of each
    class, up to one sample.

    Args:
        labels: of all samples of the dataset.
        shares: of the splits; they add up to 1.
        seed: of the draw.

    Returns:
        The places of every split, in order.
    """
    rng = np.random.default_rng(seed)
    classes = np.zeros(len(places), np.int64) if labels is None else labels[places]
    edges = np.cumsum([*shares.values()])[:-1]
    split = np.empty(len(places), np.int64)
    for label in np.unique(classes):
        own = rng.permutation(np.flatnonzero(classes == label))
        split[own] = np.searchsorted(edges, (np.arange(len(own)) + rng.random()) / len(own), side="right")
    return {name: places[split == number] for number, name in enumerate(shares)}


def is_source(given: Any) -> bool:
    """Whether it is a DataLoader, a Dataset, or a dataset of Hugging Face."""
    return isinstance(given, DataLoader | Dataset) or (
        hasattr(given, "with_format") and hasattr(given, "column_names") and not isinstance(given, Mapping)
    )


def _made(given: Any, name: str) -> Any:
    place = f"data: {name}"
    if isinstance(given, str) or (isinstance(given, Mapping) and "class_path" in given):
        path, settings = (
            (given, {}) if isinstance(given, str) else (given["class_path"], given.get("init_args"))
        )
        given = imported(path, f"{place}:")(**(settings or {}))
    elif callable(given) and not is_source(given):
        given = given()
    if not is_source(given) and not isinstance(given, list):
        raise InputError(f"{place} is a {type(given).__name__}; {EXPECTED}")
    if isinstance(given, DataLoader | IterableDataset):
        return given
    try:
        len(given)
    except TypeError:
        raise InputError(f"{place}: a {type(given).__name__} without __len__; {EXPECTED}") from None
    return given


def _places(sampler: Any, seed: int) -> np.ndarray:
    """Return the places that a sampler gives, of batches one after another, with random numbers by a seed."""
    sampler = copy.copy(sampler)
    if getattr(sampler, "generator", None) is not None:
        sampler.generator = torch.Generator().manual_seed(seed)
    with Randomness(seed % 2**63):
        drawn = list(sampler)
    flat = chain.from_iterable(drawn) if drawn and isinstance(drawn[0], list | tuple | Tensor) else drawn
    return np.array([int(place) for place in flat], dtype=np.int64)
