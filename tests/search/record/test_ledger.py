"""The ledger gives back what it was given, keeps what was committed, and refuses what is not its own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from evaluators.base import Candidate, Cause, Evaluation, Report, State
from search.record.identity import Identity
from search.record.ledger import Ledger, LedgerError
from search.record.sqlite_store import SQLiteStore
from search.testing.ledger import LedgerStoreContract
from spaces.base import Segment, Space
from spaces.errors import InputError


class Bits(Space):
    def __init__(self, *segments: Segment) -> None:
        self.segments = segments or (Segment("a", 5), Segment("b", 6))

    fingerprint = "bits"

    def sample(self, n, rng):
        return rng.integers(0, self.choices, (n, self.length)).astype(np.uint8)

    def repair(self, genomes):
        return genomes

    def build(self, genome):
        return nn.Identity()

    def describe(self, genome):
        return {}

    @property
    def base(self):
        return np.ones(self.length, dtype=np.uint8)


def candidates(space, n, start=0):
    genomes = space.sample(n, np.random.default_rng(start))
    return [Candidate(start + i, genome, (start, i), "flip", 2**62 + i) for i, genome in enumerate(genomes)]


def same(a: Candidate, b: Candidate) -> bool:
    fields = (a.id, a.parents, a.operator, a.seed) == (b.id, b.parents, b.operator, b.seed)
    return fields and a.genome.dtype == b.genome.dtype == np.uint8 and np.array_equal(a.genome, b.genome)


@pytest.fixture(params=[2, 7], ids=["bits", "choices"])
def space(request):
    return Bits(Segment("a", 5), Segment("b", 6, request.param))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def test_gives_back_candidates_and_evaluations_in_order_of_arrival(space, path):
    ledger = Ledger(path, space)
    given = candidates(space, 1203)
    ledger.add_candidates(given)
    arrival = [3, 0, 1202, 7]
    arrays = {"activation": np.linspace(0, 1, 11).astype(np.float16), "grid": np.arange(6).reshape(2, 3)}
    for id in arrival:
        state = State.FAILED if id == 7 else State.COMPLETE
        ledger.add_evaluation(
            Evaluation(given[id], state, {"loss": id / 3}, arrays, "why" if id == 7 else "", 0.5, "host:1", 2)
        )
    ledger.close()

    ledger = Ledger(path, space)
    assert all(same(a, b) for a, b in zip(given, ledger.candidates(), strict=True))
    assert [c.id for c in ledger.candidates(1200)] == [1200, 1201, 1202]
    told = list(ledger.evaluations(arrays=True))
    assert [e.candidate.id for _, e in told] == arrival
    assert [seq for seq, _ in told] == [1, 2, 3, 4]
    assert [e.candidate.id for _, e in ledger.evaluations(after_seq=2)] == [1202, 7]
    evaluation = told[-1][1]
    assert (
        evaluation.state,
        evaluation.reason,
        evaluation.seconds,
        evaluation.worker,
        evaluation.attempts,
    ) == (
        State.FAILED,
        "why",
        0.5,
        "host:1",
        2,
    )
    assert evaluation.metrics == {"loss": 7 / 3}
    assert list(evaluation.arrays) == ["activation", "grid"]
    for name, array in arrays.items():
        assert evaluation.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(evaluation.arrays[name], array)
    evaluation.arrays["grid"][0, 0] = 9  # a copy of its own, not a view into the file
    assert next(ledger.evaluations())[1].arrays == {}
    assert same(ledger.evaluation(1202).candidate, given[1202])
    assert ledger.evaluation(5) is None
    assert ledger.counts() == {"candidates": 1203, "evaluations": 4, "complete": 3, "failed": 1, "pruned": 0}
    assert ledger.last_seq == 4


def test_packs_genomes_as_the_space_does(space, path):
    ledger = Ledger(path, space)
    (candidate,) = candidates(space, 1)
    ledger.add_candidates([candidate])
    ledger.commit()
    stored = sqlite3.connect(path).execute("SELECT genome FROM candidates").fetchone()[0]
    assert stored == space.pack(candidate.genome)


def test_an_evaluation_is_recorded_once(space):
    ledger = Ledger(None, space)
    (candidate,) = candidates(space, 1)
    ledger.add_candidates([candidate])
    ledger.add_evaluation(Evaluation(candidate, State.COMPLETE, {}))
    with pytest.raises(sqlite3.IntegrityError):
        ledger.add_evaluation(Evaluation(candidate, State.COMPLETE, {}))


def test_reports_of_an_earlier_attempt_are_dropped(space):
    ledger = Ledger(None, space)
    for attempt in range(2):
        ledger.begin(4)
        for step in (1, 2, 2):
            ledger.add_report(4, Report({"loss": step + attempt, "bad": float("nan")}, step))
    assert [(r.step, r.metrics["loss"]) for r in ledger.reports(4)] == [(1, 2.0), (2, 3.0), (2, 3.0)]
    assert np.isnan(ledger.reports(4)[0].metrics["bad"])
    assert ledger.reports(5) == []


def test_notes_and_named_arrays(space, path):
    ledger = Ledger(path, space)
    assert ledger.note("base") is None
    assert ledger.load_arrays("guide") is None
    for value in ({"loss": 1.0}, {"loss": 0.5, "names": ["a"]}):
        ledger.save_note("base", value)
        ledger.save_arrays("guide", {"score": np.full(3, value["loss"])})
    ledger.close()
    ledger = Ledger(path, space)
    assert ledger.note("base") == {"loss": 0.5, "names": ["a"]}
    np.testing.assert_array_equal(ledger.load_arrays("guide")["score"], [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="object"):
        ledger.save_arrays("guide", {"score": np.array([None])})


def test_readers_see_what_is_committed_and_need_no_space(space, path):
    ledger = Ledger(path, space)
    given = candidates(space, 3)
    reader = Ledger.reader(path)
    ledger.add_candidates(given)
    assert list(reader.candidates()) == []
    ledger.commit()
    assert all(same(a, b) for a, b in zip(given, reader.candidates(), strict=True))
    assert reader.segments == space.segments
    assert reader.fingerprint == "bits"
    np.testing.assert_array_equal(reader.base, space.base)
    with pytest.raises(sqlite3.OperationalError):
        reader.add_candidates(candidates(space, 1, start=3))
    reader.close()
    ledger.close()
    assert len(list(Ledger.reader(path, space).candidates())) == 3  # also when the writer has gone


def test_a_reader_waits_for_a_run_that_is_just_beginning(space, path, monkeypatch):
    path.touch()  # a writer makes the file before what stands in it
    monkeypatch.setattr("search.record.sqlite_store.time.sleep", lambda seconds: Ledger(path, space).close())
    assert Ledger.reader(path).fingerprint == "bits"


def test_an_empty_file_is_no_ledger(path, monkeypatch):
    path.touch()
    monkeypatch.setattr("search.record.sqlite_store._BEGINNING", 0.0)
    with pytest.raises(InputError, match="it is not a ledger"):
        Ledger.reader(path)


def test_a_killed_writer_keeps_what_it_committed_and_nothing_else(path):
    code = f"""
        import os, signal, sys
        sys.path[:0] = {[str(p) for p in sys.path if p]!r}
        from pathlib import Path
        import numpy as np
        from evaluators.base import Candidate, Evaluation, State
        from search.record.ledger import Ledger
        from test_ledger import Bits, candidates
        ledger = Ledger(Path({str(path)!r}), Bits())
        given = candidates(Bits(), 4)
        ledger.add_candidates(given)
        ledger.add_evaluation(Evaluation(given[0], State.COMPLETE, {{}}, {{"a": np.zeros(3)}}))
        ledger.commit()
        ledger.add_evaluation(Evaluation(given[1], State.COMPLETE, {{}}, {{"a": np.zeros(3)}}))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = __file__.rpartition("/")[0]
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=folder, check=False)
    assert Ledger.reader(path).counts()["evaluations"] == 1
    ledger = Ledger(path, Bits())
    assert [e.candidate.id for _, e in ledger.evaluations()] == [0]
    assert len(list(ledger.candidates())) == 4
    ledger.add_evaluation(Evaluation(next(ledger.candidates(1)), State.COMPLETE, {}, {"a": np.zeros(3)}))
    ledger.commit()


def test_a_full_disk_keeps_what_was_committed(path):
    ledger = Ledger(path, Bits())
    given = candidates(Bits(), 3)
    ledger.add_candidates(given[:1])
    ledger.commit()
    pages = ledger._store._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    ledger.add_candidates(given[1:])
    with pytest.raises(LedgerError, match=r"full.*what was committed is kept"):
        ledger.add_evaluation(Evaluation(given[0], State.COMPLETE, {}, {"large": np.zeros(10_000)}))
    ledger.close()
    assert Ledger.reader(path).counts() == {
        "candidates": 1,
        "evaluations": 0,
        "complete": 0,
        "failed": 0,
        "pruned": 0,
    }


def test_a_result_keeps_the_seed_that_it_was_evaluated_with(space, path):
    ledger = Ledger(path, space)
    asked = candidates(space, 3)
    ledger.add_candidates(asked)
    for candidate, seed in zip(asked, (asked[0].seed, 2**63 - 1, 0), strict=True):
        ledger.add_evaluation(
            Evaluation(replace(candidate, seed=seed), State.COMPLETE, {}, worker="from before")
        )
    ledger.close()
    ledger = Ledger.reader(path)
    assert [candidate.seed for candidate in ledger.candidates()] == [candidate.seed for candidate in asked]
    assert [e.candidate.seed for _, e in ledger.evaluations()] == [asked[0].seed, 2**63 - 1, 0]
    assert ledger.evaluation(1).candidate.seed == 2**63 - 1
    assert ledger.evaluated_by("from before") == 3 and ledger.evaluated_by("") == 0


def test_a_copy_is_one_file_with_all_that_was_committed(space, path, tmp_path):
    ledger = Ledger(path, space)
    asked = candidates(space, 700)
    ledger.add_candidates(asked)
    ledger.add_evaluation(Evaluation(asked[5], State.COMPLETE, {"a": 1.0}, {"grid": np.eye(3)}))
    ledger.commit()
    reader = Ledger.reader(path)
    reader.copy(tmp_path / "kept" / "copy.db")
    ledger.add_evaluation(Evaluation(asked[6], State.COMPLETE, {}))
    ledger.close()
    reader.close()
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["copy.db"]
    copy = Ledger.reader(tmp_path / "kept" / "copy.db", space)
    assert copy.counts()["candidates"] == 700 and copy.counts()["evaluations"] == 1
    assert all(same(a, b) for a, b in zip(copy.candidates(), asked, strict=True))
    assert copy.evaluation(5).arrays["grid"].tolist() == np.eye(3).tolist()


def test_a_claim_names_every_difference_and_writes_nothing(path):
    ledger = Ledger(path, Bits())
    ledger.claim(Identity({"space": "s", "seed": "0", "data": "d"}))
    ledger.claim(Identity({"space": "s", "seed": "0", "data": "d"}))
    with pytest.raises(
        InputError, match=r"seed \(was 0, is 1\), data \(was d, is absent\), lag \(was absent, is 8\)"
    ):
        ledger.claim(Identity({"space": "s", "seed": "1", "lag": "8"}))
    ledger.claim(Identity({"space": "s", "seed": "0", "data": "d"}))


def test_a_claim_says_how_a_model_is_drawn_again(path):
    ledger = Ledger(path, Bits())
    ledger.claim(Identity({"weights": "a"}))
    with pytest.raises(InputError, match=r"weights \(was a, is b\).*torch.manual_seed\(0\)$"):
        ledger.claim(Identity({"weights": "b"}))


def refused(path, space, match):
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=match) as caught:
        Ledger(path, space)
    assert "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before
    return caught


@pytest.mark.parametrize("damage", ["garbage", "head", "middle"])
def test_refuses_a_damaged_file(path, damage):
    ledger = Ledger(path, Bits())
    ledger.add_candidates(candidates(Bits(), 2000))
    ledger.close()
    raw = bytearray(path.read_bytes())
    if damage == "garbage":
        raw = bytearray(b"these are not the bytes of a database " * 100)
    else:
        start = 0 if damage == "head" else len(raw) // 2
        raw[start : start + 3000] = b"\xff" * 3000
    path.write_bytes(raw)
    refused(path, Bits(), "damaged")


def test_refuses_another_version_another_space_and_what_is_no_ledger(path, tmp_path):
    Ledger(path, Bits()).close()
    refused(path, Bits(Segment("a", 5), Segment("b", 7)), "another space, what differs is space: b, ")
    refused(path, Bits(Segment("a", 5)), "another space, what differs is space: b is gone")
    with pytest.raises(InputError, match="another space"):
        Ledger.reader(path, Bits(Segment("a", 4)))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    refused(path, Bits(), "format 99")
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE t (x)")
    db.close()
    refused(other, Bits(), "not a ledger")


def test_refuses_a_place_that_cannot_be_written_and_a_reader_of_nothing(tmp_path):
    refused(tmp_path / "missing" / "ledger.db", Bits(), "cannot be opened for writing")
    refused(tmp_path, Bits(), "cannot be opened for writing")
    with pytest.raises(InputError, match="no ledger here"):
        Ledger.reader(tmp_path / "ledger.db")


def test_an_empty_file_left_by_a_kill_is_a_new_ledger(path):
    path.touch()
    assert Ledger(path, Bits()).counts()["candidates"] == 0


def test_it_knows_what_the_alleles_stand_for(tmp_path):
    class Widths(Bits):
        alleles = {"a": (16, 32, 64)}  # noqa: RUF012

    Ledger(tmp_path / "ledger.db", Widths(Segment("a", 1, 3))).close()
    assert Ledger.reader(tmp_path / "ledger.db").alleles == {"a": (16, 32, 64)}


class TestSQLiteStore(LedgerStoreContract):
    def store(self, folder, description):
        return SQLiteStore(folder / "ledger.db", description)

    def reader(self, folder):
        return SQLiteStore.reader(folder / "ledger.db")


def test_the_database_needs_no_torch():
    check = "import sys, search.record.sqlite_store, search.ending; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_causes_are_kept_beside_the_sentences(path):
    ledger = Ledger(path, Bits())
    given = candidates(Bits(), 3)
    ledger.add_candidates(given)
    for candidate, state, reason, cause in zip(
        given,
        (State.PRUNED, State.FAILED, State.COMPLETE),
        ("diverged: so it says", "ValueError: no", ""),
        (Cause.STOPPED, None, None),
        strict=True,
    ):
        ledger.add_evaluation(Evaluation(candidate, state, {}, reason=reason, cause=cause))
    ledger.close()
    found = [e for _, e in Ledger.reader(path).evaluations()]
    assert [e.cause for e in found] == [Cause.STOPPED, None, None], "what was given counts, not the sentence"
    assert [e.reason for e in found] == ["diverged: so it says", "ValueError: no", ""]


def test_the_causes_of_older_ledgers_are_read_from_their_sentences(path):
    told = {
        (State.PRUNED, "diverged: loss is nan at step 3"): Cause.DIVERGED,
        (State.PRUNED, "paused at rung 0 (step 2)"): Cause.PAUSED,
        (State.PRUNED, "MedianPruner at step 5"): Cause.STOPPED,
        (State.PRUNED, ""): Cause.STOPPED,
        (State.FAILED, "exceeded the time limit of 3 s"): Cause.TIME_LIMIT,
        (State.FAILED, "its worker died 3 times (WorkerCrashedError)"): Cause.LOST_WORKER,
        (State.FAILED, "the worker could not begin: ImportError: no"): Cause.LOST_WORKER,
        (State.FAILED, "metric 'loss' is nan"): Cause.METRIC,
        (State.FAILED, "metric 'loss' was promised but not reported"): Cause.METRIC,
        (State.FAILED, "ValueError: paused at rung 0"): Cause.ERROR,
        (State.COMPLETE, ""): None,
    }
    ledger = Ledger(path, Bits())
    given = candidates(Bits(), len(told))
    ledger.add_candidates(given)
    for candidate, (state, reason) in zip(given, told, strict=True):
        ledger.add_evaluation(Evaluation(candidate, state, {}, reason=reason))
    ledger.close()
    db = sqlite3.connect(path)
    db.execute("DELETE FROM notes")  # older versions wrote none
    db.commit()
    db.close()
    found = [e for _, e in Ledger(path, Bits()).evaluations()]
    assert [(e.cause, e.reason) for e in found] == [(cause, reason) for (_, reason), cause in told.items()]
