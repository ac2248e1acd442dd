"""Endings are data, and every text that a version has written for one is read."""

import pytest

from search.ending import Ending, EndingKind


@pytest.mark.parametrize("kind", EndingKind)
def test_an_ending_comes_back_from_its_text(kind: EndingKind) -> None:
    for ending in (Ending(kind), Ending(kind, "KeyError: 'width': no")):
        assert Ending.parse(str(ending)) == ending


def test_the_text_is_the_one_of_older_ledgers() -> None:
    assert str(Ending(EndingKind.EVALUATIONS)) == "evaluations"
    assert str(Ending(EndingKind.FAILURES, "KeyError: 'width'")) == "failures: KeyError: 'width'"
    assert str(Ending(EndingKind.DISK_FULL, "free some space")) == "disk full: free some space"


def test_the_note_of_a_ledger_is_read_in_every_form() -> None:
    for note, ending in (
        (None, None),
        ("", None),
        ("stall", Ending(EndingKind.STALL)),
        ({"reason": "seconds", "budget": {}}, Ending(EndingKind.SECONDS)),
        ("of a later version: who knows", Ending(EndingKind.INTERRUPTED, "of a later version: who knows")),
    ):
        assert Ending.read({"ended": note}.get) == ending


def test_after_which_endings_the_same_call_goes_on_and_which_let_what_was_asked_finish() -> None:
    assert {kind for kind in EndingKind if Ending(kind).unfinished} == {
        EndingKind.INTERRUPTED,
        EndingKind.FAILURES,
        EndingKind.DISK_FULL,
    }
    assert {kind for kind in EndingKind if Ending(kind).faulty} == {
        EndingKind.FAILURES,
        EndingKind.DISK_FULL,
    }
    assert {kind for kind in EndingKind if Ending(kind).orderly} == {
        EndingKind.EVALUATIONS,
        EndingKind.STALL,
        EndingKind.EPOCHS,
        EndingKind.TARGET,
        EndingKind.EXHAUSTED,
    }
