"""Modules of the user's that nothing has imported yet come along to the workers."""

import importlib
import sys

import pytest

from search.executors import ray_sources
from search.executors.base import WorkersLostError
from search.executors.ray_nodes import Head
from search.executors.ray_sources import gather, install


@pytest.fixture
def folder(tmp_path):
    """A folder as a user's, which no worker has; and no trace of it afterwards."""
    (tmp_path / "lazily_one.py").write_text("import lazily_two.inner.deep as deep\nVALUE = deep.VALUE\n")
    (tmp_path / "lazily_two" / "inner").mkdir(parents=True)
    (tmp_path / "lazily_two" / "__init__.py").write_text("")
    (tmp_path / "lazily_two" / "inner" / "deep.py").write_text("VALUE = 7\n")
    (tmp_path / "not-a-module.py").write_text("")
    before, known = list(sys.meta_path), set(sys.modules)
    yield tmp_path
    sys.meta_path[:] = before
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_what_is_gathered_can_be_imported_where_its_folder_is_not(folder):
    sources = gather([str(folder)])
    assert sorted(sources) == ["lazily_one", "lazily_two", "lazily_two.inner.deep"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lazily_one")
    install(sources)
    found = importlib.import_module("lazily_one")
    assert found.VALUE == 7 and found.__spec__.origin == str(folder / "lazily_one.py")


def test_what_came_along_stands_behind_what_is_installed_and_is_replaced(folder):
    (folder / "json.py").write_text("raise AssertionError\n")
    install(gather([str(folder)]))
    install({})
    assert importlib.import_module("json").dumps([]) == "[]"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lazily_one")


def test_a_folder_of_very_many_files_is_told(folder, monkeypatch, caplog):
    monkeypatch.setattr(ray_sources, "_MOST_ENTRIES", 2)
    assert len(gather([str(folder)])) < 3
    assert "keep the configuration in its own folder" in caplog.text


def test_what_is_installed_or_ours_stays():
    assert not {name.partition(".")[0] for name in gather()} & {"torch", "numpy", "search", "json"}


def test_a_head_that_answers_no_more_is_told_in_time(monkeypatch):
    """Before Ray ends the process, which it does after a minute."""
    head, clock, answers = Head(), [0.0], [True]
    monkeypatch.setattr("search.executors.ray_nodes._open", lambda host, port: answers[0])
    monkeypatch.setattr("search.executors.ray_nodes.time.monotonic", lambda: clock[0])
    head.address = "10.0.0.1:6379"
    assert head.check()
    answers[0] = False
    assert not head.check()
    clock[0] = 20.0
    assert not head.check()
    answers[0] = True
    assert head.check()
    answers[0], clock[0] = False, 30.0
    assert not head.check()
    clock[0] = 61.0
    with pytest.raises(WorkersLostError, match=r"10\.0\.0\.1:6379 has not answered.*run the same command"):
        head.check()
