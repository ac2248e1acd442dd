"""Exported models: what is written can be loaded anywhere, and nothing else can be loaded by mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from search.finish import export as exporting
from search.finish.export import ONNX, ModelSource, export, export_onnx
from search.finish.recipe import FORMAT, RECIPE, WEIGHTS, Recipe, load
from spaces.base import Segment, Space
from spaces.channels import ChannelSpace
from spaces.errors import InputError
from spaces.models import Perceptron, ResidualNet

ORIGIN = ModelSource({"class_path": "spaces.models.ResidualNet", "init_args": {"widths": [4, 8]}})
TRIALS = {"class_path": "spaces.TrialSpace", "init_args": {"parameters": {"x": {"low": 1, "high": 2}}}}
EXAMPLE = (torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8),)


@pytest.fixture(scope="module")
def space() -> ChannelSpace:
    torch.manual_seed(0)
    model = ResidualNet(widths=(4, 8)).train()
    for _ in range(3):
        model(torch.randn(8, 1, 8, 8))  # BatchNorm statistics that differ from their defaults
    return ChannelSpace(model.eval(), EXAMPLE)


@pytest.fixture(scope="module")
def genome(space: ChannelSpace) -> np.ndarray:
    return space.repair((np.arange(space.length) % 3 > 0).astype(np.uint8)[None])[0]


@pytest.fixture(scope="module")
def exported(space: ChannelSpace, genome: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "7"
    export(folder, 7, genome, space.build(genome), space, EXAMPLE, ORIGIN, metrics={"error": 0.125})
    return folder


def test_a_fresh_process_computes_the_same(
    exported: Path, space: ChannelSpace, genome: np.ndarray, tmp_path: Path
) -> None:
    expected = space.build(genome).eval()(*EXAMPLE)
    code = (
        "import sys, torch; from search.finish.recipe import load; torch.set_num_threads(1); model = "
        "load(sys.argv[1]); "
        "x = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8); print(repr(model(x).tolist()), sum(p.numel() "
        "for p in model.parameters()))"
    )
    words = subprocess.run(
        [sys.executable, "-c", code, str(exported)], capture_output=True, text=True, check=True
    ).stdout
    outputs, parameters = words.rsplit(" ", 1)
    assert torch.allclose(torch.tensor(json.loads(outputs)), expected, atol=1e-6)
    assert (
        int(parameters)
        == sum(p.numel() for p in space.build(genome).parameters())
        < sum(p.numel() for p in space.model.parameters())
    )


def test_the_recipe_says_where_the_model_comes_from(
    exported: Path, space: ChannelSpace, genome: np.ndarray
) -> None:
    recipe = Recipe.read(exported)
    assert recipe.id == 7 and recipe.metrics == {"error": 0.125} and recipe.model == ORIGIN.model
    assert recipe.fingerprint == space.fingerprint
    assert "".join(recipe.genome.values()) == "".join(map(str, genome))  # type: ignore[arg-type]
    assert recipe.versions["torch"] == torch.__version__


def test_onnx_runs_with_any_batch_and_agrees_with_torch(
    exported: Path, space: ChannelSpace, genome: np.ndarray
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    recipe = Recipe.read(exported)
    assert recipe.onnx["dynamic_batch"] and 0 <= recipe.onnx["max_difference"] < 1e-5
    session = onnxruntime.InferenceSession(str(exported / ONNX), providers=["CPUExecutionProvider"])
    inputs = torch.randn(5, 1, 8, 8)
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    assert np.abs(outputs - space.build(genome).eval()(inputs).detach().numpy()).max() < 1e-5


def test_without_the_export_extra_the_model_is_there_and_the_recipe_says_so(
    space: ChannelSpace, genome: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = exporting.util.find_spec
    monkeypatch.setattr(
        exporting.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name)
    )
    recipe = export(tmp_path / "1", 1, genome, space.build(genome), space, EXAMPLE, ORIGIN)
    assert "onnxruntime not installed" in recipe.onnx["missing"] and not (tmp_path / "1" / ONNX).exists()
    load(tmp_path / "1")


def test_a_model_that_onnx_cannot_express_is_no_error(tmp_path: Path) -> None:
    class Complex(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x).abs()

    found = export_onnx(Complex(), (torch.randn(2, 3, 3),), tmp_path / ONNX)
    assert set(found) == {"missing"} and "\n" not in found["missing"] and not (tmp_path / ONNX).exists()


def test_training_mode_and_the_base_model_stay_as_they_are(
    space: ChannelSpace, genome: np.ndarray, tmp_path: Path
) -> None:
    model = space.build(genome).train()
    model.blocks.eval()  # type: ignore[union-attr]
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in space.model.state_dict().items()}
    export(tmp_path / "1", 1, genome, model, space, EXAMPLE, base=space.model, onnx=False)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in space.model.state_dict().items())


def test_a_model_given_as_an_object_is_asked_for(
    space: ChannelSpace, genome: np.ndarray, tmp_path: Path
) -> None:
    export(tmp_path / "1", 1, genome, space.build(genome), space, EXAMPLE, base=space.model, onnx=False)
    with pytest.raises(InputError, match="give it to load"):
        load(tmp_path / "1")
    assert torch.equal(load(tmp_path / "1", space.model)(*EXAMPLE), space.build(genome).eval()(*EXAMPLE))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.middle, self.last = (
            nn.Linear(6, 8),
            nn.Linear(8, 5),
            nn.Linear(5, 5),
            nn.Linear(5, 5),
        )
        self.last.weight = self.middle.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.middle(torch.relu(self.second(torch.relu(self.first(x)))))))


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    model, example = Tied(), (torch.randn(2, 6),)
    space = ChannelSpace(model, example)
    genome = space.sample(1, np.random.default_rng(0))[0]
    assert genome.sum() < space.length
    recipe = export(tmp_path / "1", 1, genome, space.build(genome), space, example, base=model, onnx=False)
    assert recipe.tied == {"last.weight": "middle.weight"}
    again = load(tmp_path / "1", model)
    assert again.last.weight is again.middle.weight  # type: ignore[union-attr]


class Widths(Space):
    """A space that builds models anew."""

    segments = (Segment("hidden", 1, 5),)
    fingerprint = "widths"

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 5, (n, 1)).astype(np.uint8)

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        return np.minimum(genomes, 4)

    def build(self, genome: np.ndarray) -> nn.Module:
        return Perceptron((4, int(genome[0]) + 1, 2))

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        return {"hidden": int(genome[0]) + 1}


def test_a_space_that_builds_anew_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "widths_of_a_test", sys.modules[Widths.__module__])
    genome, example = np.array([2], dtype=np.uint8), (torch.randn(2, 4),)
    model = Widths().build(genome)
    export(
        tmp_path / "1",
        1,
        genome,
        model,
        Widths(),
        example,
        ModelSource(space={"class_path": "widths_of_a_test.Widths"}),
        onnx=False,
    )
    with pytest.raises(InputError, match=r'to allow it: load\(path, allow=\["widths_of_a_test.Widths"\]\)'):
        load(tmp_path / "1")
    assert torch.equal(load(tmp_path / "1", allow=["widths_of_a_test.Widths"])(*example), model(*example))


def damaged(exported: Path, folder: Path, **changes: object) -> Path:
    folder.mkdir()
    for file in exported.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    parts = json.loads((folder / RECIPE).read_text()) | changes
    (folder / RECIPE).write_text(json.dumps(parts))
    return folder


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_changed_weights_are_refused(exported: Path, tmp_path: Path) -> None:
    folder = damaged(exported, tmp_path / "1")
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.safetensors: sha256 is") as error:
        load(folder)
    one_line(error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": FORMAT + 1}, f"this version of Secateur reads format {FORMAT}"),
        ({"model": {"class_path": "spaces.models.Missing"}}, "'spaces.models.Missing', which is not allowed"),
        ({"model": {"class_path": "spaces.TrialSpace"}}, r"expected a subclass of torch\.nn"),
        ({"model": {"class_path": ["spaces.Pair"]}}, "model.class_path is .* expected a dotted name"),
        ({"model": "spaces.Pair"}, "model is 'spaces.Pair'; expected class_path and init_args"),
        ({"model": {"class_path": "spaces.Pair", "init_args": [1]}}, "expected class_path and init_args"),
        (
            {"model": {"class_path": "spaces.models.ResidualNet", "init_args": {"width": 3}}},
            "init_args do not fit",
        ),
        (
            {"model": {"class_path": "spaces.models.ResidualNet", "init_args": {"widths": [4, 7]}}},
            "expected the base model that was searched",
        ),
        ({"model": {"class_path": "spaces.models.Perceptron"}}, "has no tensor 'stem.0.weight'"),
        ({"slices": 3}, "damaged recipe"),
        ({"slices": [{"tensor": "stem.0.weight", "dim": 0, "kept": ["a"]}]}, "slices and attributes do not"),
        ({"attributes": [{"module": "", "name": "pinned_x=(", "value": 1}]}, "slices and attributes do not"),
        ({"model": json.loads('{"x": ' * 300 + "1" + "}" * 300)}, "nested too deep"),
        (
            {"model": None, "space": TRIALS, "genome": {"x": [300]}},
            "the alleles do not fit the model",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    exported: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        load(damaged(exported, tmp_path / "1", **changes))
    assert RECIPE in one_line(error)


def test_a_missing_or_broken_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "nowhere" / RECIPE)
    (tmp_path / RECIPE).write_text("{")
    with pytest.raises(InputError, match="not a recipe"):
        load(tmp_path)
