"""Coevolution of encoders and decoders: what a user sets."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.data.base import SPLITS, Split
from operators.controller import Controller
from operators.mutation.base import Mutation
from operators.schedules import Never, Schedule
from search.budget import Budget
from search.coevolution.concepts import BestCase, SolutionConcept
from search.coevolution.grids import make_grid
from search.coevolution.loop import CellLoop, rehearse, step_seconds
from search.coevolution.replacement import Always, Replacement
from search.coevolution.rules import CellRules, Mates
from search.coevolution.topology import Ring, Topology
from search.executors.base import Executor
from search.loop import Order
from search.problem import Problem
from search.record.ledger import Ledger
from search.strategy import SearchStrategy
from search.tally import SearchLoop
from spaces.errors import InputError, require

MATES: tuple[Mates, ...] = ("apart", "whole", "together")
GUIDE = {"outputs", "outgoing", "removal", "cost"}
"""What a cell step tells mutations: recorded outputs of units, norms of the weights that read them, what the
loss rises by where one is removed, and the share of the parameters that go with it."""


class Coevolution(CellRules, SearchStrategy):
    """Populations of encoders and decoders on a graph of cells, pruned while they are trained (Hemberg et
    al., GECCO 2025 [P]).

    It is no ask and tell strategy: what a cell becomes is known only when its step is done, and a step needs
    its neighbours' pairs, not their figures. So cells are a graph of tasks that no driver has to pass on (see
    :class:`search.coevolution.CellLoop`).

    A step of a cell: the losses of all encoders of its neighbourhood with all decoders on one batch; scores;
    a tournament for the encoder and one for the decoder; by the schedule a pruning mutation; training;
    replacement; a new learning rate.

    Args:
        topology: which cells meet; None: a ring of ten cells [P].
        radius: edges within which cells meet.
        steps: of every cell; schedules depend on it.
        concept: what an individual is worth that met several partners; None: its best case [P].
        mates: ``apart``: a tournament of encoders and one of decoders, by their scores [P]; ``whole``: one of
            encoders, whose own decoders come along [P: the published code]; ``together``: one of all pairs by
            their losses, which parts halves only where strangers fit each other better [O].
        tournament: individuals (pairs) drawn, of which the best is taken.
        schedule: how likely a pruning event is at a step; None: never.
        pruning: mutations that only take away; at an event one of them at random.
        smallest: share that is left at the last step, of the loci or of the parameters, whichever the
            mutation counts: every event takes, whatever the mutation's own `amount`, what leads there in
            equal ratios, so that cells are of about one size at a step and compare by their losses alone [O].
            None: the mutation's amount.
        untouched: steps before the first event.
        controller: instead of `pruning`: chooses among mutations by their success so far, and adapts how much
            they take [O].
        tolerance: a pruning was a success where the loss on the batch of the step, after training, is at most
            by this share above that before it.
        persistent: whether what was pruned stays pruned; false: it may grow again at once, as in the
            published code.
        prune_first: whether a step prunes, then trains; false: the other way round [P].
        cases: samples on which activations are recorded for an event.
        cases_split: where they come from; the published code takes the test split.
        replacement: whether a new pair takes the cell's place; None: always [P].
        learning_rate: of every cell at first; None: that of the training.
        learning_rate_step: standard deviation of what is added to it at every step [P: 1e-5].
        learning_rate_bounds: within which it stays.
        mixture: deviation of the (1+1)-ES on the weights of the neighbourhood's mean output (Lipizzaner [P]);
            0: no mixture.
        ahead: steps by which a cell may be ahead of the last one.

    Raises:
        InputError: a setting out of its range, or a topology that is not connected.
    """

    needs_state = True  # pairs are files
    starts_from_base = False  # pairs begin with random weights: there is nothing to evaluate or to score

    def __init__(
        self,
        topology: Topology | None = None,
        radius: int = 1,
        steps: int = 100,
        concept: SolutionConcept | None = None,
        mates: Mates = "apart",
        tournament: int = 2,
        schedule: Schedule | None = None,
        pruning: Sequence[Mutation] = (),
        smallest: float | None = None,
        untouched: int = 0,
        controller: Controller | None = None,
        tolerance: float = 0.05,
        persistent: bool = True,
        prune_first: bool = True,
        cases: int = 100,
        cases_split: Split = "calibration",
        replacement: Replacement | None = None,
        learning_rate: float | None = None,
        learning_rate_step: float = 0.0,
        learning_rate_bounds: tuple[float, float] = (1e-9, 10.0),
        mixture: float = 0.0,
        ahead: int = 4,
    ) -> None:
        low, high = learning_rate_bounds
        mutations = (*pruning, *(controller.mutations if controller is not None else ()))
        require(
            "strategy",
            (steps >= 1, f"steps {steps}; expected at least 1"),
            (mates in MATES, f"mates {mates!r}; expected {', '.join(MATES)}"),
            (tournament >= 1, f"tournament {tournament}; expected at least 1"),
            (tolerance >= 0, f"tolerance {tolerance}; expected at least 0"),
            (
                smallest is None or 0 < smallest < 1,
                f"smallest {smallest}; expected a share above 0 and below 1, or null",
            ),
            (0 <= untouched < steps, f"untouched {untouched}; expected 0 to {steps - 1}"),
            (cases >= 2, f"cases {cases}; expected at least 2"),
            (cases_split in SPLITS, f"cases_split {cases_split!r}; expected one of {', '.join(SPLITS)}"),
            (
                learning_rate is None or learning_rate > 0,
                f"learning_rate {learning_rate}; expected more than 0 or null",
            ),
            (learning_rate_step >= 0, f"learning_rate_step {learning_rate_step}; expected at least 0"),
            (0 < low <= high, f"learning_rate_bounds {low:g}, {high:g}; expected two rising numbers above 0"),
            (mixture >= 0, f"mixture {mixture}; expected at least 0"),
            (ahead >= 1, f"ahead {ahead}; expected at least 1"),
            (
                not pruning or schedule is not None,
                "pruning without a schedule; expected a schedule, such as operators.schedules.Exponential",
            ),
            (
                bool(mutations) or schedule is None,
                "a schedule without pruning; expected at least one pruning mutation",
            ),
            *(
                (
                    set(m.needs) <= GUIDE,
                    f"pruning {type(m).__name__} needs {', '.join(m.needs)}; there is "
                    f"{' and '.join(sorted(GUIDE))}",
                )
                for m in mutations
            ),
            (
                controller is None or not pruning,
                "pruning beside a controller; expected one of them: the controller has mutations of its own",
            ),
        )
        self.topology, self.radius, self.steps = topology or Ring(), radius, steps
        self.tournament = tournament
        self.mates: Mates = mates
        self.concept, self.replacement = concept or BestCase(), replacement or Always()
        self.schedule: Schedule = schedule or Never()
        self.smallest, self.untouched = smallest, untouched
        self.pruning, self.controller, self.tolerance = tuple(pruning), controller, tolerance
        self.persistent, self.prune_first, self.cases = persistent, prune_first, cases
        self.cases_split = cases_split
        self.learning_rate, self.learning_rate_step = learning_rate, learning_rate_step
        self.learning_rate_bounds = low, high
        self.mixture, self.ahead = mixture, ahead
        # made at once, so that a graph that does not fit is refused here
        self._neighbourhoods = self.topology.neighbourhoods(radius)

    def make_loop(
        self,
        problem: Problem,
        executor: Executor,
        ledger: Ledger,
        budget: Budget,
        *,
        seed: int = 0,
        order: Order = "strict",
        lag: int = 64,
        chunk: int = 16,
        listeners: Sequence[object] = (),
    ) -> SearchLoop:
        if budget.epochs is not None:
            raise InputError(
                f"budget.epochs {budget.epochs:g}: a coevolution ends by its steps; expected null"
            )
        return CellLoop(
            problem, self, make_grid(executor), executor, ledger, budget, seed=seed, listeners=listeners
        )

    def rehearse(self, problem: Problem, seed: int) -> None:
        """Make and measure the first cell's first pair."""
        rehearse(problem, self, seed)

    def candidate_seconds(self, problem: Problem, seed: int) -> float:
        return step_seconds(problem, self, seed)

    def most_candidates(self) -> int:
        return self.candidates

    def cell_graph(self) -> tuple[int, list[list[int]]]:
        graph = self.topology.graph()
        return len(graph), sorted(sorted(edge) for edge in graph.edges)
