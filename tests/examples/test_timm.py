"""The example with timm runs where timm is: ``make test TORCH=2.14.1`` has it."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("timm")

EXAMPLE = Path(__file__).parents[2] / "examples" / "timm_images.py"


@pytest.mark.timeout(600)
def test_a_network_of_timm_is_pruned_on_pictures(tmp_path):
    spec = importlib.util.spec_from_file_location("example_timm_images", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    result = example.main(directory=tmp_path / "run", evaluations=4, epochs=1)
    base, final = result.finals[0], next(final for final in result.finals if final.folder)
    assert final.realised["params"] < base.realised["params"]
    assert (tmp_path / "run" / final.folder / "recipe.json").exists()
