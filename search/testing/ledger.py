"""The contract that every database of a ledger keeps.

``class TestMine(LedgerStoreContract)`` with methods ``store`` and ``reader`` inherits all checks; pytest runs
them.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from search.record.ledger_store import CandidateRow, EvaluationRow, LedgerStore, Packing, StoreError


class LedgerStoreContract(ABC):
    """What the ledger of a run relies on in its database."""

    @abstractmethod
    def store(self, folder: Path, description: dict[str, Any]) -> LedgerStore:
        """Open the database of a run in this folder to write; make it, with the description of the run's
        space, where there is none.
        """

    @abstractmethod
    def reader(self, folder: Path) -> LedgerStore:
        """Open the database in this folder to read, beside its writer or after it."""

    description: dict[str, Any] = {"segments": [["a", 5, 2], ["b", 6, 2]]}  # noqa: RUF012

    def rows(self, n: int, start: int = 0) -> list[CandidateRow]:
        packing, rng = Packing(self.description["segments"]), np.random.default_rng(start)
        return [
            CandidateRow(id, packing.pack(rng.integers(0, 2, 11)), (start, id), "flip", 2**62 + id)
            for id in range(start, start + n)
        ]

    def done(self, row: CandidateRow, state: str = "complete", **others: Any) -> EvaluationRow:
        return EvaluationRow(row, state, {"loss": row.id / 3}, "", 0.5, "host:1", 2, at=100.0)._replace(
            **others
        )

    def test_what_is_committed_comes_back_when_it_is_opened_again(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = self.rows(1203)
            with closing(self.store(Path(folder), self.description)) as store:
                store.add_candidates(given)
                for place, id in enumerate((3, 0, 1202, 7), start=1):
                    assert store.add_evaluation(self.done(given[id])) == place
                store.commit()
            with closing(self.store(Path(folder), {"segments": []})) as store:
                assert store.about("space") == self.description, "an old database was described anew"
                assert [_plain(row) for row in store.candidates()] == [_plain(row) for row in given]
                assert [row.id for row in store.candidates(1200)] == [1200, 1201, 1202]
                found = list(store.evaluations())
                assert [(row.seq, row.candidate.id) for row in found] == [(1, 3), (2, 0), (3, 1202), (4, 7)]
                assert [row.seq for row in store.evaluations(2)] == [3, 4] and store.last_seq == 4
                one, given_one = store.evaluation(7), self.done(given[7])
                assert one is not None and _plain(one.candidate) == _plain(given[7])
                assert one._replace(candidate=given[7], seq=0, has_cause=True) == given_one
                assert store.evaluation(5) is None
                assert store.counts() == {"candidates": 1203, "complete": 4}
                pages = [one for page in store.figures() for one in page]
                assert pages == [(id, {"loss": id / 3}) for id in (3, 0, 1202, 7)]
                assert store.evaluated_by("host:1") == 4 and store.evaluated_by("") == 0

    def test_causes_come_back_and_a_complete_evaluation_needs_none(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = self.rows(3)
            with closing(self.store(Path(folder), self.description)) as store:
                store.add_candidates(given)
                store.add_evaluation(self.done(given[0], "pruned", reason="in one line", cause="stopped"))
                store.add_evaluation(self.done(given[1], "failed", reason="nobody says"))
                store.add_evaluation(self.done(given[2]))
                found = list(store.evaluations())
                assert [row.cause for row in found] == ["stopped", None, None]
                assert [row.reason for row in found] == ["in one line", "nobody says", ""]
                assert found[0].has_cause and found[1].has_cause

    def test_an_evaluation_has_the_seed_it_was_made_with_and_its_candidate_the_one_it_was_asked_with(
        self,
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (given,) = self.rows(1)
            with closing(self.store(Path(folder), self.description)) as store:
                store.add_candidates([given])
                store.add_evaluation(self.done(given._replace(seed=2**63 - 1)))
                assert [row.seed for row in store.candidates()] == [given.seed]
                found = store.evaluation(0)
                assert found is not None and found.candidate.seed == 2**63 - 1

    def test_what_is_removed_may_come_again_and_numbers_are_not_given_twice(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = self.rows(4)
            with closing(self.store(Path(folder), self.description)) as store:
                store.add_candidates(given)
                for row in given[:3]:
                    store.add_report(row.id, 1, {"loss": 1.0})
                    store.add_evaluation(self.done(row, "failed", reason="gone", cause="error"))
                    store.save_arrays(row.id, {"a": np.ones(2)})
                store.remove_evaluation(2)
                assert store.evaluation(2) is None and not store.reports(2) and not store.load_arrays(2)
                assert [row.id for row in store.candidates()] == [0, 1, 2, 3] and store.last_seq == 3
                assert store.add_evaluation(self.done(given[2])) == 4, "a number was given twice"
                found = store.evaluation(2)
                assert found is not None and found.state == "complete" and found.cause is None
                store.renumber(0)
                assert [(row.seq, row.candidate.id) for row in store.evaluations()] == [
                    (2, 1),
                    (4, 2),
                    (5, 0),
                ]
                assert len(store.load_arrays(0)) == len(store.reports(0)) == 1
                store.remove_candidate(0)
                assert [row.id for row in store.candidates()] == [1, 2, 3] and store.evaluation(0) is None
                store.add_candidates([given[3]._replace(id=0)])
                assert store.add_evaluation(self.done(given[3]._replace(id=0))) == 6

    def test_nothing_is_recorded_twice(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (given,) = self.rows(1)
            with closing(self.store(Path(folder), self.description)) as store:
                store.add_candidates([given])
                store.add_evaluation(self.done(given))
                for again in (
                    lambda: store.add_candidates([given]),
                    lambda: store.add_evaluation(self.done(given)),
                ):
                    try:
                        again()
                    except Exception:
                        continue
                    raise AssertionError("it was recorded twice")

    def test_reports_come_in_their_order_until_they_are_dropped(self) -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(self.store(Path(folder), self.description)) as store,
        ):
            for step in (1, 2, 2):
                store.add_report(4, step, {"loss": step / 10, "bad": float("nan")})
            store.add_report(5, 1, {})
            assert [(step, found["loss"]) for step, found in store.reports(4)] == [
                (1, 0.1),
                (2, 0.2),
                (2, 0.2),
            ]
            assert np.isnan(store.reports(4)[0][1]["bad"])
            store.drop_reports(4)
            assert store.reports(4) == [] and len(store.reports(5)) == 1

    def test_notes_and_values_of_the_run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with closing(self.store(Path(folder), self.description)) as store:
                for value in (1, {"a": [1.5, None, "x"]}):
                    store.save_note("final/3", value)
                for key in ("final/10", "finals", "fina", "%inal/1"):
                    store.save_note(key, key)
                store.save_note("final/-1", None)
                store.set_about("identity", {"seed": "0"})
                store.commit()
            with closing(self.reader(Path(folder))) as store:
                assert store.note("final/3") == {"a": [1.5, None, "x"]} and store.note("nothing") is None
                assert store.notes("final/") == {"3": store.note("final/3"), "10": "final/10", "-1": None}
                assert store.about("identity") == {"seed": "0"} and store.about("nothing") is None

    def test_arrays_keep_their_dtypes_shapes_and_order_and_belong_to_the_caller(self) -> None:
        arrays: dict[str, np.ndarray] = {
            "b": np.linspace(0, 1, 11).astype(np.float16),
            "a": np.arange(6).reshape(2, 3),
            "none": np.zeros((0, 4), np.uint8),
            "text": np.array("r34"),
        }
        with tempfile.TemporaryDirectory() as folder:
            with closing(self.store(Path(folder), self.description)) as store:
                store.save_arrays(3, {"old": np.zeros(2)})
                for owner in (3, "3", "cases/1", "cases/2"):
                    store.save_arrays(owner, arrays)
                store.save_arrays("cases/2", {})
                store.commit()
            with closing(self.reader(Path(folder))) as store:
                found = store.load_arrays(3)
                assert list(found) == list(arrays)
                for name, array in arrays.items():
                    assert found[name].dtype == array.dtype and found[name].shape == array.shape
                    np.testing.assert_array_equal(found[name], array)
                found["a"][0, 0] = 9
                assert store.load_arrays(3)["a"][0, 0] == 0
                assert store.load_arrays("nobody") == {}
                assert store.array_names("cases/") == ["cases/1"] and store.array_names("") != []

    def test_readers_see_what_is_committed_and_a_rollback_undoes_the_rest(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = self.rows(3)
            with (
                closing(self.store(Path(folder), self.description)) as store,
                closing(self.reader(Path(folder))) as reader,
            ):
                store.add_candidates(given[:1])
                assert list(reader.candidates()) == []
                store.commit()
                assert len(list(reader.candidates())) == 1
                store.add_candidates(given[1:])
                store.add_evaluation(self.done(given[0]))
                store.save_note("elapsed", 1.0)
                store.rollback()
                store.commit()
                assert reader.counts() == store.counts() == {"candidates": 1}
                assert store.note("elapsed") is None

    def test_what_is_added_while_rows_are_read_does_no_harm(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            given = self.rows(1200)
            with closing(self.store(Path(folder), self.description)) as store:
                store.add_candidates(given)
                for row in given[:1100]:
                    store.add_evaluation(self.done(row))
                store.commit()
                seen = []
                for found in store.evaluations():
                    seen.append(found.seq)
                    if found.seq == 1:
                        store.add_evaluation(self.done(given[1100]))
                        store.commit()
                assert seen[:1100] == list(range(1, 1101)) and set(seen[1100:]) <= {1101}

    def test_a_copy_is_another_database_of_all_that_was_committed(self) -> None:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
            given = self.rows(700)
            with closing(self.store(Path(folder), self.description)) as store:
                store.add_candidates(given)
                store.save_arrays(5, {"grid": np.eye(3)})
                store.commit()
                target = self.file(Path(other))
                with closing(self.reader(Path(folder))) as reader:
                    reader.copy(target)
                store.add_evaluation(self.done(given[6]))
            with closing(self.reader(Path(other))) as copy:
                assert copy.counts() == {"candidates": 700}
                assert copy.load_arrays(5)["grid"].tolist() == np.eye(3).tolist()
                assert copy.about("space") == self.description

    def file(self, folder: Path) -> Path:
        """Return the file that :meth:`reader` opens in a folder."""
        return folder / "ledger.db"

    def test_a_reader_of_nothing_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.reader(Path(folder))
            except StoreError as error:
                assert "\n" not in str(error)
            else:
                raise AssertionError("a reader made a database")


def _plain(row: CandidateRow) -> CandidateRow:
    return row._replace(parents=tuple(row.parents))
