"""The space of channel masks over a trained model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.base import Space
from spaces.channels.analysis import Analysis
from spaces.channels.plan import SlicePlan
from spaces.channels.reference import Reference
from spaces.channels.slicing import Slicer
from spaces.channels.trace import mode, trace
from spaces.errors import InputError

TOLERANCE = 1e-4
"""Largest difference between a compact model and its masked reference, relative to max(1, largest output), at which a group is trusted."""


class ChannelSpace(Space):
    """Keep bits over the coupled channels of a model. [O]

    The model is traced once; rules over ATen operations find the groups; every group is then reduced on its own, run,
    and compared with the masked reference, and what disagrees is frozen with its reason.

    Args:
        model: trained, in any mode; it is never changed.
        example: arguments of one forward call, a batch of at least 2.
        round_to: kept channels of a group are a multiple of this (a group may always be kept whole).
        min_keep: fewest channels of a group.
        freeze: patterns of module names (``blocks.*``) whose output channels always stay.

    Raises:
        InputError: the model cannot be traced, or nothing can be pruned.
    """

    def __init__(
        self, model: nn.Module, example: Sequence[Tensor] | Tensor, round_to: int = 1, min_keep: int = 1, freeze: Sequence[str] = ()
    ) -> None:
        if round_to < 1 or min_keep < 1:
            raise InputError(f"space: round_to and min_keep must be at least 1, got {round_to} and {min_keep}")
        self.model = model
        self.example = (example,) if isinstance(example, Tensor) else tuple(example)
        self.round_to, self.min_keep, self.freeze = round_to, min_keep, tuple(freeze)
        self._refused: dict[str, str] = {}
        self._accept(self._analyse())
        self._refused = self._distrusted()
        if self._refused:
            self._accept(self._analysis.plan(self._refused))
        if not self.plan.segments:
            reasons = "; ".join(dict.fromkeys(f"{f.axis}: {f.reason}" for f in self.plan.frozen))
            raise InputError(f"model {type(model).__name__}: nothing can be pruned ({reasons[:400]})")

    @property
    def fingerprint(self) -> str:
        plan = [[a.tensor, a.dim, a.loci.tolist()] for a in self.plan.axes]
        text = json.dumps([[(s.name, s.size) for s in self.segments], plan, self.round_to, self.min_keep])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def base(self) -> np.ndarray:
        return np.ones(self.length, dtype=np.uint8)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        share = rng.random((n, 1)) ** 0.5  # more of the milder ones: a network at one per cent of its width is of little use
        per_segment = np.clip(share + rng.normal(0, 0.1, (n, len(self.segments))), 0, 1)
        sizes = [segment.size for segment in self.segments]
        return self.repair((rng.random((n, self.length)) < np.repeat(per_segment, sizes, axis=1)).astype(np.uint8))

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        genomes = (np.asarray(genomes) != 0).astype(np.uint8)
        for segment, part in zip(self.segments, self.slices.values(), strict=True):
            bits = genomes[:, part]
            kept = bits.sum(axis=1, dtype=np.int64)
            target = self._valid_count(kept, segment.size)
            rows = np.flatnonzero(kept != target)
            if len(rows):
                genomes[rows, part] = _resize(bits[rows], target[rows])
        return genomes

    def build(self, genome: np.ndarray) -> nn.Module:
        self.check(genome[None])
        return self._slicer.build(self.model, genome)

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        """Return the kept share of every group."""
        return {name: float(genome[part].mean()) for name, part in self.slices.items()}

    def reference(self, genome: np.ndarray, state: Mapping[str, Tensor] | None = None) -> Reference:
        """Return the masked full model: a callable of the inputs. `state` replaces full tensors by name (tuned weights, scattered back)."""
        if self._trace is None:
            self._analyse()  # in another process than the one that made the space
        return Reference(self._trace, self.model, self._node_loci(), genome, state)

    def scatter(self, genome: np.ndarray, compact: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return full tensors with those of a compact model's ``state_dict`` at their kept places; the rest is the base model's."""
        kept = self._slicer.kept(genome)
        full = {}
        for name, tensor in self.model.state_dict().items():
            whole = tensor.detach().clone()
            if name in compact:
                axes = kept.get(name, {})
                index = np.ix_(*(axes.get(dim, np.arange(size)) for dim, size in enumerate(whole.shape)))
                whole[tuple(map(torch.from_numpy, index))] = compact[name].to(whole.dtype)
            full[name] = whole
        return full

    def gather(self, genome: np.ndarray, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the ``state_dict`` of a compact model with the kept parts of full tensors: the reverse of :meth:`scatter`."""
        kept, compact = self.slice_indices(genome), {}
        for name, tensor in full.items():
            axes = kept.get(name, {})
            index = np.ix_(*(axes.get(dim, np.arange(size)) for dim, size in enumerate(tensor.shape)))
            compact[name] = tensor[tuple(map(torch.from_numpy, index))] if axes else tensor
        return compact

    def slice_indices(self, genome: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
        """Return the kept positions of every sliced axis: tensor name -> axis -> indices."""
        return self._slicer.kept(genome)

    def attributes(self, genome: np.ndarray) -> dict[str, dict[str, int]]:
        """Return the module attributes that follow: module name -> attribute -> size."""
        return self._slicer.attributes(genome)

    def difference(self, genome: np.ndarray, inputs: tuple[Tensor, ...] | None = None, compact: nn.Module | None = None) -> float:
        """Return max(abs(a - b)) / max(1, max(abs(b))) between a compact model a and the masked reference b, in eval mode.

        Args:
            inputs: arguments of one forward call; the example by default.
            compact: a tuned model of this genome, whose weights the reference then takes; built by default.
        """
        inputs = self.example if inputs is None else inputs
        state = None if compact is None else self.scatter(genome, compact.state_dict())
        model = self.build(genome) if compact is None else compact
        with mode(model, False), torch.no_grad():
            return _difference(model(*inputs), self.reference(genome, state)(*inputs))

    def report(self) -> dict[str, Any]:
        """Return groups, frozen axes with reasons, and sizes, as plain data."""
        return {
            "groups": [{"name": g.name, "channels": g.size, "members": list(g.members)} for g in self.plan.groups],
            "frozen": [{"axis": f.axis, "reason": f.reason, "where": f.where} for f in self.plan.frozen],
            "notes": list(self.notes),
        }

    def _analyse(self) -> SlicePlan:
        self.notes: list[str] = []
        self._trace = trace(self.model, self.example, training=False)
        traces = [self._trace]
        try:
            traces.append(trace(self.model, self.example, training=True))
        except InputError as error:
            self.notes.append(f"parts that only training uses are not known: {error}")
        self._analysis = Analysis(self.model, traces, self.freeze)
        return self._analysis.plan(self._refused)

    def _accept(self, plan: SlicePlan) -> None:
        self.plan, self.segments, self._slicer = plan, plan.segments, Slicer(self.model, plan)
        self.__dict__.pop("length", None), self.__dict__.pop("slices", None), self.__dict__.pop("choices", None)

    def _distrusted(self) -> dict[str, str]:
        """Reduce every group on its own, run it, compare: return the reasons of those that disagree."""
        refused = {}
        for segment, part in zip(self.segments, self.slices.values(), strict=True):
            genome = np.ones(self.length, dtype=np.uint8)
            genome[part][: max(1, segment.size // 2)] = 0  # the first half, so that a hard-coded size or offset shows
            try:
                difference = self.difference(genome)
                if not difference <= TOLERANCE:
                    refused[segment.name] = f"reduced on its own it differs from the masked model by {difference:.2g}"
            except Exception as error:
                refused[segment.name] = f"reduced on its own the model does not run: {type(error).__name__}: {str(error).splitlines()[0]}"
        return refused

    def _node_loci(self) -> dict[str, np.ndarray]:
        """Return the loci of every graph value that has channels."""
        where = {}
        locus_of = self._analysis.locus_of
        for name, labels in self._analysis.labels_of.items():
            if isinstance(labels, np.ndarray) and labels.size > 1:
                roots = self._analysis.loci.find(labels)
                loci = np.array([locus_of.get(int(r), -1) for r in roots.ravel()], dtype=np.int64).reshape(roots.shape)
                if (loci >= 0).any():
                    where[name] = loci
        return where

    def _valid_count(self, kept: np.ndarray, size: int) -> np.ndarray:
        step, least = self.round_to, min(self.min_keep, size)
        rounded = np.rint(kept / step).astype(np.int64) * step
        lowest = -(-least // step) * step  # the smallest multiple that keeps enough
        target = np.minimum(np.maximum(rounded, lowest), size)
        whole_is_nearer = (size - kept < np.abs(kept - target)) | (kept == size)
        return np.where(whole_is_nearer, size, target)

    def __getstate__(self) -> dict[str, Any]:
        """Workers slice and never verify: the graph stays in the driver."""
        return self.__dict__ | {"_trace": None, "_analysis": None}


def _resize(bits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return `bits` ``(n, size)`` with `target` ones a row: the last kept fall first, the first dropped come back first."""
    order = np.argsort(1 - bits, axis=1, kind="stable")  # kept ones in order, then dropped ones in order
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(bits.shape[1]), bits.shape), axis=1)
    return (rank < target[:, None]).astype(np.uint8)


def _difference(a: Any, b: Any) -> float:
    if isinstance(a, Tensor):
        if a.shape != b.shape:
            return float("inf")
        scale = max(1.0, b.abs().max().item())
        return (a - b).abs().max().item() / scale
    parts = a.values() if isinstance(a, dict) else a
    others = b.values() if isinstance(b, dict) else b
    return max(_difference(x, y) for x, y in zip(parts, others, strict=True))
