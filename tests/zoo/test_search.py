"""From a model of the zoo to an exported ONNX file that computes the same: the whole way, once
for each kind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators import Arrays
from evaluators.training.evaluator import Training
from search import Search
from search.finish.finish import Finish
from search.finish.recipe import load
from spaces import ChannelSpace
from tests.zoo.cases import model_of

onnxruntime = pytest.importorskip("onnxruntime")


class Classifier(nn.Module):
    """Class scores out of what a model of the zoo gives for the last token, or on average over the image."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.body, self.out = model_of(name), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.out(y[:, -1] if y.ndim == 3 else y.mean((2, 3)))


def images(rng: np.random.Generator) -> Arrays:
    labels = rng.integers(4, size=200)
    pixels = rng.normal(0, 0.5, (200, 3, 8, 8)).astype(np.float32)
    pixels[np.arange(200), labels % 3] += 1 + (labels == 3)[:, None, None]
    return Arrays(pixels, labels)


def words(rng: np.random.Generator) -> Arrays:
    tokens = rng.integers(0, 20, (200, 6))
    return Arrays(tokens, tokens[:, -1] % 4)


CASES = {
    "ViT": (lambda: model_of("ViT"), images, {"depth": ["blocks.*"], "round_to": {"*.fc1": 4}}),
    "UNet": (lambda: Classifier("UNet", 2), images, {"round_to": 2}),
    "HeadwiseGPT": (lambda: Classifier("HeadwiseGPT", 20), words, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_search_exports_a_smaller_model_that_onnxruntime_runs(name: str, tmp_path) -> None:
    make, data_of, options = CASES[name]
    torch.manual_seed(0)
    model, data = make().eval(), data_of(np.random.default_rng(0))
    search = Search(
        model,
        data,
        space=partial(ChannelSpace, **options),
        constraints=["macs <= 70%"],
        directory=tmp_path / "run",
        training=Training(epochs=1),
        finish=Finish(members=1, latency_seconds=0.0),
        study=False,
    )
    search.run(evaluations=12)
    exported = sorted((tmp_path / "run" / "models").glob("*/"))
    assert exported
    for folder in exported:
        slim = load(folder, model)
        inputs = next(iter(data.batches("test", 2)))[0]
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        np.testing.assert_allclose(found, slim(inputs).detach().numpy(), atol=1e-5)
        assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in model.parameters())


ROOT = Path(__file__).parents[2]
SHORT = (
    *("--executor", "inline", "--study.view", "false", "--search.budget.evaluations", "12"),
    *("--training.epochs", "1", "--finish.members", "1", "--finish.epochs", "1"),
    *("--finish.latency_seconds", "0"),
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["vit", "unet", "gpt"])
def test_ten_lines_through_the_door_to_a_file_that_onnxruntime_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ROOT / "examples" / "zoo" / f"{name}.yaml"
    assert len([line for line in config.read_text().splitlines() if line and not line.startswith("#")]) <= 10
    path = os.pathsep.join([str(ROOT), str(config.parent)])
    command = [sys.executable, str(ROOT / "run_search.py"), str(config), *SHORT]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = (tmp_path / "runs" / name / "models").glob("*/recipe.json")
    monkeypatch.setattr(sys, "path", [str(config.parent), *sys.path])
    # the recipe knows the model by its class
    slim = load(folder, allow=["tests.zoo", "characters"])
    onnx = folder.parent / "model.onnx"
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 3 for size in given.shape]
    inputs = torch.randint(0, 30, shape) if "int" in given.type else torch.randn(shape)
    with torch.no_grad():
        np.testing.assert_allclose(
            session.run(None, {given.name: inputs.numpy()})[0], slim(inputs).numpy(), atol=1e-4
        )
