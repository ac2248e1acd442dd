"""The figures of a search of cells say what its arrays say."""

import numpy as np
import pytest

from search.report import supernet_figures as figures
from search.report.supernet_facts import Course

NAMES = ("skip", "sep_conv_3", "max_pool_3")


@pytest.fixture
def course() -> Course:
    """Four epochs of two edges; ``max_pool_3`` leaves the first after epoch 2."""
    importances = np.full((4, 2, 3), 1 / 3, dtype=np.float32)
    importances[:2, 0] = (0.5, 0.3, 0.2)
    importances[2:, 0] = (0.6, 0.4, np.nan)
    divergences = np.full((4, 2), np.nan, dtype=np.float32)
    divergences[1:, 0] = (1e-2, 1e-3, 1e-4)
    return Course(
        3,
        "cell: 0<a:sep_conv_3,b:skip 1<b:skip,0:max_pool_3",
        ("cell/a-0", "cell/b-0"),
        NAMES,
        importances,
        divergences,
        np.array([100.0, 100.0, 50.0, 50.0]),
        np.array([8.0, 8.0, 8.0, 6.0]),
        [(2, "cell/a-0", "max_pool_3")],
        {"search_cost": 0.5},
        {"before": np.full((5, 3), 0.5), "after": np.full((5, 3), 0.7)},
    )


def test_the_graph_has_every_edge_with_its_operation(course: Course) -> None:
    notes = figures.architecture_figure(course).layout.annotations
    assert sorted(note.text for note in notes if note.text) == ["max_pool_3", "sep_conv_3", "skip", "skip"]
    assert sum(bool(note.showarrow) for note in notes) == 4 + 2, "and each node leads to the output"


def test_nodes_stand_behind_what_they_read() -> None:
    places = figures.layout([("a", "0"), ("b", "0"), ("0", "1"), ("b", "1")])
    assert places["a"][0] == places["b"][0] == 0 < places["0"][0] < places["1"][0]
    assert len(set(places.values())) == 4


def test_a_line_ends_where_its_operation_went(course: Course) -> None:
    traces = figures.importances_figure(course).data
    lines = {(t.name, t.xaxis): t for t in traces if t.mode == "lines"}
    assert list(lines["max_pool_3", "x"].x) == [1, 2] and list(lines["skip", "x"].x) == [1, 2, 3, 4]
    assert lines["skip", "x"].y[3] == pytest.approx(0.6)
    marks = [t for t in traces if t.mode == "markers"]
    assert len(marks) == 1 and list(marks[0].x) == [2] and marks[0].y[0] == pytest.approx(0.2)


def test_divergences_are_drawn_where_there_are_any(course: Course) -> None:
    plot = figures.divergences_figure(course)
    line, marks = plot.data
    assert list(line.x) == [2, 3, 4] and line.name == "cell/a-0" and list(marks.x) == [2]
    assert plot.layout.yaxis.type == "log"


def test_cost_is_told_as_a_share_of_the_full_supernet(course: Course) -> None:
    macs, memory = figures.cost_figure([course], 8).data
    assert list(macs.y) == [1, 1, 0.5, 0.5] and list(memory.y) == [1, 1, 1, 0.75]


def test_cases_are_paired_with_their_structures(course: Course) -> None:
    before, after = figures.cases_figure(course).data
    assert len(before.x) == len(after.y) == 15 and set(after.x) == {
        "structure 1",
        "structure 2",
        "structure 3",
    }
    assert before.y[0] == 0.5 and after.y[0] == pytest.approx(0.7)
