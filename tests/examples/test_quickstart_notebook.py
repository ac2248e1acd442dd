"""The notebook of the examples runs, from its first cell to its last."""

import ast
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def test_the_notebook_is_kept_without_outputs():
    cells = nbformat.read(NOTEBOOK, 4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
    for cell in code:
        ast.parse(cell.source)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path):
    client = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, 4)
    search = notebook.cells[1]
    assert "evaluations=100" in search.source and "epochs=10" in search.source
    search.source = search.source.replace("evaluations=100", "evaluations=24").replace(
        "epochs=10", "epochs=2"
    )
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("<table>" in one.get("text/html", "") and "take" in one["text/html"].lower() for one in data)
    assert sum("application/vnd.plotly.v1+json" in one for one in data) == 2
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()
    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert "Warning" not in said
