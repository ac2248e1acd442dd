"""How easy it is to find one's way in the code, counted from its text.
``python -m benchmarks.house [--json FILE] [--root FOLDER]``

Nothing is imported or run. The product is the four floors, the public package ``secateur`` where there is
one, and ``run_search.py``; benchmarks count where it is said. The figures:

- ``largest_flat_folder``: Python files side by side in one folder, without those in its subfolders.
- ``isinstance_guests``: calls of ``isinstance`` in ``search`` and ``evaluators`` that ask for a space, an
  evaluator, a strategy or a coevolution of ours, or for any class that is derived from one of these;
  ``isinstance_own``: for any class that the product defines.
- ``attribute_literals``: calls of ``getattr`` and ``hasattr`` in ``search`` and ``evaluators`` that name the
  attribute by a literal string; ``attribute_literals_everywhere``: in the whole product.
- ``complex_functions_share``: functions and methods whose cyclomatic complexity, counted by radon, is above
  10.
- ``long_lines_share``: lines of more than 100 columns among those that are not blank.
- ``comment_lines_share``: lines with nothing but a comment, over lines of code; docstrings are neither.
- ``circles``: sets of modules, benchmarks included, that import one another, be it at the top, inside a
  function or for type checking; ``arrows_up``: imports of a higher floor, without those for type checking.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx as nx
from radon.complexity import cc_visit_ast

from benchmarks import harness

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("spaces", "operators", "evaluators", "search", "secateur", "benchmarks")
"""From the ground up; ``secateur`` is the public face of the four below it."""
PRODUCT = (*FLOORS[:-1], "run_search.py")
ASKING = ("search", "evaluators")
"""The floors in which classes and attributes that are asked for count."""
GUESTS = frozenset({"Space", "Evaluator", "Strategy", "Coevolution"})
"""What users hand to a search, by their base classes."""


@dataclass(frozen=True)
class Source:
    """A Python file: its path below the root, and its text."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @property
    def module(self) -> str:
        """Its name in imports."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def floor(self) -> str:
        """The folder at the top of the repository, or the file itself."""
        return self.path.parts[0]

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """Yield the calls of functions of these names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield node


def read(root: Path, tops: Sequence[str]) -> list[Source]:
    """Return the Python files of some folders, or files, at the top of a repository."""
    found = []
    for top in tops:
        files = sorted((root / top).rglob("*.py")) if (root / top).is_dir() else [root / top]
        found += [Source(file.relative_to(root), file.read_text()) for file in files if file.exists()]
    return found


def largest_folder(sources: Sequence[Source]) -> tuple[str, int]:
    """Return the folder with the most files side by side, and their number."""
    return Counter(source.path.parent.as_posix() for source in sources).most_common(1)[0]


def families(sources: Sequence[Source]) -> dict[str, set[str]]:
    """Return every class that is defined, with the names of all its bases, near and far."""
    bases: dict[str, set[str]] = {}
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(_last_name(base) for base in node.bases)
    graph = nx.DiGraph([(name, base) for name, nearest in bases.items() for base in nearest])
    graph.add_nodes_from(bases)
    return {name: set(nx.descendants(graph, name)) for name in bases}


def _last_name(node: ast.expr) -> str:
    """Return ``C`` of ``C``, ``module.C`` and ``C[int]``."""
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def asked_classes(source: Source) -> Iterator[set[str]]:
    """Yield, for every call of ``isinstance``, the names of the classes that it asks for."""
    for call in source.calls("isinstance"):
        asked = ast.walk(call.args[1])
        yield {_last_name(node) for node in asked if isinstance(node, ast.Name | ast.Attribute)}


def attribute_literals(sources: Sequence[Source]) -> int:
    """Count the attributes that are asked for by a literal string."""
    return sum(
        isinstance(call.args[1], ast.Constant)
        for source in sources
        for call in source.calls("getattr", "hasattr")
    )


def complexity(sources: Sequence[Source]) -> dict[str, Any]:
    """Return the number of functions, the share of those above 10, the number above 15, and the largest."""
    blocks = [
        (block.complexity, f"{source.module}.{block.fullname}")
        for source in sources
        for block in cc_visit_ast(source.tree)
        if block.letter != "C"  # a class is the sum of its methods
    ]
    largest, where = max(blocks, default=(0, ""))
    return {
        "functions": len(blocks),
        "complex_functions_share": sum(value > 10 for value, _ in blocks) / max(1, len(blocks)),
        "functions_above_15": sum(value > 15 for value, _ in blocks),
        "largest_complexity": largest,
        "most_complex_function": where,
    }


def widths(sources: Sequence[Source]) -> dict[str, float]:
    """Return the shares of lines over 100 and over 110 columns, blank lines left out."""
    lengths = [len(line) for source in sources for line in source.text.splitlines() if line.strip()]
    return {
        "long_lines_share": sum(length > 100 for length in lengths) / len(lengths),
        "lines_over_110_share": sum(length > 110 for length in lengths) / len(lengths),
    }


def comments_share(sources: Sequence[Source]) -> float:
    """Return lines of comments alone over lines of code."""
    comments = code = 0
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for source in sources:
        commented, written = set[int](), set[int]()
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.COMMENT:
                commented.add(token.start[0])
            elif token.type not in layout:
                written.update(range(token.start[0], token.end[0] + 1))
        comments += len(commented - written)
        code += len(written - _docstrings(source))
    return comments / code


def _docstrings(source: Source) -> set[int]:
    """Return the lines of strings that are statements of their own."""
    found = set[int]()
    for node in ast.walk(source.tree):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    return found


def imports(sources: Sequence[Source]) -> Iterator[tuple[Source, str, bool]]:
    """Yield what every module imports of the others, and whether for type checking alone."""
    modules = {source.module for source in sources}
    for source in sources:
        checking = {id(node) for block in _checked_blocks(source.tree) for node in ast.walk(block)}
        for node in ast.walk(source.tree):
            for name in _imported(node, modules):
                yield source, name, id(node) in checking


def _checked_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements below ``if TYPE_CHECKING``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
            yield from node.body


def _imported(node: ast.AST, modules: set[str]) -> Iterator[str]:
    """Yield the modules that a statement imports; of ``from a import b`` that is ``a.b`` where it is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield from [name for name in (whole, node.module) if name in modules][:1]


def circles(sources: Sequence[Source]) -> list[list[str]]:
    """Return the sets of modules that import one another, directly or by way of others."""
    graph = nx.DiGraph([(source.module, name) for source, name, _ in imports(sources)])
    return sorted(sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1)


def arrows_up(sources: Sequence[Source]) -> list[str]:
    """Return the imports of a higher floor."""
    return sorted(
        {
            f"{source.module} -> {name}"
            for source, name, checking in imports(sources)
            if not checking and FLOORS.index(source.floor) < FLOORS.index(name.partition(".")[0])
        }
    )


def figures(root: Path) -> dict[str, Any]:
    """Return all figures of a repository."""
    product, benchmarks = read(root, PRODUCT), read(root, ["benchmarks"])
    asking = [source for source in product if source.floor in ASKING]
    own = families(product)
    guests = {name for name, bases in own.items() if GUESTS & (bases | {name})}
    asked = [names for source in asking for names in asked_classes(source)]
    folder, files = largest_folder(product + benchmarks)
    floors = [source for source in product + benchmarks if source.floor in FLOORS]
    return {
        "largest_flat_folder": files,
        "largest_flat_folder_name": folder,
        "isinstance_guests": sum(bool(names & guests) for names in asked),
        "isinstance_own": sum(bool(names & own.keys()) for names in asked),
        "attribute_literals": attribute_literals(asking),
        "attribute_literals_everywhere": attribute_literals(product),
        **complexity(product),
        **widths(product),
        "comment_lines_share": comments_share(product),
        "circles": len(circles(floors)),
        "circles_named": circles(floors),
        "arrows_up": len(arrows_up(floors)),
        "arrows_up_named": arrows_up(floors),
        "readme_lines": len((root / "README.md").read_text().splitlines()),
        "product_files": len(product),
        "product_lines": sum(len(source.text.splitlines()) for source in product),
        "benchmarks": complexity(benchmarks) | widths(benchmarks),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, print the figures, and write them where ``--json`` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="another checkout")
    given = parser.parse_args(arguments)
    harness.report("house", figures(given.root), {}, harness.environment(given.root), given.json)


if __name__ == "__main__":
    main()
