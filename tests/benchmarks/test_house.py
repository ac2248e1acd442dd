"""What is counted of the code, on a small tree whose counts are known."""

import json
from pathlib import Path

import pytest

from benchmarks import house

TREE = {
    "README.md": "one\ntwo\n",
    "run_search.py": "import search\n",
    "spaces/__init__.py": "",
    "spaces/base.py": '''
        """A docstring.
        # no comment
        """
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from search.report import words

        class Space: ...
        class Masked(Space): ...  # beside code
    ''',
    "spaces/grids.py": "from spaces.base import Masked\nclass Grid(Masked): ...\n",
    "evaluators/__init__.py": "",
    "evaluators/cost.py": "def late():\n    from evaluators import price\n    import search.engine\n",
    "evaluators/price.py": "from evaluators.cost import late\n",
    "search/__init__.py": "",
    "search/report/words.py": "x = 1\n",
    "search/engine.py": """
        # a comment
        import spaces.grids

        class Engine: ...

        def ask(space, name):
            if isinstance(space, (int, spaces.grids.Grid)) or isinstance(space, Engine | None):
                return getattr(space, "width", None) if hasattr(space, "depth") else getattr(space, name)
            return isinstance(space, int) and a and b and c and d and e and f and g and h and i and j
    """,
    "benchmarks/__init__.py": "",
    "benchmarks/one.py": f"x = {'1' * 100}\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        lines = text.split("\n")
        (tmp_path / name).write_text("\n".join(line.removeprefix(" " * 8) for line in lines))
    return tmp_path


def test_figures_of_a_small_tree(root):
    found = house.figures(root)
    assert (found["largest_flat_folder"], found["largest_flat_folder_name"]) == (3, "spaces")
    assert found["isinstance_guests"] == 1, "a grid is a space, by way of another class; an engine is none"
    assert found["isinstance_own"] == 2
    assert found["attribute_literals"] == 2, "the name that is not a literal does not count"
    assert found["functions"] == 2 and found["complex_functions_share"] == 0.5
    assert found["most_complex_function"] == "search.engine.ask"
    assert found["largest_complexity"] == 14, "one, an if, a choice, an or, ten times and"
    assert found["long_lines_share"] == 0 and found["benchmarks"]["long_lines_share"] == 1
    assert found["comment_lines_share"] == pytest.approx(1 / 19), "neither docstrings nor ends of lines"
    assert found["circles_named"] == [["evaluators.cost", "evaluators.price"]]
    assert found["arrows_up_named"] == ["evaluators.cost -> search.engine"], "not the one for type checking"
    assert found["readme_lines"] == 2


def test_the_result_is_written_without_a_path_of_this_machine(root, tmp_path, capsys):
    file = tmp_path / "house.json"
    house.main(["--root", str(root), "--json", str(file)])
    assert str(tmp_path) not in file.read_text()
    assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())


def test_benchmarks_have_no_circle():
    assert house.circles(house.read(house.ROOT, ["benchmarks"])) == []
