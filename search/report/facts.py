"""What the report tells, gathered from the ledger in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluators.base import Evaluation, State
from search.ending import Ending
from search.front import Front, VolumeBox
from search.problem import Problem
from search.record.about import About
from search.record.finals import BASE, Final, load_finals
from search.record.ledger import Ledger
from search.report.cell_facts import CellFacts
from search.report.nothing_complete import nothing_complete
from search.report.nothing_feasible import nothing_feasible
from search.report.race_facts import RaceFacts
from search.report.supernet_facts import Course, gather_courses
from search.report.trials import TrialRow, gather_trials

_BLOCK = 1000  # rows that are held against one front at once


@dataclass(eq=False)
class OperatorRecord:
    """What became of the candidates that an operator had a part in.

    Attributes:
        asked: evaluations.
        completed: of these, those that gave metrics.
        joined: those that were on the front when they came in.
        stayed: those that are on it at the end.
    """

    name: str
    asked: int = 0
    completed: int = 0
    joined: int = 0
    stayed: int = 0


@dataclass(eq=False)
class Facts:
    """A run in numbers; ``n`` completed evaluations in the order of arrival.

    Attributes:
        metrics: of the objectives and of all other metrics, each float64 of shape ``(n,)``.
        ids: of the candidates, int64 ``(n,)``.
        feasible: bool ``(n,)``.
        joined: whether each was on the front when it came in, bool ``(n,)``.
        parents: candidate -> those that it comes from, and the operator that made it.
        front: sorted by the first objective.
        history: ``(evaluations, hypervolume)`` whenever the front changed, the hypervolume as a share of the
            box of the run; empty where too few candidates came to their end to settle it.
        reasons: why candidates failed, and how often.
        trials: of a hyper-parameter search, in the order in which they were asked; else empty.
        cells: of a coevolution; else None.
        courses: of a search of cells, the best first; else empty.
        race: what racing has saved.
        left: members that were finished and have left the front of the search since.
        complaint: why nothing came to its end, or nothing is within the limits, and what to change; empty
            where there is a front.
    """

    about: About
    finals: list[Final]
    ids: np.ndarray
    metrics: dict[str, np.ndarray]
    feasible: np.ndarray
    joined: np.ndarray
    parents: dict[int, tuple[tuple[int, ...], str]]
    front: list[Evaluation]
    history: list[tuple[int, float]]
    operators: list[OperatorRecord]
    reasons: Counter[str]
    states: Counter[str]
    seconds: float
    segments: list[tuple[str, int, int]]
    ending: Ending | None = None
    trials: list[TrialRow] = field(default_factory=list)
    cells: CellFacts | None = None
    courses: list[Course] = field(default_factory=list)
    race: RaceFacts = field(default_factory=RaceFacts)
    left: list[Evaluation] = field(default_factory=list)
    complaint: str = ""

    @property
    def objectives(self) -> list[str]:
        return [objective["metric"] for objective in self.about.objectives]

    @property
    def evaluated(self) -> int:
        """Number of evaluations, whatever came of them."""
        return sum(self.states.values())

    @property
    def base(self) -> Final | None:
        return next((final for final in self.finals if final.id == BASE), None)

    @property
    def members(self) -> list[Final]:
        """The finals but for the base model."""
        return [final for final in self.finals if final.id != BASE]

    def shares(self, genome: np.ndarray) -> np.ndarray:
        """Return the kept share of every segment (for keep bits), or the level as a share of the highest,
        shape ``(segments,)``.
        """
        starts = np.cumsum([0, *(size for _, size, _ in self.segments)])
        pieces = zip(self.segments, starts, starts[1:], strict=False)
        return np.array([genome[a:b].mean() / (choices - 1) for (_, _, choices), a, b in pieces])


def gather(ledger: Ledger) -> Facts:
    """Read a run.

    Raises:
        InputError: where it has not begun to evaluate.
    """
    about = About.load(ledger)
    problem = about.problem()
    rows: list[dict[str, float]] = []
    ids: list[int] = []
    places: list[int] = []  # of the complete evaluations among all of them
    parents: dict[int, tuple[tuple[int, ...], str]] = {}
    operators: dict[str, OperatorRecord] = {}
    reasons: Counter[str] = Counter()
    states: Counter[str] = Counter()
    seconds = 0.0
    cells, race = CellFacts.empty(about, ledger), RaceFacts()
    count = 0
    # in the order of arrival, so that a front grows here as it grew in the search
    for count, (_, evaluation) in enumerate(ledger.evaluations(), start=1):
        candidate = evaluation.candidate
        parents[candidate.id] = (candidate.parents, candidate.operator)
        records = [operators.setdefault(name, OperatorRecord(name)) for name in parts_of(candidate.operator)]
        for record in records:
            record.asked += 1
        states[evaluation.state.value] += 1
        seconds += evaluation.seconds
        race.add(evaluation)
        if evaluation.state is not State.COMPLETE:
            if evaluation.state is State.FAILED:
                reasons[evaluation.reason] += 1
            continue
        # all below is about evaluations that gave metrics: one row each in every array
        if cells is not None:
            cells.add(evaluation)
        for record in records:
            record.completed += 1
        ids.append(candidate.id)
        rows.append(evaluation.metrics)
        places.append(count)
    metrics = {name: np.array([row.get(name, np.nan) for row in rows]) for name in (rows[0] if rows else {})}
    front, changes = _grow(problem, ledger, ids, metrics)
    for row in changes:
        for name in parts_of(parents[ids[row]][1]):
            operators[name].joined += 1
    # an operator that made a member with another one is counted for it as well
    members = front.members
    finals = load_finals(ledger)
    gone = {final.id for final in finals} - {member.candidate.id for member in members}
    left = [found for id in sorted(gone) if (found := ledger.evaluation(id, arrays=False)) is not None]
    for member in members:
        for name in parts_of(member.candidate.operator):
            operators[name].stayed += 1
    excess = problem.violation(metrics) if metrics else np.zeros(0)
    return Facts(
        about=about,
        finals=finals,
        ids=np.array(ids, dtype=np.int64),
        metrics=metrics,
        feasible=excess <= 0,
        joined=np.isin(np.arange(len(ids)), [*changes]),
        parents=parents,
        front=members,
        history=_history(
            VolumeBox.of(_values(problem, metrics)),
            [(places[row], values) for row, values in changes.items()],
            count,
        ),
        operators=sorted(operators.values(), key=lambda record: -record.asked),
        reasons=reasons,
        states=states,
        seconds=seconds,
        segments=[(segment.name, segment.size, segment.choices) for segment in ledger.segments],
        ending=Ending.read(ledger.note),
        trials=gather_trials(ledger, about),
        cells=cells,
        race=race,
        courses=gather_courses(ledger, about) if "search_cost" in metrics else [],
        left=left,
        complaint=nothing_complete(ledger) or ("" if members else nothing_feasible(ledger, about)),
    )


def _grow(
    problem: Problem, ledger: Ledger, ids: Sequence[int], metrics: Mapping[str, np.ndarray]
) -> tuple[Front, dict[int, np.ndarray]]:
    """Return the front, and its values after every row that joined it, as it grew in the search."""
    front = Front(problem)
    changes: dict[int, np.ndarray] = {}
    if not ids:
        return front, changes
    values = _values(problem, metrics)
    for start in range(0, len(ids), _BLOCK):
        # most are behind the front as it is by now; the others are looked at one by one
        for row in (start + np.flatnonzero(front.beyond(values[start : start + _BLOCK]))).tolist():
            evaluation = ledger.evaluation(ids[row], arrays=False)
            if evaluation is not None and front.add(evaluation):
                changes[row] = front.values
    return front, changes


def _values(problem: Problem, metrics: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return objective values, all to be minimised, of shape ``(n, objectives)``."""
    if not metrics:
        return np.empty((0, len(problem.objectives)))
    return np.column_stack(
        [-metrics[o.metric] if o.maximise else metrics[o.metric] for o in problem.objectives]
    )


def parts_of(operator: str) -> list[str]:
    """Return the operators that made a candidate: crossover and mutation are counted each for itself."""
    return operator.split("+")


def _history(
    box: VolumeBox | None, changes: Sequence[tuple[int, np.ndarray]], count: int
) -> list[tuple[int, float]]:
    """Hypervolume of every front, as a share of the box of the run; empty where it is not settled."""
    if not changes or box is None:
        return []
    thinned = changes if len(changes) <= 400 else [*changes[:: len(changes) // 400 + 1], changes[-1]]
    history = [(seen, box.share(values)) for seen, values in thinned]
    return [*history, (count, history[-1][1])]
