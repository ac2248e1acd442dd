"""The example with Hugging Face's transformers runs, and its folder is a plain model."""

import importlib.util
import sys
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")
pytest.importorskip("datasets")

EXAMPLE = Path(__file__).parents[2] / "examples" / "huggingface_text.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_classifier_is_pruned_tuned_by_their_trainer_and_saved(tmp_path):
    spec = importlib.util.spec_from_file_location("example_huggingface_text", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = example
    spec.loader.exec_module(example)
    folder = example.main(tmp_path / "run", evaluations=4, epochs=1)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    base = example.classifier()
    assert model.num_parameters() < base.num_parameters()
    card = (folder / "README.md").read_text()
    assert f"{base.num_parameters():,} | {model.num_parameters():,} |" in card
