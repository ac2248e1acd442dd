"""Which files turn names or bytes into code: each is here with its reason, so that none comes unseen."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("spaces", "operators", "evaluators", "search", "secateur")
KNOWN = {
    ("spaces/names.py", "import_module"): "paths out of our own tables",
    ("spaces/lazy.py", "import_module"): "paths out of our own tables",
    ("secateur/__init__.py", "import_module"): "paths out of our own tables",
    ("spaces/allowed.py", "import_module"): "the one place for names that a user or a file gives",
    ("spaces/pretrained/loading.py", "import_module"): "transformers, by that name",
    ("spaces/pretrained/named.py", "import_module"): "timm and torchvision, by these names",
    ("search/listeners/base.py", "import_module"): "libraries that our own listeners name",
    ("search/config/description.py", "import_module"): "our own public names",
    ("search/config/mistakes.py", "import_module"): "asks spaces.allowed first",
    ("search/executors/ray_sources.py", "exec"): "the user's modules, which the driver gave to its workers",
    ("spaces/channels/rewriting.py", "exec"): "code that torch.fx wrote; names of a recipe are parameters",
    ("spaces/channels/rewriting.py", "__import__"): "importlib, for the next",
    ("spaces/channels/rewriting.py", "import_module"): "a module that this process had, sent to a worker",
    ("search/raytune/searcher.py", "cloudpickle.loads"): "Tuner.restore, which unpickles everything",
    ("search/raytune/stored_study.py", "pickle.Unpickler"): "finds nothing but what is allowed",
}
LOADERS = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
CODE = {"import_module", "__import__", "eval", "exec", "import_string", "import_object"}
PICKLES = {
    f"{module}.{name}"
    for module in ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
    for name in ("load", "loads", "Unpickler", "open")
}
YAML = {"yaml.load", "yaml.full_load", "yaml.unsafe_load", "torch.hub.load", "torch.jit.load"}


def named(node: ast.expr) -> str:
    """Return the dotted name of what is called or inherited."""
    if isinstance(node, ast.Attribute):
        return f"{named(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@cache
def found(file: Path) -> list[tuple[str, ast.Call | None]]:
    """Return everything in a file that may turn names or bytes into code."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    uses: list[tuple[str, ast.Call | None]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            uses.append((named(node.func), node))
        elif isinstance(node, ast.ClassDef):
            uses += [(named(base), None) for base in node.bases]
    code = [(name.rpartition(".")[2], node) for name, node in uses if name.rpartition(".")[2] in CODE]
    code = [(name, node) for name, node in code if name not in ("eval", "exec") or _is_builtin(node)]
    return code + [(name, node) for name, node in uses if name in PICKLES | YAML | LOADERS.keys()]


def _is_builtin(node: ast.Call | None) -> bool:
    return node is not None and isinstance(node.func, ast.Name)  # model.eval() is none


FILES = [
    file.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
    if "testing" not in file.relative_to(ROOT).as_posix()  # contract suites pickle what they test
]


def test_every_file_that_imports_or_unpickles_is_known() -> None:
    uses = {(name, use) for name in FILES for use, _ in found(ROOT / name) if use not in LOADERS}
    assert uses == KNOWN.keys()


@pytest.mark.parametrize("loader", LOADERS)
def test_loaders_run_no_pickles(loader: str) -> None:
    calls = [node for name in FILES for use, node in found(ROOT / name) if use == loader and node is not None]
    assert calls
    for node in calls:
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        name, value = LOADERS[loader]
        told = given.get(name)
        assert isinstance(told, ast.Constant) and told.value is value, ast.unparse(node)
