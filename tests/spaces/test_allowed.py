"""What stored data may name: our public classes, layers of torch, and what the reader allows; nothing else is
imported or called, at any depth, whether it is imported already or not."""

import hashlib
import json
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

import secateur
from search.finish.recipe import load
from spaces.allowed import LAYERS, Allowed, imported, named_within
from spaces.base import Space
from spaces.errors import InputError
from spaces.former import CLASSES
from spaces.models import DenseNet

WEIGHTS = save({"x": torch.zeros(1)})
PLANTED = """
import builtins, os
from os import system
from torch import nn
builtins.RAN.append("import")

class Net(nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__()
        builtins.RAN.append("Net")

def make(*args, **kwargs) -> nn.Module:
    builtins.RAN.append("make")
    return nn.Identity()

def run(*args, **kwargs):
    builtins.RAN.append("run")
    return nn.Identity()
"""
MODULES = ("planted_net", "planted_before")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Two modules of a stranger that mark what they do; one of them is imported before anything is read."""
    folder = tmp_path_factory.mktemp("planted")
    for name in MODULES:
        (folder / f"{name}.py").write_text(PLANTED)
    patch = pytest.MonkeyPatch()
    patch.setattr("builtins.RAN", [], raising=False)
    patch.syspath_prepend(str(folder))
    __import__("planted_before")
    sys.modules["builtins"].RAN.clear()
    for name, home in secateur.HOMES.items():  # ours may be imported at any time
        if home.startswith("spaces"):
            getattr(secateur, name)
    yield folder
    patch.undo()
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def ran(planted):
    marks = sys.modules["builtins"].RAN
    marks.clear()
    sys.modules.pop("planted_net", None)
    return marks


WATCHED = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "shutil.rmtree"}
watching: list[list[str]] = []


def _audit(event, arguments):
    if watching and event in WATCHED:
        watching[-1].append(event)


sys.addaudithook(_audit)


def written(folder, **parts):
    """Write an exported model with these parts in its recipe."""
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_bytes(WEIGHTS)
    recipe = {
        "format": 1,
        "id": 1,
        "model": None,
        "space": None,
        "slices": [],
        "attributes": [],
        "tied": {},
        "genome": {"a": [0]},
        "metrics": {},
        "requested": {},
        "realised": {},
        "fingerprint": "x",
        "weights": hashlib.sha256(WEIGHTS).hexdigest(),
        "onnx": {},
        "versions": {},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe | parts))
    return folder


def refusal(folder, **more):
    with pytest.raises(InputError) as error:
        load(folder, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


FORBIDDEN = (
    "os.system",
    "posix.system",
    "subprocess.Popen",
    "subprocess.run",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "builtins.open",
    "importlib.import_module",
    "pickle.loads",
    "runpy.run_path",
    "shutil.rmtree",
    "torch.load",
    "torch.hub.load",
    "torch.nn.DataParallel",
    "torch.nn.Module.apply",
    "torch.nn.modules.module.register_module_forward_hook",
    "torch.nn.utils.stateless.functional_call",
    "functools.partial",
    "planted_net.Net",
    "planted_net.run",
    "planted_net.os.system",
    "planted_before.Net",
    "planted_before.make",
    "planted_before.system",
    "spaces.models.torch.load",
    "spaces.names.import_module",
    "spaces.allowed.imported",
    "spaces.files.write_bytes",
    "spaces.Pair.__class__",
    "spaces.Pair.__init__.__globals__",
    "spaces.__loader__.load_module",
    "spaces.pairs.mixed.hashlib.sha256",
    "spaces.channels.rewriting.Program",
    "spaces.cells.operations.SeparableConvolution",
    "search.load",
    "search.Search",
    "search.finish.recipe.load",
    "search.setup.baseline.load_checkpoint",
    "secateur.load",
    "secateur.cli.main",
    "evaluators.NpzFile",
    "search.recipe.pack_weights",
    "search.lineages.Lineages",
    "evaluators.lineage.LineageTraining",
    "__main__.Net",
    "",
    ".",
    "..os.system",
    "os",
    "os.system\n",
    "ｏｓ.system",
)
HARMLESS = ("spaces.Pair", "spaces.models.DenseNet", "spaces.dense.Dense", "Perceptron", "torch.nn.ReLU")
NAMES = st.sampled_from(FORBIDDEN)
PLAIN = st.one_of(st.none(), st.integers(-1, 64), st.text("ab.", max_size=4), st.sampled_from(FORBIDDEN))


def spec(path, arguments):
    return st.builds(lambda p, a: {"class_path": p, "init_args": a}, path, arguments)


def holding(inner):
    """Wrap a specification in what may hold one: modules, lists, mappings, arguments of our spaces."""
    return st.one_of(
        st.builds(lambda x: {"encoder": x, "decoder": {"class_path": "torch.nn.Identity"}}, inner).flatmap(
            lambda a: spec(st.sampled_from(("spaces.Pair", "secateur.VariationalPair")), st.just(a))
        ),
        st.builds(
            lambda x, key: {"class_path": "spaces.models.DenseNet", "init_args": {key: x}},
            inner,
            st.sampled_from(("width", "other", "model")),
        ),
        st.builds(lambda x, y: {"some": [y, {"deep": (x,)}]}, inner, PLAIN).flatmap(
            lambda a: spec(st.sampled_from(HARMLESS), st.just(a))
        ),
        st.builds(
            lambda x: {
                "class_path": "spaces.MixedPairs",
                "init_args": {"encoders": [x], "decoders": [x], "shape": [4]},
            },
            inner,
        ),
        st.builds(
            lambda x: {
                "class_path": "spaces.TrialSpace",
                "init_args": {"parameters": {"model.width": {"low": 1, "high": 4}}, "model": x},
            },
            inner,
        ),
        st.builds(
            lambda x: {"class_path": "spaces.cells.CellNetwork", "init_args": {"model": x, "genotype": ""}},
            inner,
        ),
        st.builds(lambda x: {"class_path": "spaces.JointSpace", "init_args": {"spaces": {"a": x}}}, inner),
    )


BAD = st.one_of(
    spec(NAMES, st.dictionaries(st.sampled_from(("command", "args", "x")), PLAIN, max_size=2)),
    st.builds(
        lambda name: {
            "class_path": "spaces.MixedPairs",
            "init_args": {
                "encoders": [{"class_path": "spaces.models.Perceptron", "init_args": {"widths": [4, 2]}}],
                "decoders": [{"class_path": "spaces.models.Perceptron", "init_args": {"widths": [2, 4]}}],
                "shape": [4],
                "pair": name,
            },
        },
        NAMES,
    ),
    st.builds(lambda name: {"class_path": "spaces.TrialSpace", "init_args": {"suggest": name}}, NAMES),
    st.builds(
        lambda name: {
            "class_path": "spaces.TrialSpace",
            "init_args": {"parameters": {"x": {"low": 1, "high": 4}}, "model": name},
        },
        NAMES,
    ),
    st.builds(
        lambda name: {
            "class_path": "CellNetwork",
            "init_args": {
                "model": {"class_path": "spaces.cells.SkipUNet", "init_args": {"widths": [2, 4]}},
                "operations": ["skip", name],
                "genotype": "normal: 0<a:skip",
                "plan": {"inputs": ["a"], "nodes": ["0"], "edges": [["a", "0"]], "outputs": ["0"]},
            },
        },
        NAMES,
    ),
)
SPECS = st.recursive(BAD, holding, max_leaves=3)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=SPECS, place=st.sampled_from(("model", "space")))
def test_no_nested_name_is_imported_or_called(ran, tmp_path, found, place):
    folder = written(tmp_path / "x", **{place: found})
    before, events = {*sys.modules}, []
    watching.append(events)
    try:
        message = refusal(folder)
    finally:
        watching.pop()
    assert ran == [] and events == [], (found, message)
    assert {*sys.modules} == before


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_forbidden_name_is_refused_wherever_it_stands(ran, tmp_path, name):
    for number, parts in enumerate(
        [
            {"model": {"class_path": name}},
            {"space": {"class_path": name, "init_args": {}}},
            {"model": {"class_path": "spaces.Pair", "init_args": {"encoder": {"class_path": name}}}},
            {"space": {"class_path": "spaces.TrialSpace", "init_args": {"suggest": name}}},
        ]
    ):
        refusal(written(tmp_path / str(number), **parts))
    assert ran == [] and "planted_net" not in sys.modules


def test_the_refusal_has_the_line_to_write(ran, tmp_path):
    folder = written(
        tmp_path / "1",
        model={
            "class_path": "planted_net.Net",
            "init_args": {"layers": [{"deep": {"class_path": "planted_before.Net"}}]},
        },
    )
    message = refusal(folder)
    assert message == (
        f"{folder / 'recipe.json'}: model.class_path names 'planted_net.Net', which is not allowed; to allow "
        f'it: load(path, allow=["planted_net.Net"])'
    )
    message = refusal(folder, allow=["planted_net.Net"])
    assert "model.init_args.layers[0].deep.class_path names 'planted_before.Net'" in message
    assert message.endswith('load(path, allow=["planted_net.Net", "planted_before.Net"])') and ran == []


@pytest.mark.parametrize("module", MODULES)
def test_the_answer_is_the_same_whether_a_module_is_imported_or_not(ran, tmp_path, module):
    path = f"{module}.Net"
    folder = written(tmp_path / "1", model={"class_path": path})
    assert refusal(folder).endswith(f'which is not allowed; to allow it: load(path, allow=["{path}"])')
    assert ran == []
    for allow in ([path], path, [module], __import__(module), [sys.modules[module].Net]):
        ran.clear()
        assert "has no tensor 'x'" in refusal(folder, allow=allow) and ran == ["Net"]  # it was made


def test_a_class_itself_is_allowed_without_any_import(tmp_path, monkeypatch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.ones(1))

    monkeypatch.setitem(sys.modules, __name__, None)  # it cannot be imported
    path = f"{Net.__module__}.{Net.__qualname__}"
    folder = written(tmp_path / "1", model={"class_path": path})
    assert load(folder, allow=[Net]).x == 0
    assert "not allowed" in refusal(folder, allow=[DenseNet])


def test_a_prefix_allows_what_is_defined_there_and_is_of_the_kind(ran, tmp_path):
    for name, message in (
        ("system", "which is 'posix.system' and as such not allowed"),
        ("run", "names 'planted_net.run', a function without the annotation that it returns a Module"),
        ("RAN", "cannot be imported"),
        ("nn", "not allowed"),
        ("__name__", "not allowed"),
        ("Net.__init__", "not allowed"),
        ("os.system", "cannot be imported"),
    ):
        folder = written(tmp_path / name, model={"class_path": f"planted_net.{name}"})
        assert message in refusal(folder, allow=["planted_net"]), name
    assert {*ran} == {"import"}
    folder = written(tmp_path / "make", model={"class_path": "planted_net.make"})
    assert "has no tensor 'x'" in refusal(folder, allow="planted_net") and ran[-1] == "make"
    folder = written(tmp_path / "space", space={"class_path": "planted_net.Net"})
    assert "expected a subclass of spaces.base.Space" in refusal(folder, allow="planted_net")
    assert "planted_net.Netz" in refusal(
        written(tmp_path / "near", model={"class_path": "planted_net.Netz"}), allow=["planted_net.Net"]
    )


@pytest.mark.parametrize("wrong", [3, [None], [DenseNet()]])
def test_what_cannot_be_allowed_is_named(wrong):
    with pytest.raises(
        InputError, match=r"allow: a \w+ stands there; expected a class, a function, a module"
    ):
        Allowed(wrong)


def test_every_public_module_and_space_can_be_named_under_all_its_names():
    allowed = Allowed()
    kinds = (nn.Module, Space)
    public = {n: getattr(secateur, n) for n, home in secateur.HOMES.items() if home.startswith("spaces")}
    ours = {n: t for n, t in public.items() if isinstance(t, type) and issubclass(t, kinds)}
    assert len(ours) > 15
    for name, kind in ours.items():
        for path in (name, f"secateur.{name}", f"{secateur.HOMES[name]}.{name}", f"{kind.__module__}.{name}"):
            assert allowed.find("model", path, kind) is kind
    former = {old: new for old, new in CLASSES.items() if new.rpartition(".")[2] in ours}
    assert "spaces.dense.Dense" in former
    for old, new in former.items():
        assert allowed.find("model", old, object) is ours[new.rpartition(".")[2]]


@pytest.mark.slow  # it imports everything
def test_no_other_public_name_can_be_made_of_a_recipe():
    for name, home in secateur.HOMES.items():
        if not home.startswith("spaces"):
            thing = getattr(secateur, name)
            assert not (isinstance(thing, type) and issubclass(thing, nn.Module | Space)), name
            with pytest.raises(InputError, match="not allowed"):
                Allowed().check("model", f"{home}.{name}")


def test_layers_of_torch_are_modules_under_both_their_names():
    for name in LAYERS:
        kind = getattr(nn, name)
        assert issubclass(kind, nn.Module)
        assert Allowed().find("model", f"torch.nn.{name}", nn.Module) is kind
        assert Allowed().find("model", f"{kind.__module__}.{name}", nn.Module) is kind


def test_outside_of_reading_a_name_is_the_users_own(ran):
    assert imported("planted_net.Net", "space: model", nn.Module).__name__ == "Net"
    with Allowed().reading(), pytest.raises(InputError, match=r"space: model names .* not allowed"):
        imported("planted_net.Net", "space: model", nn.Module)
    assert imported("planted_net.run", "space: suggest", None).__name__ == "run"


def test_names_within_plain_data_are_found_at_any_depth():
    data = {"class_path": "a.B", "init_args": {"x": ["c.d.E", 3, "no", "1.5"], "y": {"pair": "f.G"}}}
    assert sorted(named_within(data)) == ["a.B", "c.d.E", "f.G"]
