"""What a result is in a notebook: a table, a figure, a data frame; and a run that is shown below its cell."""

import contextlib
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from search.ending import Ending, EndingKind
from search.progress import Progress
from search.record.about import About
from search.record.finals import BASE, CHOSEN, Final
from search.record.ledger import Ledger
from search.result import Result
from search.testing import pruning
from spaces.errors import InputError
from tests.search.report.test_report import PROBLEM, finals, front_of, run


def result_of(directory: Path, spaced=lambda ledger: None, problem=PROBLEM) -> Result:
    run(directory, problem, spaced=spaced)
    with contextlib.closing(Ledger.reader(directory / "ledger.db")) as ledger:
        return Result.read(ledger, About.load(ledger).problem(), directory, Ending(EndingKind.EVALUATIONS))


def test_a_finished_run_shows_itself(tmp_path: Path) -> None:
    result = result_of(tmp_path, finals)
    good, bad = result.front[0].candidate.id, result.front[-1].candidate.id
    html = result._repr_html_()
    assert html.startswith(f"<p><b>Take candidate {good}: test error 0.0547")
    assert html.count("<tr>") == 5 and "MemoryError: &lt;no room&gt;" in html
    frame = result.to_pandas()
    assert list(frame.index) == ["base", *(member.candidate.id for member in result.front)]
    assert frame.loc[good, "test_error"] == 0.0547 and frame.loc[good, "realised_macs"] == 0.125
    assert frame.loc[bad, "folder"] == "" and frame.loc[good, "macs"] == result.front[0].metrics["macs"]
    (members, base) = result.plot("latency_ms").data
    assert (list(members.x), list(members.y)) == ([0.375], [0.0547]) and list(base.y) == [0.125, 0.0625]
    with pytest.raises(InputError, match=r"plot: nothing was counted as 'seconds'; expected one of bytes, "):
        result.plot("seconds")


def test_models_of_one_candidate_are_rows_of_their_own(tmp_path: Path) -> None:
    def twice(ledger: Ledger) -> None:
        id = front_of([e for _, e in ledger.evaluations()]).members[0].candidate.id
        Final(id, {}, {"test_error": 0.25}, folder=f"models/{id}-2").put_aside(ledger)
        Final(id, {}, {"test_error": 0.5}, folder=f"models/{id}").save(ledger)
        ledger.save_note(CHOSEN, [BASE, id])

    result = result_of(tmp_path, twice)
    found = result.to_pandas().loc[result.front[0].candidate.id]
    assert sorted(found["test_error"]) == [0.25, 0.5] and found["macs"].nunique() == 1


def test_a_run_in_memory_shows_its_front(tmp_path: Path) -> None:
    result = result_of(tmp_path)
    assert len(result.to_pandas()) == len(result.front)
    assert list(result.plot().data[0].x) == sorted(member.metrics["macs"] for member in result.front)
    assert result._repr_html_().count("<tr>") == 2 + len(result.front)
    with pytest.raises(InputError, match="the front has no 'latency_ms'; expected one of error, macs"):
        result.plot("latency_ms")


def test_nothing_feasible_is_shown(tmp_path: Path) -> None:
    result = result_of(tmp_path, problem=pruning(40, ["macs <= 1%"]))
    assert "no candidate is within the limits" in result._repr_html_() and result.to_pandas().empty
    assert len(result.plot().data) == 2


def test_without_pandas_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=re.escape("pip install secateur[notebook]")):
        result_of(tmp_path).to_pandas()


def test_a_run_is_shown_below_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown = []

    class Handle:
        def update(self, html):
            shown.append(html.data)

    monkeypatch.setattr(display, "display", lambda html, display_id: Handle())
    progress = Progress(Console(force_jupyter=True))
    with progress.stage():
        progress.search("<5> evaluations", 5, 20)
        progress.step("exporting", 6, 20)  # too soon after the last one
    bar = '<progress value="5" max="20" style="width:14em;vertical-align:middle"></progress>'
    assert shown == [f"{bar} <code>&lt;5&gt; evaluations</code>", ""]
    assert not Progress.of_notebook().console.is_jupyter, "this is none"
