"""Everything public is in `secateur`, under one name, and costs nothing until it is used."""

import importlib
import inspect
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

import run_search
import secateur
from search.config.class_paths import ClassPaths
from search.config.settings import Settings
from secateur.cli import main
from spaces.errors import InputError

ROOT = Path(__file__).parents[2]
PARTS = ("spaces", "operators", "evaluators", "search")
SMALL = {
    "name": "bare",
    "model": {"class_path": "ResidualNet", "init_args": {"widths": [4, 8]}},
    "data": {"class_path": "Digits"},
    "evaluators": [{"class_path": "Cost"}, {"class_path": "Quality"}],
    "strategy": {"class_path": "Evolution", "init_args": {"crossover": {"class_path": "Uniform"}}},
}


def exported():
    """Return the packages that export a class, by its name."""
    found = defaultdict(dict)
    for package in set(secateur.HOMES.values()):
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if inspect.isclass(thing) and thing.__module__.partition(".")[0] in PARTS:
                found[name][package] = thing
    return found


def test_every_class_that_a_package_exports_is_public_under_one_name():
    for name, homes in exported().items():
        assert len(set(homes.values())) == 1, f"{name} is two things: {homes}"
        assert secateur.HOMES.get(name) in homes, f"{name} of {sorted(homes)} is missing in secateur"


def test_every_public_name_is_there():
    for name, package in secateur.HOMES.items():
        assert getattr(secateur, name) is getattr(importlib.import_module(package), name)
    assert set(secateur.__all__) <= set(dir(secateur))
    with pytest.raises(AttributeError, match="'secateur' has no attribute 'Evolutoin'"):
        secateur.Evolutoin  # noqa: B018


def test_the_package_alone_imports_nothing_heavy():
    code = "import sys, secateur; assert not {'torch', 'numpy', 'ray', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("package", "foreign"), [("secateur", "spaces"), ("search", "spaces"), ("secateur", "search")]
)
def test_a_package_of_somebody_else_in_front_is_named_in_one_line(tmp_path, package, foreign):
    (tmp_path / foreign).mkdir()
    (tmp_path / foreign / "__init__.py").touch()
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import {package}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("ImportError")]
    assert f"expected the package {foreign!r} in " in line and "first on PYTHONPATH" in line


def test_the_command_is_the_script():
    assert run_search.main is main


# -- bare names in configurations ----------------------------------------------------------------------------


def parse(tmp_path, *words, **changes):
    path = tmp_path / "bare.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes))
    return Settings.parse([str(path), *words], secateur.HOMES)


def test_a_config_names_classes_by_their_public_names(tmp_path):
    settings = parse(tmp_path, "--strategy.init_args.crossover", "SegmentWise")
    assert settings.spec("model")["class_path"] == "spaces.models.ResidualNet"
    strategy = settings.make("strategy")
    assert isinstance(strategy, secateur.Evolution) and isinstance(strategy.crossover, secateur.SegmentWise)
    assert [type(part) for part in settings.make("evaluators")] == [secateur.Cost, secateur.Quality]
    assert isinstance(parse(tmp_path, "--strategy=RandomSearch").make("strategy"), secateur.RandomSearch)
    given = parse(tmp_path, "--evaluators", '[{"class_path": "Cost"}]')
    assert [type(part) for part in given.make("evaluators")] == [secateur.Cost]


@pytest.mark.parametrize(
    ("words", "changes", "told"),
    [
        (
            (),
            {"model": {"class_path": "ResidualNett"}},
            "model: no class 'ResidualNett'; did you mean 'ResidualNet'",
        ),
        (("--strategy", "Evolutoin"), {}, "strategy: no class 'Evolutoin'; did you mean 'Evolution'"),
        (
            (),
            {"strategy": {"class_path": "Evolution", "init_args": {"crossover": {"class_path": "Unifrom"}}}},
            "strategy.crossover: no class 'Unifrom'; did you mean 'Uniform'",
        ),
    ],
)
def test_a_public_name_with_a_typo_is_one_line_with_the_place(tmp_path, words, changes, told):
    with pytest.raises(InputError, match=told):
        parse(tmp_path, *words, **changes)


def test_words_that_are_no_classes_stay_as_they_are(tmp_path):
    paths = ClassPaths(secateur.HOMES)
    words = ["--name", "Evolution", "--seed", "3", "--objectives", "[error]", "--data.init_args.seed=7"]
    assert paths.words(words) == words
    (tmp_path / "c.yaml").write_text("name: x\nspace: {class_path: mine.Own}\n")
    assert paths.config(tmp_path / "c.yaml") == str(tmp_path / "c.yaml")
