"""A damaged file of a run: what is read is what was written, or one line says which file and which row."""

import contextlib
import functools
import json
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from evaluators.base import Candidate, Cause, Evaluation, Report, State
from search.record.about import About
from search.record.identity import Identity
from search.record.ledger import Ledger
from search.report import write_report
from search.study.__main__ import main as view
from search.testing import pruning
from spaces.errors import InputError

PROBLEM = pruning(40)
QUICK = settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 60 candidates, with a study."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.closing(Ledger(folder / "ledger.db", PROBLEM.space)) as ledger:
        ledger.claim(Identity({"format": "2", "seed": "0"}))
        About.of("toy", PROBLEM).save(ledger)
        ledger.save_note("base", {"error": 0.5})
        genomes = PROBLEM.space.sample(60, np.random.default_rng(0))
        metrics = PROBLEM.evaluator.function(genomes)  # type: ignore[attr-defined]
        ledger.save_arrays("guide", {"magnitude": np.arange(40.0)})
        for id, genome in enumerate(genomes):
            candidate = Candidate(id, genome, (id - 1,) if id else (), "Uniform+BitFlip", id * 7)
            values = {name: float(column[id]) for name, column in metrics.items()}
            ledger.add_candidates([candidate])
            ledger.add_report(id, Report(values, 1))
            state = State.FAILED if id % 10 == 3 else State.COMPLETE
            failed = {"reason": "OSError: no", "cause": Cause.ERROR} if state is State.FAILED else {}
            arrays = {"scores": genome.astype(np.float32)}
            ledger.add_evaluation(
                Evaluation(candidate, state, {} if failed else values, arrays, **failed)  # type: ignore[arg-type]
            )
    view([str(folder)])
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def contents(path: Path) -> str:
    """All that a search goes on from, and that a report tells."""
    with contextlib.closing(Ledger(path, PROBLEM.space)) as ledger:
        found: list[object] = [ledger.identity, ledger.notes(""), ledger.counts(), ledger.last_seq]
        found += [(c.id, c.genome.tolist(), c.parents, c.operator, c.seed) for c in ledger.candidates()]
        for seq, e in ledger.evaluations(arrays=True):
            again = ledger.evaluation(e.candidate.id)
            assert again is not None and again.metrics == e.metrics
            reports = [(report.step, report.metrics) for report in ledger.reports(e.candidate.id)]
            values = e.state, e.metrics, e.reason, e.seconds, e.worker, e.attempts, e.cause
            found.append((seq, *values, {k: v.tolist() for k, v in e.arrays.items()}, reports))
        found.append({k: v.tolist() for k, v in (ledger.load_arrays("guide") or {}).items()})
    return repr(found)


@functools.cache
def expected_of(whole: Path) -> str:
    return contents(whole / "ledger.db")


damages = st.one_of(
    st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
    st.tuples(st.just("zero"), st.floats(0, 1, exclude_max=True), st.integers(1, 4096)),
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True), st.just(0)),
)


def damage(content: bytes, how: str, where: float, much: int) -> bytes:
    place = int(where * len(content))
    if how == "cut":
        return content[:place]
    if how == "zero":
        return content[:place] + bytes(min(much, len(content) - place)) + content[place + much :]
    return content[:place] + bytes([content[place] ^ much]) + content[place + 1 :]


def one_line(error: InputError, file: Path) -> None:
    assert "\n" not in str(error) and str(error).startswith(str(file)), error


@QUICK
@given(damages)
def test_a_damaged_ledger_says_what_was_written_or_is_one_line(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, how: tuple[str, float, int]
) -> None:
    path, expected = tmp_path_factory.mktemp("ledger") / "ledger.db", expected_of(whole)
    path.write_bytes(damage((whole / "ledger.db").read_bytes(), *how))
    try:
        found = contents(path)
    except InputError as error:
        one_line(error, path)
    else:
        empty = path.stat().st_size and "candidates': 0" in found  # a file of no bytes is a new ledger
        assert found == expected or empty


ROWS = [
    (
        "UPDATE evaluations SET metrics = '{\"error\": 0.' WHERE seq = 17",
        "evaluations, row 17, of candidate 16",
    ),
    ("UPDATE evaluations SET metrics = '[1]' WHERE seq = 17", "evaluations, row 17"),
    ('UPDATE evaluations SET metrics = \'{"error": "x"}\' WHERE seq = 17', "evaluations, row 17"),
    ("UPDATE evaluations SET metrics = X'00ff' WHERE seq = 17", "evaluations, row 17"),
    ("UPDATE evaluations SET state = 'compleTe' WHERE seq = 17", "evaluations, row 17"),
    ("UPDATE evaluations SET seconds = 'soon' WHERE seq = 17", "evaluations, row 17"),
    ("UPDATE candidates SET genome = X'00' WHERE id = 5", "candidates, row 5"),
    ("UPDATE candidates SET genome = 7 WHERE id = 5", "candidates, row 5"),
    ("UPDATE candidates SET parents = '[1, ' WHERE id = 5", "candidates, row 5"),
    ("UPDATE candidates SET seed = 'x' WHERE id = 5", "candidates, row 5"),
    ("DELETE FROM candidates WHERE id = 5", "candidates, row 5, is missing"),
    ("UPDATE reports SET metrics = 'x' WHERE id = 5", "reports, of candidate 5, step 1"),
    ("UPDATE arrays SET data = X'0011' WHERE owner = 5", "arrays, scores of 5"),
    ("UPDATE arrays SET dtype = '<q9' WHERE owner = 'guide'", "arrays, magnitude of guide"),
    ("UPDATE notes SET value = '{\"' WHERE key = 'base'", "notes, row 'base'"),
    ("UPDATE about SET value = '{' WHERE key = 'identity'", "about, row 'identity'"),
    ("DROP TABLE reports", "reports"),
    ("DROP TABLE notes", "notes"),
    ("DELETE FROM about", "the description of its space"),
]


@pytest.mark.parametrize(("statement", "row"), ROWS)
def test_a_row_that_makes_no_sense_is_named(whole: Path, tmp_path: Path, statement: str, row: str) -> None:
    path = tmp_path / "ledger.db"
    shutil.copy(whole / "ledger.db", path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    with pytest.raises(InputError) as refused:
        contents(path)
    one_line(refused.value, path)
    assert row in str(refused.value) and "give this run another name" in str(refused.value)


def test_a_digit_that_changed_on_the_disk_is_found_out(whole: Path, tmp_path: Path) -> None:
    """SQLite's own check knows trees and pages; a metric that is another number is none of its business."""
    path, content = tmp_path / "ledger.db", (whole / "ledger.db").read_bytes()
    text = json.dumps({"error": 0.5}).encode()
    for old, new, row in (
        (text, text.replace(b"0.5", b"0.4"), "notes, row 'base'"),
        (b"Uniform+BitFlip", b"Uniform+BitFlop", "candidates, row "),
    ):
        path.write_bytes(content.replace(old, new, 1))
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        with pytest.raises(InputError, match="it is not what was written") as refused:
            contents(path)
        assert row in str(refused.value)
    with pytest.raises(InputError, match="damaged"):
        write_report(tmp_path)


def test_what_is_changed_through_sql_is_believed(whole: Path, tmp_path: Path) -> None:
    """Older versions write rows without checksums, and somebody may mend a ledger by hand."""
    path = tmp_path / "ledger.db"
    shutil.copy(whole / "ledger.db", path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute('UPDATE evaluations SET metrics = \'{"error": 0.25, "macs": 0.5}\' WHERE seq = 17')
        db.execute("INSERT OR REPLACE INTO notes VALUES ('base', '{\"error\": 0.25}')")
        db.execute("DELETE FROM evaluations WHERE seq = 18")
        db.commit()
    with contextlib.closing(Ledger(path, PROBLEM.space)) as ledger:
        assert ledger.note("base") == {"error": 0.25} and ledger.counts()["evaluations"] == 59
        found = ledger.evaluation(16)
        assert found is not None and found.metrics == {"error": 0.25, "macs": 0.5}
        ledger.save_note("base", {"error": 0.125})
        ledger.rollback()
        assert ledger.note("base") == {"error": 0.25}


def test_a_ledger_of_an_older_version_gets_checksums_as_it_is_written(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    shutil.copy(whole / "ledger.db", path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("DROP TABLE sums")
        db.commit()
    assert contents(path) == contents(whole / "ledger.db")
    with contextlib.closing(Ledger(path, PROBLEM.space)) as ledger:
        ledger.save_note("base", {"error": 0.75})
        ledger.rollback()
        ledger.save_note("base", {"error": 0.5})
        ledger.commit()
    content = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert db.execute("SELECT kind, owner FROM sums").fetchall() == [("notes", "base")]
    assert contents(path) == contents(whole / "ledger.db") and content


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"\n", b"\ngarbage\n", 3).replace(b"garbage\n", b"", 2),
        lambda content: bytes(range(256)) * 40 + b"\n",
        lambda content: re.sub(rb'"op_code": ?4', b'"op_code":99', content),
        lambda content: re.sub(rb'"op_code": ?8', b'"op_code":99', content),
        lambda content: content.replace(b"toy", b"toi"),
        lambda content: re.sub(rb'"values": ?\[0', b'"values":[9', content),
        lambda content: b"",
        lambda content: b'{"version": 12}\n' + content,
    ],
)
def test_a_damaged_study_is_written_again(whole: Path, tmp_path: Path, change, capsys) -> None:
    for name in ("ledger.db", "study.log"):
        shutil.copy(whole / name, tmp_path / name)
    log = tmp_path / "study.log"
    log.write_bytes(change(log.read_bytes()))
    damaged = log.read_bytes()
    view([str(tmp_path)])
    told, aside = capsys.readouterr().err, tmp_path / "study.log.damaged-1"
    values = [sorted(map(repr, trials(folder / "study.log"))) for folder in (whole, tmp_path)]
    assert values[0] == values[1]
    if aside.exists():
        assert told.count("\n") == 1 and "written again from the ledger" in told and str(log) in told
        assert aside.read_bytes().strip(b"\n") in damaged
    else:  # an end that is missing is written again without a word
        assert not told and (not damaged or damaged in (whole / "study.log").read_bytes())


def trials(log: Path) -> list[tuple[object, ...]]:
    storage = JournalStorage(JournalFileBackend(str(log)))
    (study,) = storage.get_all_studies()
    found = storage.get_all_trials(study._study_id)
    return [(trial.user_attrs["candidate"], trial.state, trial.values) for trial in found]
