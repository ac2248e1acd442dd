"""README and the page of benchmarks show what the committed results say, and nothing else."""

import pytest

from benchmarks.readme import BEGIN, END, FIGURES, PAGES, ROOT, SUMMARY


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_of_a_page_are_those_of_the_results(page):
    text = (ROOT / page).read_text()
    assert text.split(BEGIN)[1].split(END)[0].strip() == PAGES[page]().strip()


def test_readme_shows_few_figures_all_of_which_stand_on_the_page_as_well():
    assert 6 <= len(SUMMARY) <= 12
    full = {(name, figure): asked for name, figure, _, asked in FIGURES}
    assert all(full[name, figure] == asked for name, figure, _, asked in SUMMARY)


def test_readme_is_read_in_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
