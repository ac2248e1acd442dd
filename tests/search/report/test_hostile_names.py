"""Whatever people call their metrics, layers, operators and parameters: it is shown letter by letter."""

import contextlib
import csv
import io
import json
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

from evaluators.base import Candidate, Evaluation, Report, State
from search.problem import Constraint, Objective, Problem
from search.record.about import About
from search.record.finals import BASE, CHOSEN, Final, Limit
from search.record.ledger import Ledger
from search.report import supernet_figures, write_report
from search.report.facts import gather
from search.report.supernet_facts import Course
from search.report.table import text as table_of
from search.report.trials import trials_table
from search.study.__main__ import main as view
from search.testing import BitSpace, pruning
from spaces.base import Segment
from spaces.trials import TrialSpace

HOSTILE = "=</script><img/src=x/onerror=alert(1)>\"'&lt;`|%{x}[bold]<b>"
HARMLESS = "name"


class Elements(HTMLParser):
    """The elements of a page, each with the names of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, ...]] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag, *(name for name, _ in attrs)] += 1


def elements_of(html: str) -> Counter[tuple[str, ...]]:
    parser = Elements()
    parser.feed(html)
    return parser.found


def channels(name: str, folder: Path) -> Ledger:
    """A search with this name in all places, and three objectives."""
    problem = pruning(40)
    space: Any = BitSpace(40, 4)
    space.segments = tuple(Segment(f"{name}{i}", segment.size) for i, segment in enumerate(space.segments))
    space.report = lambda: {"frozen": [{"axis": name, "reason": f"of {name}", "where": name}]}
    named = {"error": f"{name}error", "macs": f"{name}macs", "third": f"{name}third"}
    given = Problem(
        space,
        problem.evaluator,
        tuple(Objective(metric) for metric in named.values()),
        (Constraint(named["macs"], "<=", 60.0, True), Constraint(named["error"], "<=", 0.9)),
        dict.fromkeys(named.values(), 1.0),
    )
    ledger = Ledger(folder / "ledger.db", space)
    About.of(name, given).save(ledger)
    genomes = space.sample(40, np.random.default_rng(0))
    metrics = problem.evaluator.function(genomes)  # type: ignore[attr-defined]
    for id, genome in enumerate(genomes):
        candidate = Candidate(id, genome, (id - 1,) if id else (), f"{name}+BitFlip")
        values = {named[key]: float(column[id]) for key, column in metrics.items()}
        values[named["third"]] = float(genome[:20].mean())
        failed = Evaluation(candidate, State.FAILED, {}, reason=f"ValueError: {name}", worker=name)
        ledger.add_candidates([candidate])
        ledger.add_evaluation(failed if id % 10 == 3 else Evaluation(candidate, State.COMPLETE, values))
    costs = {"params": 3.0, "macs": 2.0}
    tests = {f"test_{metric}{end}": 0.5 for metric in named.values() for end in ("_before", "")}
    limits = [Limit(f"{named['macs']} <= 60%", 0.6, 0.7, False)]
    missing = {"missing": f"no {name}"}
    for final in (
        Final(BASE, given.base, tests, costs, costs),
        Final(1, given.base, tests, costs, costs, limits, {"after": 1e-7}, missing, "models/1"),
        Final(2, given.base, reason=f"MemoryError: {name}"),
    ):
        final.save(ledger)
    ledger.save_note(CHOSEN, [BASE, 1, 2])
    ledger.save_note("ended", {"reason": f"failures: {name}"})
    return ledger


def trials(name: str, folder: Path) -> Ledger:
    """A hyper-parameter search with this name in all places."""
    space = TrialSpace({f"training.{name}": {"low": 0.1, "high": 1.0}, name: {"choices": [name, "other"]}})
    problem = Problem(space, pruning(8).evaluator, (Objective(f"{name}loss"),))
    ledger = Ledger(folder / "ledger.db", space)
    about = About.of(name, problem)
    replace(about, monitor=f"{name}watched").save(ledger)
    for id, genome in enumerate(space.sample(12, np.random.default_rng(0))):
        candidate = Candidate(id, genome, (), name)
        state = State.PRUNED if id % 3 == 1 else State.COMPLETE
        metrics = {f"{name}loss": id / 7, f"{name}watched": id / 7}
        ledger.add_candidates([candidate])
        for step in (1, 2):
            ledger.add_report(id, Report(metrics, step))
        reason = name if state is State.PRUNED else ""
        ledger.add_evaluation(Evaluation(candidate, state, metrics, reason=reason))
    Final(0, {}, {f"test_{name}loss": 0.5}, folder="models/0").save(ledger)
    ledger.save_note(CHOSEN, [0])
    return ledger


def cells(name: str, folder: Path) -> Ledger:
    """A coevolution with this name in all places."""
    space: Any = BitSpace(8, 2)
    space.segments = tuple(Segment(f"{name}{i}", 4) for i in range(2))
    problem = Problem(space, pruning(8).evaluator, (Objective(f"{name}loss"), Objective(f"{name}params")))
    ledger = Ledger(folder / "ledger.db", space)
    replace(About.of(name, problem), cells=3, edges=[[0, 1], [1, 2]]).save(ledger)
    for id, genome in enumerate(space.sample(12, np.random.default_rng(0))):
        candidate = Candidate(id, genome, (), f"train+{name}")
        ledger.add_candidates([candidate])
        metrics = {f"{name}loss": id / 7, f"{name}params": float(genome.sum())}
        ledger.add_evaluation(Evaluation(candidate, State.COMPLETE, metrics))
    return ledger


def written(make: Any, name: str, folder: Path) -> str:
    folder.mkdir()
    with contextlib.closing(make(name, folder)) as ledger:
        ledger.commit()
    (folder / "config.yaml").write_text(f"name: {json.dumps(name)}\n{name}: 1")
    (folder / "environment.json").write_text(
        json.dumps({name: name, "command": [name], "packages": {name: name}})
    )
    return write_report(folder).read_text()


@pytest.mark.parametrize("make", [channels, trials, cells])
def test_a_name_makes_no_element_of_the_page(make: Any, tmp_path: Path) -> None:
    expected = elements_of(written(make, HARMLESS, tmp_path / "harmless"))
    html = written(make, HOSTILE, tmp_path / "hostile")
    assert elements_of(html) == expected
    body = html[html.index("<body>") :]
    assert "<img" not in body and "alert(1)&gt;" in body, "it is shown, letter by letter"
    # plotly reads the letters of figures once more
    figures = "".join(re.findall(r"(?s)<script.*?</script>", body))
    assert "&lt;img" in figures and "&#123;x}[bold]" in figures
    assert not any(text in figures for text in ("\\u003cimg", "<img", "%{x}[bold]"))


def test_figures_of_cells_show_names_letter_by_letter() -> None:
    name = HOSTILE
    course = Course(
        3,
        "cell: 0<a:skip,b:skip",
        (f"cell/{name}-0", "cell/b-0"),
        (name, "skip"),
        np.full((4, 2, 2), 0.5, dtype=np.float32),
        np.full((4, 2), 0.1, dtype=np.float32),
        np.array([100.0, 50.0, 50.0, 50.0]),
        np.array([8.0, 8.0, 8.0, 6.0]),
        [(2, f"cell/{name}-0", name)],
        {"search_cost": 0.5},
    )
    for figure in (
        supernet_figures.importances_figure(course),
        supernet_figures.divergences_figure(course),
        supernet_figures.cost_figure([course], 4),
    ):
        assert "<img" not in json.dumps(figure.to_plotly_json(), default=str)


def test_tables_on_a_terminal_show_names_letter_by_letter(tmp_path: Path) -> None:
    """Square brackets are markup to rich: a name would vanish, or end in an error."""
    name = "[/x][red]"
    with contextlib.closing(channels(name, tmp_path)) as ledger:
        facts = gather(ledger)
    assert f"{name}error" in table_of(facts.finals, facts.about)
    (tmp_path / "trials").mkdir()
    with contextlib.closing(trials(name, tmp_path / "trials")) as ledger:
        facts = gather(ledger)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(trials_table(facts.trials, facts.about, facts.finals))
    shown = console.export_text()
    assert f"{name}loss" in shown and shown.count(name) == 7


def test_no_cell_of_the_table_of_numbers_is_a_formula(tmp_path: Path) -> None:
    written(channels, "=1+1,", tmp_path / "run")
    with (tmp_path / "run" / "front.csv").open() as file:
        head, *rows = csv.reader(file)
    assert "'=1+1,error" in head and "kept:=1+1,0" in head and all(len(row) == len(head) for row in rows)
    assert rows[0][1] == "'=1+1,+BitFlip" and not any(cell.startswith("=") for cell in [*head, *rows[0]])
    values = dict(zip(head, rows[0], strict=True))
    assert math.isfinite(float(values["'=1+1,error"]))


def test_notes_of_the_study_show_names_letter_by_letter(tmp_path: Path) -> None:
    channels(HOSTILE, tmp_path).close()
    view([str(tmp_path)])
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    study = optuna.load_study(study_name=HOSTILE, storage=storage)
    attributes = storage.get_study_system_attrs(study._study_id)
    parts: dict[str, str] = {}  # optuna-dashboard divides long notes
    for key, text in attributes.items():
        if "note_str" in key:
            parts[key.rpartition(":")[0]] = parts.get(key.rpartition(":")[0], "") + text
    notes = list(parts.values())
    assert len(notes) > 1
    for note in notes:
        outside_code = "".join(note.split("`")[::2])
        assert "<" not in outside_code and "&#60;img" in outside_code
        for table in re.findall(r"(?m)(?:^\|.*\n?)+", note):
            assert len({line.count("|") for line in table.splitlines()}) == 1, note
