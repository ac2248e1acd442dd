"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evaluators.base import Report, State
from search.front import VolumeBox
from search.numbers import number

if TYPE_CHECKING:
    from search.tally import SearchLoop

_REFRESH = 0.2
"""Seconds between two changes of a live line."""
_PATIENCE = 5.0
"""Seconds after which it is said elsewhere than on a terminal what is being done."""
_BAR = 24
"""Columns of a bar where there is room."""
_WINDOW, _LEAST = 30.0, 1.0
"""Seconds over which the rate is measured, at most and at least."""


class _Cell:
    """A line below the cell of a notebook, with a bar before it; it is written over, and goes at the end."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html: Callable[[str], Any] = HTML
        self._handle = display(HTML(""), display_id=True)

    def update(self, text: str, done: int, total: int | None) -> None:
        """Write the line."""
        share = f' value="{done}" max="{total}"' if total else ""
        bar = f'<progress{share} style="width:14em;vertical-align:middle"></progress>'
        self._handle.update(self._html(f"{bar} <code>{escape(text)}</code>"))

    def close(self) -> None:
        """Take it away."""
        self._handle.update(self._html(""))


class Progress:
    """Shows the stages of a run: a line that changes on a terminal and in a notebook, plain lines elsewhere.

    Args:
        console: where to; standard error by default, so that standard output holds results only.
        interval: seconds between two plain lines where there is no terminal.
    """

    def __init__(self, console: Console | None = None, interval: float = 10.0) -> None:
        self.console = console or Console(stderr=True, soft_wrap=True, highlight=False)
        self.interval = interval
        self._live: Live | None = None
        self._cell: _Cell | None = None
        self._shown = -math.inf

    @classmethod
    def silent(cls) -> Progress:
        """Return one that shows nothing."""
        return cls(Console(quiet=True, file=io.StringIO()))

    @classmethod
    def of_notebook(cls) -> Progress:
        """Return one that shows a run in a notebook, and nothing anywhere else."""
        progress = cls()
        return progress if progress.console.is_jupyter else cls.silent()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, markup=False)

    @contextmanager
    def opening(self, text: str) -> Iterator[None]:
        """Say what is about to be done: at once on a terminal, elsewhere only if it takes its time, so that
        of a mistake nothing is written but the mistake.
        """
        if self.console.is_terminal:
            self.say(text)
            yield
            return
        later = threading.Timer(_PATIENCE, self.say, (text,))
        later.daemon = True
        later.start()
        try:
            yield
        finally:
            later.cancel()

    def step(self, text: str, done: int, total: int) -> None:
        """Show how far a stage of counted steps (epochs, members) is."""
        rich = Text.assemble((f"{text} ", "bold"), f"{done}/{total}")
        self._show(rich, f"{text} {done}/{total}", done, total)

    def training(self, report: Report, epochs: int) -> None:
        """Show an epoch of training the base model."""
        figures = ", ".join(f"{name} {number(value)}" for name, value in report.metrics.items())
        done = min(report.step, epochs)
        rich = Text.assemble(("training the base model ", "bold"), f"{done}/{epochs}  ", (figures, "dim"))
        self._show(rich, f"training the base model {done}/{epochs}: {figures}", done, epochs)

    def search(self, text: str, done: int, total: int | None) -> None:
        """Show where the search is."""
        grid = Table.grid(padding=(0, 1))
        width = min(_BAR, max(_BAR // 4, self.console.width - len(text) - 2))  # the text has its line first
        grid.add_row(
            ProgressBar(total=total or 1, completed=min(done, total or 1), width=width, pulse=total is None),
            text,
        )
        self._show(grid, text, done, total)

    @contextmanager
    def stage(self) -> Iterator[Progress]:
        """Keep a line alive at the bottom of a terminal, or below the cell of a notebook, while a stage
        lasts.
        """
        if self.console.is_jupyter:
            self._shown, self._cell = -math.inf, _Cell()
            try:
                yield self
            finally:
                self._cell.close()
                self._cell = None
        elif self.console.is_terminal:
            self._shown = -math.inf
            with Live(console=self.console, transient=True, refresh_per_second=8) as self._live:
                try:
                    yield self
                finally:
                    self._live = None
        else:
            yield self

    def _show(self, rich: Text | Table, plain: str, done: int, total: int | None) -> None:
        if self.due:
            self._shown = time.monotonic()
            if self._live is not None:
                self._live.update(rich)
            elif self._cell is not None:
                self._cell.update(plain, done, total)
            else:
                self.say(plain)

    @property
    def due(self) -> bool:
        """Whether the last line is old enough to be replaced, or followed."""
        return time.monotonic() - self._shown >= (_REFRESH if self._live or self._cell else self.interval)


class SearchProgress:
    """Shows the search, as a listener of its loop: evaluations, rate, workers, feasible share, front,
    hypervolume, failures, time left.
    """

    def __init__(self, progress: Progress, opening: str) -> None:
        self.progress, self._opening = progress, opening
        self._box: VolumeBox | None = None
        self._volume = 0.0
        self._times: deque[tuple[float, int]] = deque()

    def tick(self, loop: SearchLoop) -> None:
        """Show where the search is; told by the loop."""
        if self._opening:
            self.progress.say(self._opening)
            self._opening = ""
        if loop.reading:
            words = f"reading {loop.asked:,} of {loop.recorded:,} candidates"
            self.progress.search(words, loop.asked, loop.recorded)
            return
        now = time.monotonic()
        # the time until the first result starts the workers, and says nothing about the rate
        if _done(loop) > loop.restored and (not self._times or now - self._times[-1][0] >= 0.5):
            self._times.append((now, _done(loop)))
            while len(self._times) > 2 and now - self._times[1][0] > _WINDOW:
                self._times.popleft()
        if self.progress.due:  # the text costs milliseconds, candidates may take less
            self.progress.search(self.text(loop), _done(loop), loop.budget.evaluations)

    def text(self, loop: SearchLoop) -> str:
        """The state of the search in one plain line."""
        total, workers = loop.budget.evaluations, loop.executor.capacity
        failed, left = loop.states[State.FAILED], self.left(loop)
        single = len(loop.problem.objectives) == 1
        pruned = loop.states[State.PRUNED]
        parts = [
            f"{_done(loop)}{f'/{total}' if total is not None else ''} evaluations",
            f"{number(loop.epochs)}/{number(loop.budget.epochs)} epochs"
            if loop.budget.epochs is not None
            else "",
            f"{self.rate(loop):.3g}/s" if self.rate(loop) else "",
            f"{workers} worker{'s' if workers != 1 else ''}",
            steps(loop.steps.values()),
            f"feasible {loop.feasible / max(loop.states[State.COMPLETE], 1):.0%}"
            if loop.problem.constraints or not single
            else "",
            *self._found(loop),
            f"{pruned} pruned" if pruned else "",
            f"{failed} failed" if failed else "",
            f"{duration(left)} left" if left is not None else "",
        ]
        return ", ".join(part for part in parts if part)

    def _found(self, loop: SearchLoop) -> list[str]:
        """The front and its hypervolume; of one objective the best value."""
        objectives = loop.problem.objectives
        if len(objectives) > 1:
            volume = self.hypervolume(loop)
            return [f"front {len(loop.front)}", *([] if volume is None else [f"hypervolume {volume:.4f}"])]
        return [
            f"best {objectives[0].metric} {number(member.metrics[objectives[0].metric])}"
            for member in loop.front.members[:1]
        ]

    def rate(self, loop: SearchLoop) -> float:
        """Evaluations per second, lately; 0 before anything can be said."""
        if not self._times or (passed := time.monotonic() - self._times[0][0]) < _LEAST:
            return 0.0
        return (_done(loop) - self._times[0][1]) / passed

    def left(self, loop: SearchLoop) -> float | None:
        """Seconds that the search is likely to take yet, None where nothing tells."""
        times, rate = [], self.rate(loop)
        if loop.budget.evaluations is not None and rate > 0:
            times.append(max(loop.budget.evaluations - _done(loop), 0) / rate)
        if loop.budget.seconds is not None:
            times.append(max(loop.budget.seconds - loop.elapsed, 0.0))
        if loop.budget.epochs is not None and loop.epochs > 0:
            times.append(max(loop.budget.epochs / loop.epochs - 1, 0.0) * loop.elapsed)
        return min(times) if times else None

    def hypervolume(self, loop: SearchLoop) -> float | None:
        """What the front dominates, as a share of the box that the first candidates settle; None before."""
        if self._box is None and loop.states[State.COMPLETE] >= VolumeBox.CANDIDATES:
            found = (one for _, one in loop.ledger.evaluations() if one.state is State.COMPLETE)
            self._box = VolumeBox.of(loop.problem.values(list(islice(found, 2 * VolumeBox.CANDIDATES))))
            # a loop that goes on has not yet told its front what the ledger knows
            self._volume = 0.0 if self._box is None else self._box.share(_feasible(loop))
        if self._box is None:
            return None
        self._volume = max(self._volume, self._box.share(loop.front.values))
        return self._volume


def _feasible(loop: SearchLoop) -> np.ndarray:
    """Objective values of all feasible candidates in the ledger, to be minimised, ``(n, objectives)``."""
    problem, found = loop.problem, [np.empty((0, len(loop.problem.objectives)))]
    names = [o.metric for o in problem.objectives] + [c.metric for c in problem.constraints]
    for _, columns in loop.ledger.figures(names):
        values = [-columns[o.metric] if o.maximise else columns[o.metric] for o in problem.objectives]
        found.append(np.column_stack(values)[problem.violation(columns) <= 0])
    everything = np.concatenate(found)
    return np.asarray(everything[np.isfinite(everything).all(axis=1)])


def _done(loop: SearchLoop) -> int:
    return sum(loop.states.values())


def steps(running: Iterable[int]) -> str:
    """Write how far unfinished candidates are, by the steps of their last reports: ``at step 7``,
    ``at steps 3 to 9``; empty for none, and before a first step.
    """
    found = sorted({step for step in running if step})
    return (
        f"at step{'s' if found[1:] else ''} {' to '.join(map(str, dict.fromkeys((found[0], found[-1]))))}"
        if found
        else ""
    )


def duration(seconds: float) -> str:
    """Write seconds for people: ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
