"""Tells all listeners of a search, and goes on where one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from evaluators.base import Evaluation
from search.listeners.base import RunFacts
from spaces.errors import InputError

if TYPE_CHECKING:
    from search.result import Result
    from search.tally import SearchLoop


class Telling:
    """A listener that passes on to others what they have methods for.

    Args:
        listeners: objects with some of the methods of :class:`~search.listeners.Listener`.
        say: told in one line, once, of a listener that raised an exception.
    """

    def __init__(self, listeners: Sequence[object], say: Callable[[str], None]) -> None:
        self._listeners, self._say = list(listeners), say

    @contextmanager
    def run(self, facts: Callable[[], RunFacts], begins: bool) -> Iterator[Telling]:
        """Tell of the beginning of a run, and of its end where the block is left by an exception.

        Args:
            facts: gives what the run is; called where there is a listener.
            begins: whether the run will search; nobody is told of one that is complete already.
        """
        if not begins:
            self._listeners = []
        if self._listeners:
            self._tell("begin", facts())
        try:
            yield self
        except BaseException:
            self.end(None)
            raise

    def evaluated(self, evaluation: Evaluation, joined_front: bool) -> None:
        self._tell("evaluated", evaluation, joined_front)

    def tick(self, loop: SearchLoop) -> None:
        self._tell("tick", loop)

    def end(self, result: Result | None) -> None:
        self._tell("end", result)
        self._listeners = []

    def _tell(self, method: str, *arguments: Any) -> None:
        for listener in list(self._listeners):
            told = getattr(listener, method, None)
            if told is None:
                continue
            try:
                told(*arguments)
            except Exception as error:
                if method == "begin" and isinstance(error, InputError):
                    raise  # nothing has been evaluated yet, and the user can mend it
                self._listeners.remove(listener)
                name, why = type(listener).__name__, " ".join(str(error).split())
                kind = type(error).__name__
                self._say(f"listener {name}: {kind} in {method}: {why}; it is told nothing more")
