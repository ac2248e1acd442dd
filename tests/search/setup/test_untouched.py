"""A complete run that is called again byte for byte as it was says so without tracing anything."""

import importlib
import sys

import pytest
import torch

from evaluators.data import Digits
from search import Evolution, Finish, Search
from search.setup.preparation import Preparation
from spaces.models import Perceptron


class Looked(Exception):
    """The space is made: the run is looked at."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that calls a run again; without `looking` its space must not be made."""

    def go(evaluations=2, looking=False, config="config", seed=0):
        torch.manual_seed(seed)
        parts = {"strategy": Evolution(population=4), "criteria": [], "study": False, "lag": 2, "chunk": 1}
        search = Search(
            Perceptron((64, 8, 10)),
            Digits(),
            directory=tmp_path / "run",
            config=config,
            finish=Finish(members=0),
            **parts,
        )
        with monkeypatch.context() as patch:
            if not looking:
                patch.setattr(Preparation, "make_space", lambda self: (_ for _ in ()).throw(Looked))
            return search.run(evaluations=evaluations)

    return go


def test_a_complete_run_is_known_and_its_models_can_be_built(run):
    first = run(looking=True)
    again = run()
    assert again.complete and not first.complete
    assert [m.candidate.id for m in again.front] == [m.candidate.id for m in first.front]
    assert again.reason == first.reason and again.table() == first.table()
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(again.build(0).eval()(x), first.build(0).eval()(x))


@pytest.mark.parametrize("change", [{"evaluations": 3}, {"config": "another"}, {"seed": 1}])
def test_whatever_has_changed_is_looked_at(run, change):
    run(looking=True)
    with pytest.raises(Looked):
        run(**change)


@pytest.mark.parametrize("imported_again", [True, False])
def test_a_source_of_the_users_that_was_edited_is_looked_at(run, tmp_path, monkeypatch, imported_again):
    """Also one that a later call has not imported yet, as it is with what is first imported on the way."""
    source = tmp_path / "users_own_part.py"
    source.write_text("RATE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("users_own_part")
    run(looking=True)
    if not imported_again:
        sys.modules.pop("users_own_part")
    run()
    source.write_text("RATE = 2  # edited\n")
    with pytest.raises(Looked):
        run()
    sys.modules.pop("users_own_part", None)


def test_a_source_that_the_run_did_not_have_is_looked_at(run, tmp_path, monkeypatch):
    run(looking=True)
    (tmp_path / "users_new_part.py").write_text("RATE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("users_new_part")
    with pytest.raises(Looked):
        run()
    sys.modules.pop("users_new_part")


def test_what_is_missing_in_the_folder_is_looked_at(run, tmp_path):
    run(looking=True)
    (tmp_path / "run" / "report.html").unlink()
    with pytest.raises(Looked):
        run()
