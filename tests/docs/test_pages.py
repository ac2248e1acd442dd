"""README and the pages of docs/ say what is true: their Python runs, their commands are parsed, their files
and links are there.

A comment in the line before a block says what is special: ``<!-- from: FILE -->``, an excerpt of a file that
another test runs; ``<!-- needs: WHAT -->``, it runs only with what is not here.
"""

import importlib
import importlib.util
import inspect
import re
import shlex
import sys
import types
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.config.class_paths import ClassPaths
from search.config.settings import Settings
from secateur import HOMES
from secateur.cli import COMMANDS
from spaces.channels.rules import RULES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (needs|from): (.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "docs/cells.md": "tests/test_cells_docs.py",
    "docs/extending.md": "tests/test_docs.py",
    "docs/tuning-pieces.md": "tests/search/raytune/test_raytune.py",
}
"""Pages whose Python another test runs, which looks at what comes of it."""
NEEDS = {"cluster": 3, "GPU": 2, "database": 2, "CIFAR-10": 1, "your files": 4}
"""What blocks need that is not here, and how many do: another one has to be counted here."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with what the comment before it says."""

    page: str
    line: int
    language: str
    code: str
    needs: str | None
    source: str | None


def blocks_of(path: Path) -> list[Block]:
    text, page = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    return [
        Block(
            page,
            text[: found.start(3)].count("\n") + 1,
            found[3],
            found[4],
            found[2] if found[1] == "needs" else None,
            found[2] if found[1] == "from" else None,
        )
        for found in BLOCK.finditer(text)
    ]


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
RUN = {
    page: [b for b in BLOCKS if b.page == page and b.language == "python" and not b.needs]
    for page in dict.fromkeys(b.page for b in BLOCKS)
    if page not in ELSEWHERE
}


def example(name: str) -> types.ModuleType:
    """Import a file of examples/ as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"page_{Path(name).stem}", ROOT / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [page for page, blocks in RUN.items() if blocks])
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    module = types.ModuleType(f"page_{Path(page).stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    rules = dict(RULES)
    try:
        for block in RUN[page]:
            if block.source:
                module.__dict__.update(vars(example(block.source)))
            else:
                exec(compile("\n" * block.line + block.code, str(ROOT / page), "exec"), module.__dict__)
    finally:
        RULES.clear()
        RULES.update(rules)
    if page == "README.md":
        full, smaller = (sum(p.numel() for p in m.parameters()) for m in (module.model, module.smaller))
        assert smaller < full
    if page == "docs/your-model.md":
        built = module.result.build(0)
        assert [p.shape for p in built.parameters()] == [p.shape for p in module.smaller.parameters()]
    if page == "docs/tuning.md":
        assert len(module.result.trials) == 8 and module.model is not None


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.source], ids=lambda b: f"{b.page}:{b.line}")
def test_an_excerpt_stands_in_its_file(block):
    assert block.code.strip() in (ROOT / block.source).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ELSEWHERE)
def test_the_other_tests_read_these_pages(page):
    assert any(b.language == "python" for b in BLOCKS if b.page == page)
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


def test_every_block_names_its_language_and_what_it_needs_is_counted():
    assert [f"{b.page}:{b.line}" for b in BLOCKS if b.language not in ("python", "sh", "yaml")] == []
    assert Counter(b.needs for b in BLOCKS if b.needs) == NEEDS


def commands() -> list[tuple[str, list[str]]]:
    """Return every line of the blocks for a shell, without comments, with the place where it stands."""
    return [
        (f"{block.page}:{block.line}", words)
        for block in BLOCKS
        if block.language == "sh"
        for line in block.code.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    ]


SEARCHES = [
    pytest.param(words[words.index("run_search.py") + 1 :], id=f"{place}-{i}")
    for i, (place, words) in enumerate(commands())
    if "run_search.py" in words
]


@pytest.mark.parametrize("words", SEARCHES)
def test_every_command_with_a_configuration_is_parsed(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("your_weights.safetensors").touch()  # which examples/your_model.py writes
    command = words[0] if words[0] in COMMANDS else "run"
    rest = words[1:] if words[0] in COMMANDS else words
    if command in ("report", "dashboard", "export"):
        assert re.fullmatch(r"runs/[\w-]+", rest[0])
        rest = ["configs/digits_channels.yaml", *rest[1:]]
    if rest[0] == "configs/mine.yaml":  # the reader's own
        rest = ["configs/digits_channels.yaml", *rest[1:]]
    Settings.parse([str(ROOT / rest[0]), *rest[1:]])


def test_there_are_commands_and_the_other_ones_name_what_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(SEARCHES) > 25
    for place, words in commands():
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile, place
        if "-m" in words and words[words.index("-m") + 1].startswith("benchmarks"):
            assert importlib.util.find_spec(words[words.index("-m") + 1]), place


def named(value: Any) -> list[dict[str, Any]]:
    """Return every mapping with a ``class_path`` within plain data."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [entry for part in inner for entry in named(part)]
    return [value, *found] if isinstance(value, dict) and "class_path" in value else found


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if b.language == "yaml" and "apiVersion" not in b.code],
    ids=lambda b: f"{b.page}:{b.line}",
)
def test_the_classes_of_a_yaml_block_take_its_arguments(block):
    for entry in named(ClassPaths(HOMES).within(yaml.safe_load(block.code))):
        package, _, name = entry["class_path"].rpartition(".")
        if package.startswith(("my_", "your_")):  # the reader's own
            continue
        made = getattr(importlib.import_module(package), name)
        inspect.signature(made).bind_partial(**entry.get("init_args", {}))


FILES = re.compile(r"(?<![\w/])(?:configs|examples|benchmarks|tests)/[\w/-]+\.(?:ya?ml|py|json|md)")
LINKS = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
TEXTS = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_links_of_a_page_are_there(path):
    text = path.read_text(encoding="utf-8")
    if path.name != "decisions.md":  # history
        files = set(FILES.findall(text)) - {"configs/mine.yaml", "benchmarks/results/NAME.json"}
        assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
    links = {link for link in LINKS.findall(text) if "://" not in link}
    assert [link for link in sorted(links) if not (path.parent / link).exists()] == []


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = text.split("\nnav:\n")[1].split("\nmarkdown_extensions:")[0]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:]}
    assert set(re.findall(r"[\w/-]+\.md", navigation)) == pages


@pytest.mark.skipif(not (ROOT / "search" / "finish").is_dir(), reason="the folders are not there yet")
def test_the_places_that_contributing_names_are_there():
    rows = re.findall(r"^\| [a-z].*? \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    places = [place for row in rows for place in re.findall(r"`([a-z_]+/[\w/.]*)`", row)]
    assert len(places) > 5 and [place for place in places if not (ROOT / place).exists()] == []
