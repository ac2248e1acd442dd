"""The detector of examples/detector.py: nested outputs, a list of tables as targets."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from evaluators import Loaders, Training
from evaluators.testing import DataContract
from search import load as reload
from spaces import ChannelSpace

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("detector", ROOT / "examples" / "detector.py")
detector = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = detector
SPEC.loader.exec_module(detector)


def shapes():
    loader = DataLoader(detector.Shapes(40), batch_size=8, collate_fn=detector.collate)
    return Loaders(loader, loss=detector.loss, metrics={"missed": detector.missed})


class TestTablesOfBoxes(DataContract):
    def data(self):
        return shapes()

    def model(self):
        return detector.Detector(4)


def test_a_box_that_is_found_is_not_missed():
    model, table = detector.Detector(4), torch.tensor([[1, 0.4, 0.6, 0.25, 0.25]])
    outputs = model.eval()(torch.zeros(1, 3, 32, 32))
    fine, (y, x) = outputs["scales"][0], detector.cells(table, 8)
    with torch.no_grad():
        fine["boxes"][0, :, y, x] = table[:, 1:].T
        fine["scores"][0, :, y, x] = torch.tensor([[3.0], [0.0], [1.0]])
    assert detector.missed(outputs, [table]).tolist() == [0]
    fine["scores"].data[0, 1, y, x] = 2.0  # of the other class
    assert detector.missed(outputs, [table]).tolist() == [1]


def test_nested_outputs_are_pruned_and_trained():
    torch.manual_seed(0)
    data, model = shapes(), detector.Detector(4)
    space = ChannelSpace(model, data.example())
    assert sum(segment.size for segment in space.segments) == 4 + 8 + 16 + 16 + 8
    genome = np.ones(space.length, dtype=np.uint8)
    genome[::2] = 0
    compact = space.build(genome)
    assert space.difference(genome) < 1e-5
    reports = list(Training(epochs=2, batch_size=8).fitted(compact, data))
    assert reports[1].metrics["train_loss"] < reports[0].metrics["train_loss"]


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    detector.main(tmp_path, images=60, epochs=2, evaluations=4)
    folder = next(path.parent for path in tmp_path.glob("models/*/recipe.json"))
    model = reload(folder, detector.Detector(), allow=["detector"])
    assert model(torch.zeros(2, 3, 32, 32))["scales"][1]["boxes"].shape == (2, 4, 4, 4)
