"""README shows what the committed results say, and nothing else."""

from benchmarks.readme import BEGIN, END, ROOT, table


def test_the_figures_in_readme_are_those_of_the_results():
    text = (ROOT / "README.md").read_text()
    assert text.split(BEGIN)[1].split(END)[0].strip() == table().strip()
