"""Multi-objective evolution without generations."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from evaluators.base import Candidate, Evaluation
from operators.base import Guide
from operators.crossover import Crossover, SegmentWise, Uniform
from operators.initialisation import Initialisation
from operators.mutation import ActivationGuided, BitFlip, BudgetShift, CriterionGuided, Growth, Mutation
from operators.mutation.growth import growing
from operators.selection import NSGA2Selection, NSGA3Selection, Selection
from search.problem import Problem
from search.strategies.expected_improvement import ExpectedImprovement
from search.strategies.ladder import PROMOTED, Ladder
from search.strategies.parts import Parts
from search.strategies.population import Member, Population
from search.strategies.preselection import Preselection
from search.strategies.proposals import (
    Proposal,
    default_initialisation,
    initial,
    proposals_of,
    proposals_state,
)
from search.strategies.screening import Screening
from search.strategy import Strategy
from spaces.errors import InputError, require


class Evolution(Strategy):
    """Steady-state NSGA-II (Deb et al. 2002 [P], steady state as in Durillo et al. 2009 [P]), assembled from
    exchangeable parts.

    It begins with the base genome, where the space has one, and genomes of the initialisation: as many as the
    population holds (all that another run found, where it begins with one:
    :class:`~search.warm_start.from_run.FromRun`). Every further candidate has two parents, each the best of a
    tournament; it is crossed, then changed by one mutation drawn from those whose needs the guide meets; one
    that works alone (:attr:`Mutation.alone`) changes the first parent itself.
    :class:`~search.strategies.screening.Screening` sees to feasibility and duplicates,
    :class:`~search.strategies.population.Population` to survival. A candidate's ``operator`` names what made
    it, joined by ``+``, for example ``Uniform+BitFlip``.

    Guide: the problem's, and of every parent the arrays of its evaluation that hold one number a locus
    (``activation``).

    Args:
        population: members that may become parents; "auto": as many as suit the results so far, with several
            objectives 64 (:attr:`Population.size <search.strategies.population.Population.size>`).
        initialisation: of the first candidates; by default from criteria, where the problem has scores.
        crossover: a list is drawn from; by default uniform, and segment-wise where there are several
            segments.
        mutations: each child draws one; by default all that fit the space and the guide; among them
            ``Growth`` only of architectures that inherit weights.
        selection: of survivors; by default NSGA-II, from four objectives on NSGA-III.
        tournament: members that compete to be a parent; 1 is chance; "auto": 4 where there is one objective
            or a model by default, else 2.
        redraws: how often a duplicate or infeasible child is drawn again before it is mended.
        fidelity: whether candidates are looked at briefly first, and which are trained on; by default
            all are evaluated once.
        surrogate: chooses the more promising of several children; "auto":
            :class:`~search.strategies.expected_improvement.ExpectedImprovement` in spaces of at most 64
            choices that are no masks of channels, where candidates are evaluated once and inherit nothing;
            None: none does.

    Raises:
        InputError: for a population or tournament without members; at the start, for a mutation that needs
            scores that nothing provides.
    """

    former_defaults: ClassVar[dict[str, Any]] = {"population": 64, "tournament": 2, "surrogate": None}

    def __init__(
        self,
        population: int | Literal["auto"] = "auto",
        initialisation: Initialisation | None = None,
        crossover: Crossover | Sequence[Crossover] | None = None,
        mutations: Sequence[Mutation] | None = None,
        selection: Selection | None = None,
        tournament: int | Literal["auto"] = "auto",
        redraws: int = 4,
        fidelity: Ladder | None = None,
        surrogate: Preselection | Literal["auto"] | None = "auto",
    ) -> None:
        require(
            "Evolution",
            (
                population == "auto" or population >= 2,
                f"population {population} is not accepted; it must be at least 2",
            ),
            (
                tournament == "auto" or tournament >= 1,
                f"tournament {tournament} is not accepted; it must be at least 1",
            ),
            (redraws >= 0, f"redraws {redraws} is not accepted; it must be at least 0"),
            (
                mutations is None or mutations,
                "mutations is empty; give at least one, or leave it out for the default",
            ),
        )
        self.population, self.tournament, self.redraws = population, tournament, redraws
        self.initialisation, self.crossover, self.mutations = initialisation, crossover, mutations
        self.selection = selection
        self.fidelity, self.surrogate = fidelity, surrogate

    def start(self, problem: Problem, seed: int) -> None:
        super().start(problem, seed)
        goals = len(problem.objectives)
        self._members = Population(
            problem,
            None if self.population == "auto" else self.population,
            self.selection or (NSGA3Selection() if goals > 3 else NSGA2Selection()),
            self.rng,
        )
        self._preselection = (
            self.surrogate if self.surrogate != "auto" else _preselection(problem, self.fidelity)
        )
        keen = goals == 1 or (self.surrogate == "auto" and self._preselection is not None)
        self._competing = self.tournament if self.tournament != "auto" else 4 if keen else 2
        self._screening = Screening(problem, self.rng, self.redraws)
        chosen = self.initialisation or default_initialisation(problem.space, problem.guide)
        self._initial = initial(problem, chosen, self.rng)
        self._crossovers = _crossovers(problem, self.crossover)
        self._mutations = _mutations(problem, self.mutations)
        self._parts = Parts([chosen, *self._crossovers, *self._mutations, self._members.selection])
        self._first: deque[Proposal] | None = None
        for part in (self.fidelity, self._preselection):
            if part is not None:
                part.start(problem, self.rng)

    def ask(self, n: int) -> list[Candidate]:
        if self._first is None:
            self._first = deque() if self._members.ids else deque(self._beginning())
        proposals = [] if self.fidelity is None else self.fidelity.due(n)
        proposals += [self._first.popleft() for _ in range(min(n - len(proposals), len(self._first)))]
        model = self._preselection
        draw = self._children if model is None else model.over(self._children, self._initial)
        proposals += self._screening.take(n - len(proposals), draw)
        candidates = [self._candidate(p.genome.copy(), p.parents, p.operator) for p in proposals]
        if self._preselection is not None:
            self._preselection.asked([c for c in candidates if c.operator != PROMOTED])
        return candidates

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            # where another strategy went before this one, that one asked it
            self._screening.admit(evaluation.candidate.genome)
        for part in (self._members, self.fidelity, self._preselection):
            if part is not None:
                part.tell(evaluations)

    def heirs(self) -> set[int]:
        return self._members.ids | (self.fidelity.ids if self.fidelity is not None else set())

    def state(self) -> dict[str, Any] | None:
        if (parts := self._parts.state()) is None:
            return None
        length = self.problem.space.length
        return self._counters() | {
            "parts": parts,
            "members": self._members.state(),
            "screening": self._screening.state(),
            "first": None if self._first is None else proposals_state(self._first, length),
            "fidelity": None if self.fidelity is None else self.fidelity.state(),
            "surrogate": None if self._preselection is None else self._preselection.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._parts.restore(state["parts"])
        self._members.restore(state["members"])
        self._screening.restore(state["screening"])
        self._first = None if state["first"] is None else deque(proposals_of(state["first"]))
        if self.fidelity is not None:
            self.fidelity.restore(state["fidelity"])
        if self._preselection is not None:
            self._preselection.restore(state["surrogate"])
        self._set_counters(state)  # last: the parts share the generator

    def _beginning(self) -> list[Proposal]:
        base = self.problem.space.base
        first = [] if base is None or not self._screening.admit(base) else [Proposal(base, operator="base")]
        at_hand = (
            0 if self.initialisation is None else self.initialisation.at_hand(self.problem.space, self.rng)
        )
        # with a model fewer are enough to begin with
        few = self.population == "auto" and self._preselection is not None
        many = min(_FIRST, self._members.size) if few else self._members.size
        return first + self._screening.take(max(many - len(first), at_hand), self._initial)

    def _children(self, n: int) -> list[Proposal]:
        mothers, fathers = (self._members.choose(n, self._competing) for _ in range(2))
        if not mothers:
            # no result has come back yet, or all have failed
            return self._initial(n)
        genomes, crossed = self._cross(mothers, fathers)
        children, crossed, mutated = self._mutate(
            np.stack([m.genome for m in mothers]), genomes, crossed, self._guide(mothers, fathers)
        )
        return [
            Proposal(
                child,
                tuple(dict.fromkeys((m.id, f.id) if by else (m.id,))),
                "+".join(filter(None, (by, how))) or "copy",
            )
            for child, m, f, by, how in zip(children, mothers, fathers, crossed, mutated, strict=True)
        ]

    def _cross(self, mothers: Sequence[Member], fathers: Sequence[Member]) -> tuple[np.ndarray, list[str]]:
        """Return children ``(n, length)`` and by what each was crossed, "" where it is its mother's copy."""
        first, second = np.stack([m.genome for m in mothers]), np.stack([m.genome for m in fathers])
        children, drawn = first.copy(), self.rng.integers(len(self._crossovers), size=len(first))
        for number, crossover in enumerate(self._crossovers):
            if (rows := drawn == number).any():
                children[rows] = crossover(self.problem.space, first[rows], second[rows], self.rng)
        return children, _names(self._crossovers, drawn, (children != first).any(axis=1))

    def _mutate(
        self, mothers: np.ndarray, genomes: np.ndarray, crossed: list[str], guide: Guide
    ) -> tuple[np.ndarray, list[str], list[str]]:
        """Return changed genomes ``(n, length)``, what crossed each and what changed each, "" where nothing
        did.
        """
        usable = [mutation for mutation in self._mutations if guide.keys() >= set(mutation.needs)]
        if not usable:
            raise InputError(
                f"Evolution: the guide has {', '.join(guide) or 'nothing'}, which serves none of the "
                f"mutations; add BitFlip"
            )
        drawn = self.rng.integers(len(usable), size=len(genomes))
        # a mutation that works alone changes the mother herself, whatever was crossed
        alone = np.array([mutation.alone for mutation in usable])[drawn]
        genomes = np.where(alone[:, None], mothers, genomes)
        children = genomes.copy()
        for number, mutation in enumerate(usable):
            if (rows := drawn == number).any():
                # entries of one row serve all children, others have a row for each
                part = {name: entry[rows] if entry.ndim == 2 else entry for name, entry in guide.items()}
                children[rows] = mutation(self.problem.space, genomes[rows], part, self.rng)
        crossed = ["" if single else by for single, by in zip(alone, crossed, strict=True)]
        return children, crossed, _names(usable, drawn, (children != genomes).any(axis=1))

    def _guide(self, mothers: Sequence[Member], fathers: Sequence[Member]) -> Guide:
        """Return the problem's guide and the statistics of the parents ``(n, length)``: the mother's, where
        she has none the father's.
        """
        guide = dict(self.problem.guide)
        for name in sorted({name for member in (*mothers, *fathers) for name in member.statistics}):
            unknown = np.full(self.problem.space.length, np.nan)
            own, other = (
                np.stack([m.statistics.get(name, unknown) for m in side]) for side in (mothers, fathers)
            )
            guide[name] = np.where(np.isnan(own), other, own)
        return guide


def _preselection(problem: Problem, fidelity: Ladder | None) -> Preselection | None:
    """Return what chooses among children by default: a model, where a genome is a few choices and a result
    says what its genome is worth.
    """
    channels = any(segment.choices == 2 and segment.size > 1 for segment in problem.space.segments)
    few = problem.space.length <= _FEW
    plain = fidelity is None and not problem.evaluator.inherits
    return ExpectedImprovement() if few and plain and not channels else None


def _names(operators: Sequence[object], drawn: np.ndarray, effective: np.ndarray) -> list[str]:
    """Return the class name of each row's operator, "" where it had no effect."""
    return [
        type(operators[number]).__name__ if effect else ""
        for number, effect in zip(drawn, effective, strict=True)
    ]


def _crossovers(problem: Problem, given: Crossover | Sequence[Crossover] | None) -> list[Crossover]:
    if given is None:
        return (
            [Uniform(), SegmentWise()]
            if any(s.size > 1 for s in problem.space.segments) and len(problem.space.segments) > 1
            else [Uniform()]
        )
    return [given] if isinstance(given, Crossover) else list(given)


def _mutations(problem: Problem, given: Sequence[Mutation] | None) -> list[Mutation]:
    """Return the mutations; by default those that fit: guided ones and shifts of whole segments where
    channels are kept or dropped.

    Where architectures inherit weights they grow, too: larger children lose nothing of their parents'.
    """
    if given is not None:
        return list(given)
    if not any(segment.choices == 2 and segment.size > 1 for segment in problem.space.segments):
        return [BitFlip(), Growth()] if problem.evaluator.inherits and growing(problem.space) else [BitFlip()]
    scores = [name for name in problem.guide if name not in problem.of_parent and name != "random"]
    guided: list[Mutation] = (
        [CriterionGuided(scores), BudgetShift(criteria=scores)] if scores else [BudgetShift()]
    )
    return [BitFlip(), *guided, ActivationGuided()]


_FEW = 64  # loci that a model can tell apart
_FIRST = 16  # candidates that a search with a model begins with
