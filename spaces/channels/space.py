"""The space of channel masks over a trained model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spaces.calling import Inputs, call, example_of, mode
from spaces.channels.analysis import Analysis
from spaces.channels.depth import IS_THERE
from spaces.channels.doubled import Doubled, double, versions
from spaces.channels.limits import Limits, limits, resized
from spaces.channels.literals import Follower
from spaces.channels.matching import Rewriting
from spaces.channels.perturbing import Perturbation, perturb
from spaces.channels.plan import SlicePlan
from spaces.channels.precision import widened
from spaces.channels.program import program_digest
from spaces.channels.progress import Progress
from spaces.channels.reference import Reference
from spaces.channels.remembered import Memory
from spaces.channels.rewriting import is_made
from spaces.channels.slicing import Slicer, cloned, refuse_unfollowed
from spaces.channels.trace import canonical_names, differs_in_training, tensors_by_name, trace
from spaces.channels.uniform import PlainModels
from spaces.channels.verification import TOLERANCE as TOLERANCE
from spaces.channels.verification import Verification
from spaces.channels.wishes import as_patterns
from spaces.channels.wrappers import refuse_wrapped
from spaces.errors import InputError, require
from spaces.outputs import caching, distance, outputs_of
from spaces.structures import mapped

VERIFY = True
"""Tests of the rules alone switch verification off."""


class ChannelSpace(PlainModels):
    """Keep bits over the coupled channels of a model. [O]

    The model is traced once; rules over ATen operations find the groups; every group is then reduced on its
    own, run, and compared with the masked reference, and what disagrees is frozen with its reason.

    Args:
        model: trained, in any mode; it is never changed.
        example: arguments of one forward call, a batch of at least 2; a mapping gives them by their names.
        round_to: kept channels of a group are a multiple of this (a group may always be kept whole): one
            number for all; by patterns of group names (``{"*.heads": 1, "*": 8}``), of which the first
            that matches counts; "auto": what :class:`~evaluators.LatencyModel` finds to be fast where
            latency is an objective or has a limit, else 1.
        min_keep: fewest channels of a group.
        freeze: patterns of module names (``blocks.*``) whose output channels always stay, or of group names.
        tie: lists of patterns; groups that match a list keep the same places (``[["blocks.*.mlp.fc1"]]``: one
            width for all blocks).
        split: pattern -> into how many groups of neighbouring channels a group is cut, named ``name/1``,
            ``name/2``, ...
        least: pattern -> the smallest share of a group that is kept.
        most: pattern -> the largest share; the base model, all of whose groups are whole, stays a candidate.
        depth: patterns of residual blocks (``blocks.*``) that may be left out as a whole; a segment ``depth``
            has a locus for each.
        uniform: whether layers of one kind keep equal widths: for a model of Hugging Face's transformers
            so that a plain config describes what is left, for others all layers whose names differ in their
            numbers alone. They keep the same places, so the same counts.

    Raises:
        InputError: the model cannot be traced, nothing can be pruned, or a pattern matches nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Sequence[Any] | Mapping[str, Any] | Tensor,
        round_to: int | Literal["auto"] | dict[str, int] = "auto",
        min_keep: int = 1,
        freeze: Sequence[str] = (),
        tie: Sequence[Sequence[str]] = (),
        split: dict[str, int] | None = None,
        least: dict[str, float] | None = None,
        depth: Sequence[str] = (),
        most: dict[str, float] | None = None,
        uniform: bool = False,
    ) -> None:
        self._steps: int | dict[str, int] = 1 if isinstance(round_to, str) else round_to
        steps = [*self._steps.values()] if isinstance(self._steps, Mapping) else [self._steps]
        require(
            "space",
            (
                not isinstance(round_to, str) or round_to == "auto",
                f"round_to: {round_to!r}; expected a number, numbers by patterns of group names, or auto",
            ),
            (
                min([*steps, min_keep]) >= 1,
                f"round_to and min_keep must be at least 1, got {round_to} and {min_keep}",
            ),
        )
        for place, shares in (("least", least or {}), ("most", most or {})):
            possible = all(0 <= share <= 1 for share in shares.values())
            require(f"space.{place}", (possible, f"shares are from 0 to 1, got {shares}"))
        self.model = model
        self.example = example_of(example)
        self.round_to, self.min_keep, self.freeze = round_to, min_keep, tuple(freeze)
        self.tie, self.split, self.least = tuple(map(tuple, tie)), dict(split or {}), dict(least or {})
        self.most = dict(most or {})
        self.depth, self._whole_blocks = tuple(depth), dict[str, str]()
        self.uniform = uniform
        self._refused: dict[str, str] = {}
        self._untrained = ""
        self._doubled: Doubled | None = None
        self._followers: list[Follower] = []
        self._rewritings: dict[str, Rewriting] = {}
        self._ties: list[tuple[int, int]] = []
        progress = Progress()
        refuse_wrapped(model)
        refuse_unfollowed(model)
        self._accept(self._analyse())
        count = len(self._trace.graph.graph.nodes)
        progress.tell(
            f"{count} operations are read; as a check each of {len(self.segments)} groups of channels "
            f"is made smaller once"
        )
        if VERIFY:
            self._verify(progress)
        if not self.plan.segments:
            reasons = "; ".join(dict.fromkeys(f"{f.axis}: {f.reason}" for f in self.plan.frozen))
            raise InputError(f"model {type(model).__name__}: nothing can be pruned ({reasons[:400]})")
        self._limits  # noqa: B018 patterns that match nothing are told now

    @property
    def fingerprint(self) -> str:
        plan = [[a.tensor, a.dim, a.loci.tolist()] for a in self.plan.axes]
        least = (
            [{"least": self.least, "most": self.most}] if self.most else [self.least] if self.least else []
        )
        text = json.dumps(
            [[(s.name, s.size) for s in self.segments], plan, self._steps, self.min_keep, *least]
        )
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def program(self) -> str:
        return self._program

    @property
    def base(self) -> np.ndarray:
        return np.ones(self.length, dtype=np.uint8)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        # more of the milder ones: a network at one per cent of its width is of little use
        share = rng.random((n, 1)) ** 0.5
        per_segment = np.clip(share + rng.normal(0, 0.1, (n, len(self.segments))), 0, 1)
        sizes = [segment.size for segment in self.segments]
        return self.repair(
            (rng.random((n, self.length)) < np.repeat(per_segment, sizes, axis=1)).astype(np.uint8)
        )

    def settle(self, steps: Callable[[], Mapping[str, int]]) -> Mapping[str, int] | None:
        if self.round_to != "auto":
            return None
        own = limits(self.plan.segments, 1, self.min_keep, self.least, self.most, dict(self.plan.steps))
        bounds = {  # what a run began with may name a group that another model has
            name: replace(own[name], step=math.lcm(own[name].step, step))
            for name, step in steps().items()
            if name in own
        }
        fitting = {name: bound.step for name, bound in bounds.items() if bound.highest >= bound.lowest}
        self._steps = as_patterns(fitting, [*own], 1) if fitting else 1
        self.__dict__.pop("_limits", None)
        return fitting

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        genomes = (np.asarray(genomes) != 0).astype(np.uint8)
        whole = genomes.all(axis=1)  # the base model stays what it is, whatever the upper bounds
        for segment, part in zip(self.segments, self.slices.values(), strict=True):
            bits = genomes[:, part]
            kept = bits.sum(axis=1, dtype=np.int64)
            target = self._valid_count(kept, segment.size, segment.name)
            rows = np.flatnonzero((kept != target) & ~whole)
            if len(rows):
                genomes[rows, part] = resized(bits[rows], target[rows])
        return genomes

    def build(self, genome: np.ndarray) -> nn.Module:
        self.check(genome[None])
        return self._slicer.build(self.model, genome)

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        """Return the kept share of every group."""
        return {name: float(genome[part].mean()) for name, part in self.slices.items()}

    def reference(self, genome: np.ndarray, state: Mapping[str, Tensor] | None = None) -> Reference:
        """Return the masked full model: a callable of the inputs. `state` replaces full tensors by name
        (tuned weights, scattered back).
        """
        return self._masked(genome, state)

    def _masked(
        self, genome: np.ndarray, state: Mapping[str, Tensor] | None = None, lent: bool = False
    ) -> Reference:
        if self._trace is None:
            self._analyse()  # in another process than the one that made the space
        gates = self._analysis.gates()
        skips = {
            block.output: block.source for block in self._analysis.blocks if not genome[gates[block.path]]
        }
        return Reference(
            self._trace, self.model, self._value_loci[0], genome, state, self._value_loci[1], skips, lent
        )

    def scatter(
        self, genome: np.ndarray, compact: Mapping[str, Tensor], base: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return full tensors with those of a compact model's ``state_dict`` at their kept places; the rest
        is that of `base`.

        Args:
            base: full tensors by name; None: those of the base model.
        """
        kept, first = self.slice_indices(genome), canonical_names(self.model)
        full = {}
        for name, tensor in (self.model.state_dict() if base is None else base).items():
            whole = tensor.detach().clone()
            if name in compact:
                axes = kept.get(first.get(name, name), {})
                index = np.ix_(*(axes.get(dim, np.arange(size)) for dim, size in enumerate(whole.shape)))
                # a compact model may be on a GPU, the base is not
                whole[tuple(map(torch.from_numpy, index))] = compact[name].to(whole)
            full[name] = whole
        return full

    def gather(self, genome: np.ndarray, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the ``state_dict`` of a compact model with the kept parts of full tensors: the reverse of
        :meth:`scatter`.
        """
        kept, first, compact = self.slice_indices(genome), canonical_names(self.model), {}
        gone = tuple(
            f"{path}."
            for path, attributes in self.attributes(genome).items()
            if attributes.get(IS_THERE) == 0
        )
        for name, tensor in full.items():
            if name.startswith(gone):
                continue
            axes = kept.get(first.get(name, name), {})
            index = np.ix_(*(axes.get(dim, np.arange(size)) for dim, size in enumerate(tensor.shape)))
            compact[name] = tensor[tuple(map(torch.from_numpy, index))] if axes else tensor
        return compact

    def slice_indices(self, genome: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
        """Return the kept positions of every sliced axis: tensor name -> axis -> indices."""
        return self._slicer.kept(genome)

    def attributes(self, genome: np.ndarray) -> dict[str, dict[str, int]]:
        """Return the module attributes that follow: module name -> attribute -> size."""
        return self._slicer.attributes(genome)

    def difference(
        self,
        genome: np.ndarray,
        inputs: Inputs | None = None,
        compact: nn.Module | None = None,
        precise: bool = False,
    ) -> float:
        """Return max(abs(a - b)) / max(1, max(abs(b))) between a compact model a and the masked reference b,
        in eval mode.

        Args:
            inputs: arguments of one forward call; the example by default.
            compact: a tuned model of this genome, whose weights the reference then takes; built by default.
            precise: compute in double precision. Fails where the code makes tensors of a certain precision.
        """
        inputs = self.example if inputs is None else inputs
        if precise and compact is None and self._doubled is not None and inputs is self.example:
            return distance(
                *self._doubled.outputs(
                    lambda model, lent: self._slicer.build(model, genome, lent),
                    lambda state, lent: self._masked(genome, state, lent),
                    inputs,
                    (genome.tobytes(), self.plan.axes),
                    self._casts,
                )
            )
        state = None if compact is None else self.scatter(genome, compact.state_dict())
        model = self.build(genome) if compact is None else compact
        if precise:
            inputs, model = (
                mapped(double, inputs),
                (model if compact is None else cloned(model)).double(),
            )
            state = {
                name: double(tensor) for name, tensor in (tensors_by_name(self.model) | (state or {})).items()
            }
        with mode(model, False), torch.no_grad(), widened(precise and self._casts):
            return distance(outputs_of(model, inputs), call(self.reference(genome, state), inputs))

    def perturbed_difference(
        self, by: Perturbation, precise: bool = False, names: Sequence[str] | None = None, lent: bool = True
    ) -> tuple[float, float]:
        """Return the :meth:`difference` between a whole copy of the model and the reference when parameters
        of both are changed alike, and that between the reference with these and with its own.

        Args:
            names: of the parameters and buffers that are changed; None: all, and the second figure is NaN.
            lent: the reference computes with the parameters of the copy, as long as it does not write there.
        """
        genome, inputs = np.ones(self.length, dtype=np.uint8), self.example
        model = self.build(genome)
        own = {} if names is None else tensors_by_name(model)
        own = {name: (double(tensor) if precise else tensor).clone() for name, tensor in own.items()}
        perturb(model, by, names)
        if precise:
            inputs, model = mapped(double, inputs), model.double()
        with mode(model, False), torch.no_grad(), widened(precise and self._casts):
            before = versions(model)
            expected = call(self._masked(genome, tensors_by_name(model), lent), inputs)
            if versions(model) != before:
                return self.perturbed_difference(by, precise, names, lent=False)
            moved = distance(call(self.reference(genome, own), inputs), expected) if own else float("nan")
            return distance(outputs_of(model, inputs), expected), moved

    def made_of(
        self, genome: np.ndarray, model: Mapping[str, Any] | None, space: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the base model, which a recipe slices."""
        return None if model is None else dict(model), None

    def report(self) -> dict[str, Any]:
        """Return groups, frozen axes with reasons, and every axis of every parameter with its groups or the
        reason, as plain data.
        """
        if self._analysis is None:
            self._analyse()  # in another process than the one that made the space
        table = self._analysis.table()
        return {
            "groups": [
                {"name": g.name, "channels": g.size, "members": list(g.members)} for g in self.plan.groups
            ],
            "frozen": [{"axis": f.axis, "reason": f.reason, "where": f.where} for f in self.plan.frozen],
            "axes": table,
            "attributes": [{"module": f.module, "name": f.name} for f in self._followers],
            "rewritten": [*dict.fromkeys(a.module for a in self.plan.attributes if is_made(a.name))],
            "notes": [
                *self.notes,
                *self._settled(),
                *([f"training mode is not verified: {self._untrained}"] if self._untrained else []),
                *(f"depth: {path} always stays: {reason}" for path, reason in self._whole_blocks.items()),
            ],
        }

    def _analyse(self) -> SlicePlan:
        self.notes: list[str] = []
        self._trace = trace(self.model, self.example, training=False)
        traces = [self._trace]
        if differs_in_training(self.model):
            try:
                traces.append(trace(self.model, self.example, training=True))
            except InputError as error:
                self.notes.append(f"parts that only training uses are not known: {error}")
        if names := caching(self.model):
            self.notes.append(f"config.use_cache of {', '.join(names)} is off while the model is looked at")
        hooked = [name for name, p in self.model.named_parameters() if _has_hooks(p)]
        if hooked:
            self.notes.append(f"hooks of parameters are not copied: {', '.join(hooked)}")
        self._program = program_digest(traces)
        alike = self._alike if self.uniform else None
        self._analysis = Analysis(self.model, traces, self.freeze, self.tie, self.split, self.depth, alike)
        self._whole_blocks = self._analysis.whole_blocks | self._whole_blocks
        return self._restored()

    def _restored(self) -> SlicePlan:
        """Return the plan by what verification found."""
        blocks = self._analysis.blocks
        self._analysis.blocks = [block for block in blocks if block.path not in self._whole_blocks]
        self._analysis.followers, self._analysis.rewritings = list(self._followers), dict(self._rewritings)
        self._analysis.tie(self._ties)
        return self._analysis.plan(self._refused)

    def _verify(self, progress: Progress) -> None:
        settings = [self.round_to, self.min_keep, self.freeze, self.tie, self.split, self.least, self.most]
        memory = Memory(self, [*settings, self.depth, self.uniform])
        if not memory.recall():
            Verification(self, progress).run()
            if self.uniform:
                self._refuse_not_plain()
            memory.keep()

    @cached_property
    def _value_loci(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The loci of graph values, and of parameters, by the plan."""
        return self._analysis.node_loci(), self._analysis.weight_loci()

    def _accept(self, plan: SlicePlan) -> None:
        self._followers, self._rewritings = list(self._analysis.followers), dict(self._analysis.rewritings)
        self._ties = list(self._analysis.ties)
        is_same = plan.axes is getattr(self, "plan", plan).axes
        self.plan: SlicePlan = plan
        self.segments, self._slicer = plan.segments, Slicer(self.model, plan)
        for name in ("length", "slices", "choices", "_limits"):
            self.__dict__.pop(name, None)
        if not is_same:
            self.__dict__.pop("_value_loci", None)

    def _settled(self) -> list[str]:
        """Return what "auto" came to, in words."""
        if self.round_to != "auto" or self._steps == 1:
            return []
        return [
            f"round_to: auto came to {json.dumps(self._steps)}, widths that are fast where it was measured"
        ]

    @property
    def _casts(self) -> bool:
        """Whether the code casts to single precision by name, as far as that is known in this process."""
        return self._trace is None or self._trace.casts

    @cached_property
    def _limits(self) -> dict[str, Limits]:
        """Return what counts of every group are bound to."""
        return limits(
            self.plan.segments, self._steps, self.min_keep, self.least, self.most, dict(self.plan.steps)
        )

    def _valid_count(self, kept: np.ndarray, size: int, name: str = "") -> np.ndarray:
        bound = (
            self._limits[name]
            if name
            else Limits(size, self._steps if isinstance(self._steps, int) else 1, self.min_keep)
        )
        return bound.nearest(kept)

    def __getstate__(self) -> dict[str, Any]:
        """Workers slice and never verify: the graph stays in the driver."""
        return {key: value for key, value in self.__dict__.items() if key != "_value_loci"} | {
            "_trace": None,
            "_analysis": None,
        }


def _has_hooks(tensor: Tensor) -> bool:
    return bool(tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None))
