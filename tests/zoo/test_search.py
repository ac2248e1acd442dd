"""From a model of the zoo to an exported ONNX file that computes the same: the whole way, once for each kind."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators import Arrays
from evaluators.training import Training
from search import Search
from search.finish import Finish
from search.recipe import load
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
        finish=Finish(members=1),
        study=False,
    )
    search.run(evaluations=24)
    exported = sorted((tmp_path / "run" / "models").iterdir())
    assert exported
    for folder in exported:
        slim = load(folder, model)
        inputs = next(iter(data.batches("test", 2)))[0]
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        np.testing.assert_allclose(found, slim(inputs).detach().numpy(), atol=1e-5)
        assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in model.parameters())
