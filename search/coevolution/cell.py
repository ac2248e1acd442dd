"""One step of one cell: meet the neighbours, select, prune, train, and perhaps replace. A pure function of
its arguments.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.base import Candidate, Evaluation, Evaluator, State
from evaluators.data.base import Data
from evaluators.pairs.evaluator import PairTraining
from evaluators.pairs.state import CellFiles, Half, PairState, Tensors, pack_moments, unpack_moments
from search.ask_and_tell import candidate_seed
from search.coevolution.mixture import mixed
from search.coevolution.pruning import CellPruning, Child
from search.coevolution.rules import CellRules
from search.coevolution.tensors import each_moment, empty_like, is_finite, of_half, reset
from search.executors.isolation import Isolation
from search.executors.work import failed, reason, worker_name
from spaces.pairs.mixed import Pairs

Moments = Callable[[int], Tensors]
"""Gives the optimiser's moments of a pair of the neighbourhood, by its place in it."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a step leaves behind for the next ones."""

    state: PairState
    moments: Tensors

    @classmethod
    def from_bytes(cls, content: bytes) -> Outcome:
        """Read a file of :class:`CellFiles`."""
        return cls(PairState.from_bytes(content), unpack_moments(content))

    def packed_moments(self) -> bytes:
        """Return the moments alone, as a safetensors file."""
        from safetensors.torch import save

        return save(pack_moments(self.moments))


class CellStep:
    """The work of all cells: step and cell follow from the id of the candidate, ``step * cells + cell``. It
    goes to the workers once.

    Args:
        rules: of the coevolution.
        space: of the pairs.
        evaluator: all of it, for the screened metrics.
        training: the part of it that trains pairs.
        seed: of the run.
        files: where states are kept; None: nowhere.
    """

    def __init__(
        self,
        rules: CellRules,
        space: Pairs,
        evaluator: Evaluator,
        training: PairTraining,
        seed: int,
        files: CellFiles | None = None,
    ) -> None:
        self.rules, self.space, self.evaluator, self.training = rules, space, evaluator, training
        self.seed, self.files = seed, files
        self.cells = len(rules.neighbourhoods)
        self._pruning = CellPruning(rules, space, training)
        self._pool: dict[tuple[int, int, int], nn.Module] = {}

    def run(
        self, id: int, states: Sequence[PairState], moments: Moments
    ) -> tuple[Evaluation, Outcome | None]:
        """Do a step; step 0 makes a fresh pair.

        Args:
            states: of the neighbourhood, its own first; none at step 0.
            moments: of their optimisers.

        Returns:
            The evaluation of the pair that the cell holds now, and that pair; a FAILED evaluation with its
            reason, and None, where the user's code or the model raised.
        """
        began = time.perf_counter()
        candidate = Candidate(
            id, np.ones(self.space.length, dtype=np.uint8), (), "init", candidate_seed(self.seed, id)
        )
        isolation = Isolation(candidate.seed)
        try:
            with isolation:
                outcome, candidate = (
                    self._step(candidate, states, moments) if states else self._begin(candidate)
                )
        except BaseException as error:
            if (outside := isolation.from_outside(error)) is not None:
                raise outside from None
            return failed(candidate, reason(error), time.perf_counter() - began, worker_name()), None
        finally:
            isolation.close()
        if self.files is not None:
            self.files.write(id, outcome.state.to_bytes(outcome.moments))
        metrics = dict(outcome.state.metrics)
        return Evaluation(
            candidate, State.COMPLETE, metrics, {}, "", time.perf_counter() - began, worker_name()
        ), outcome

    # -- the parts of a step ---------------------------------------------------------------------------------

    def _begin(self, candidate: Candidate) -> tuple[Outcome, Candidate]:
        encoder, decoder = self.rules.architectures(candidate.id, self.space)
        candidate = replace(candidate, genome=self.space.whole(encoder, decoder))
        pair = self._module(0, encoder, decoder)
        reset(pair)
        metrics = self._measure(pair, candidate.genome, {"train_loss": float("nan")})
        metrics["train_loss"] = metrics["loss"]  # nothing was trained yet
        rate = self.rules.learning_rate or self.training.learning_rate
        state = self._state(candidate, pair, candidate.genome, (encoder, decoder), rate, metrics)
        return Outcome(state, {}), candidate

    def _step(
        self, candidate: Candidate, states: Sequence[PairState], moments: Moments
    ) -> tuple[Outcome, Candidate]:
        rules, step = self.rules, candidate.id // self.cells
        # two streams of random numbers, both of the candidate alone; the order of draws is part of a run
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, candidate.id, 1)))
        torch_rng = torch.Generator().manual_seed(candidate.seed)
        pairs = [self._load(place, state) for place, state in enumerate(states)]
        # meet: every encoder of the neighbourhood with every decoder, on one batch
        inputs, targets = self.training.draw(torch_rng)
        losses = (
            self.training.losses([p.encoder for p in pairs], [p.decoder for p in pairs], inputs, targets)
            .double()
            .numpy()
        )
        i, j = self._select(losses, rng)
        child = Child(self._genome(states[i].encoder, states[j].decoder))
        pair = self._join(pairs, states, i, j)
        # prune, before the training or after it, and train the child with a learning rate of its own
        controller = rules.controller.at(states[0].memory) if rules.controller is not None else None
        event = rng.random() < rules.probability(step)
        arm = -1
        if event and rules.prune_first:
            child, arm = self._pruning.prune(step, child, pair, controller, rng)
        rate = float(
            np.clip(
                states[0].learning_rate + rng.normal(0, 1) * rules.learning_rate_step,
                *rules.learning_rate_bounds,
            )
        )
        started = of_half(moments(i), "encoder") | of_half(moments(j), "decoder")
        train_loss, trained = self._train(pair, child.genome, started, rate, torch_rng)
        if event and not rules.prune_first:
            child, arm = self._pruning.prune(step, child, pair, controller, rng)
            self._pruning.mask(pair, child.genome)
        metrics = self._measure(pair, child.genome, {"train_loss": train_loss, "learning_rate": rate})
        diverged = not np.isfinite(list(metrics.values())).all() or not is_finite(pair)
        if arm >= 0 and controller is not None:
            after = (
                np.inf
                if diverged
                else float(self.training.losses([pair.encoder], [pair.decoder], inputs, targets)[0, 0])
            )
            controller.told(arm, after <= float(losses[i, j]) * (1 + rules.tolerance))
        memory = {} if controller is None else controller.state
        # the child takes the cell where it is better; else the cell keeps its pair, with the new rate
        if diverged:
            return self._reseed(candidate, states, losses, moments, memory)
        mixture = None
        if rules.mixture:
            mixture = mixed(states[0].mixture, pairs, inputs, targets, self._data.loss, rules.mixture, rng)
        if mixture:
            metrics["mixture_loss"] = mixture[0]
        if not rules.replacement.replaces(states[0].metrics, metrics):
            old = replace(states[0], learning_rate=rate, memory=memory, mixture=mixture[1] if mixture else ())
            return Outcome(old, moments(0)), self._as_it_is(candidate, old, "stay")
        parents = _origins(states[i].encoder, states[j].decoder)
        candidate = replace(
            candidate, genome=child.genome, parents=parents, operator="+".join(("train", *child.done))
        )
        architectures = states[i].encoder.architecture, states[j].decoder.architecture
        state = self._state(candidate, pair, child.genome, architectures, rate, metrics)
        state = replace(state, memory=memory, mixture=mixture[1] if mixture else ())
        return Outcome(state, trained), candidate

    def _select(self, losses: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
        """Return an encoder and a decoder of the neighbourhood."""
        size = self.rules.tournament
        if self.rules.mates == "together":
            pair = _tournament(np.nan_to_num(losses, nan=np.inf).ravel(), size, rng)
            return pair // len(losses), pair % len(losses)
        encoders, decoders = self.rules.concept(losses)
        encoder = _tournament(encoders, size, rng)
        return encoder, encoder if self.rules.mates == "whole" else _tournament(decoders, size, rng)

    def _train(
        self, pair: nn.Module, genome: np.ndarray, moments: Tensors, rate: float, generator: torch.Generator
    ) -> tuple[float, dict[str, Tensor]]:
        """Train a full pair; where whole units are gone, the compact one in its stead, which costs only what
        it keeps.
        """
        masks = self._pruning.mask(pair, genome)
        if not masks or self.space.granularity != "units":
            return self.training.train(pair, masks, dict(moments), rate, generator)
        compact = self.space.compact(pair, genome)
        loss, trained = self.training.train(
            compact, {}, each_moment(moments, lambda part: self.space.gather(genome, part)), rate, generator
        )
        full = pair.state_dict()
        pair.load_state_dict(self.space.scatter(genome, compact.state_dict(), full))
        zeros = {name: torch.zeros_like(tensor) for name, tensor in full.items()}
        return loss, each_moment(
            trained,
            lambda part: self.space.scatter(
                genome, part, {name: empty_like(part[name], zeros[name]) for name in part}
            ),
        )

    def _reseed(
        self,
        candidate: Candidate,
        states: Sequence[PairState],
        losses: np.ndarray,
        moments: Moments,
        memory: Mapping[str, list[float]],
    ) -> tuple[Outcome, Candidate]:
        """Where the training diverged, the cell goes on with the best pair of its neighbourhood, and with
        what it has learned itself.
        """
        own = np.diagonal(losses)
        best = int(np.argmin(np.where(np.isfinite(own), own, np.inf)))
        if not np.isfinite(own[best]):
            raise FloatingPointError(
                f"cell {candidate.id % self.cells} diverged, and so did all its neighbours; lower the "
                f"learning rate"
            )
        # half the rate: from the same weights the same rate would diverge again
        rate = max(states[best].learning_rate / 2, self.rules.learning_rate_bounds[0])
        state = replace(states[best], learning_rate=rate, memory=memory, mixture=())
        return Outcome(state, moments(best)), self._as_it_is(candidate, state, "reseed")

    @property
    def _data(self) -> Data:
        assert self.training.data is not None  # or it would not have been bound
        return self.training.data

    def _genome(self, encoder: Half, decoder: Half) -> np.ndarray:
        """The genome of a pair: what both halves keep."""
        return self.space.repair((encoder.keep & decoder.keep)[None])[0]

    def _as_it_is(self, candidate: Candidate, state: PairState, operator: str) -> Candidate:
        """The candidate of a cell that goes on with a pair that is there."""
        genome, parents = self._genome(*state.halves), _origins(*state.halves)
        return replace(candidate, genome=genome, parents=parents, operator=operator)

    # -- modules and states ----------------------------------------------------------------------------------

    def _module(self, place: int, encoder: int, decoder: int) -> Any:
        key = place, encoder, decoder
        if key not in self._pool:
            self._pool[key] = copy.deepcopy(self.space.pair(encoder, decoder))
        return self._pool[key]

    def _load(self, place: int, state: PairState) -> Any:
        pair = self._module(place, state.encoder.architecture, state.decoder.architecture)
        pair.load_state_dict(state.tensors())
        return pair

    def _join(self, pairs: Sequence[Any], states: Sequence[PairState], i: int, j: int) -> Any:
        """A pair of its own: those of the neighbourhood are met again by the mixture."""
        pair = self._module(-1, states[i].encoder.architecture, states[j].decoder.architecture)
        pair.encoder.load_state_dict(states[i].encoder.weights)
        pair.decoder.load_state_dict(states[j].decoder.weights)
        return pair

    def _measure(self, pair: nn.Module, genome: np.ndarray, known: Mapping[str, float]) -> dict[str, float]:
        screened = {name: float(values[0]) for name, values in self.evaluator.screen(genome[None]).items()}
        masks = self.space.masks(genome) if self.rules.persistent else None
        measured = self.training.measure(pair, masks)
        total = sum(parameter.numel() for parameter in pair.parameters())
        return screened | dict(known) | measured | {"alive": round(measured["kept"] * total)}

    def _state(
        self,
        candidate: Candidate,
        pair: Any,
        genome: np.ndarray,
        architectures: tuple[int, int],
        rate: float,
        metrics: Mapping[str, float],
    ) -> PairState:
        halves = []
        for module, loci, architecture in zip(
            (pair.encoder, pair.decoder),
            (self.space.encoder_loci, self.space.decoder_loci),
            architectures,
            strict=True,
        ):
            keep = np.where(loci, genome, 1).astype(np.uint8)
            weights = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
            halves.append(Half(weights, keep, candidate.id, architecture))
        return PairState(halves[0], halves[1], rate, dict(metrics))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": {}}


def _tournament(scores: np.ndarray, size: int, rng: np.random.Generator) -> int:
    """Return the best of so many drawn at random, with replacement; of equals the first drawn."""
    drawn = rng.integers(0, len(scores), size)
    return int(drawn[np.argmin(scores[drawn])])


def _origins(encoder: Half, decoder: Half) -> tuple[int, ...]:
    return tuple(dict.fromkeys((encoder.origin, decoder.origin)))
