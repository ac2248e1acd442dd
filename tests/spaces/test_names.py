"""Classes of ours go by their bare names; the paths of format 1 are known in both directions."""

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import search
from spaces.allowed import imported
from spaces.errors import InputError
from spaces.former import CLASSES, MERGED, MODULES
from spaces.names import current_path, former_names, public_name, with_former

PATHS = json.loads((Path(__file__).parents[1] / "fixtures" / "class_paths.json").read_text())
GONE = {"search.study.rows.Rows"}  # nothing on disk names it


class Users:
    """Somebody else's class."""


def found(path):
    module, _, name = current_path(path).rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", PATHS["defined"])
def test_a_class_of_format_1_is_found_and_knows_where_it_was(path):
    if path in GONE:
        return
    kind = found(path)
    assert public_name(kind) == kind.__name__
    with former_names():
        assert public_name(kind) == path


def test_what_packages_exported_in_format_1_is_found():
    for path in PATHS["exported"]:
        assert isinstance(found(path), type), path


def test_a_class_of_the_user_is_called_by_its_module():
    assert with_former(lambda: public_name(Users)) == (f"{__name__}.Users",) * 2


def test_what_a_path_names_is_imported_or_refused_in_one_line():
    assert imported("spaces.base.Segment", "space: x").__name__ == "Segment"
    with pytest.raises(
        InputError, match=r"space: model 'spaces.models.Missing' cannot be imported .* expected a"
    ):
        imported("spaces.models.Missing", "space: model")


def test_former_modules_can_be_imported_and_say_what_to_write_instead():
    moved = {**MODULES, **MERGED}
    modules = {
        old: new for old, new in moved.items() if not new.startswith(f"{old}.")
    }  # else it is a package
    code = (
        "import importlib, sys, warnings\n"
        "import search, evaluators, operators, spaces\n"
        "for old, new in eval(sys.argv[1]).items():\n"
        "    with warnings.catch_warnings(record=True) as told:\n"
        "        warnings.simplefilter('always')\n"
        "        importlib.import_module(old)\n"
        "    assert any(f'{old} is now {new}' in str(one.message) for one in told), (old, told)\n"
    )
    subprocess.run([sys.executable, "-c", code, repr(modules)], check=True)


def test_a_former_name_in_a_former_module_is_todays_class():
    for path, new in CLASSES.items():
        module, _, name = path.rpartition(".")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert getattr(importlib.import_module(module), name) is found(new), path
    with pytest.warns(DeprecationWarning, match=r"search\.Lineages is now PruningLines"):
        assert search.Lineages is search.PruningLines
