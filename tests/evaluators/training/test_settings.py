"""Settings of a training: checked once, changed by genes, read by the names that the constructors have."""

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

from evaluators import Distillation, InheritedTraining, Training, TrialTraining
from evaluators.training.settings import TrainingSettings
from spaces import InputError


def test_genes_stand_over_settings_and_others_are_left_aside():
    plain = TrainingSettings(epochs=3, learning_rate=0.1)
    genes = {"learning_rate": 0.2, "optimiser": "sgd", "patience": 2, "origin": "fresh", "epochs": 99}
    changed = plain.changed(genes)
    assert changed == TrainingSettings(epochs=3, learning_rate=0.2, optimiser="sgd", patience=2)
    assert plain == TrainingSettings(epochs=3, learning_rate=0.1)
    assert plain.changed({"distillation_weight": 0.9}) == plain  # there is no distillation to weigh
    taught = TrainingSettings(distillation=Distillation(2.0, 0.5)).changed({"distillation_weight": 0.9})
    assert taught.distillation is not None
    assert (taught.distillation.temperature, taught.distillation.weight) == (2.0, 0.9)


def test_a_gene_out_of_its_range_is_refused_and_nothing_is_set_afterwards():
    plain = TrainingSettings()
    with pytest.raises(InputError, match="training: learning_rate -1; expected a number above 0"):
        plain.changed({"learning_rate": -1})
    with pytest.raises(FrozenInstanceError):
        plain.epochs = 2  # type: ignore[misc]


GIVEN = {
    "epochs": 7,
    "optimiser": "sgd",
    "learning_rate": 0.5,
    "weight_decay": 0.25,
    "batch_size": 9,
    "schedule": "constant",
    "clip": 2.0,
    "monitor": "calibration",
    "keep_best": False,
    "patience": 4,
    "distillation": Distillation(),
    "precision": "bf16",
    "accumulation": 3,
    "checkpointing": ("blocks.*",),
    "first_learning_rate": 0.125,
    "recalibration": "train",
    "record_activations": False,
}


@pytest.mark.parametrize("kind", [Training, TrialTraining, InheritedTraining])
def test_a_training_reads_as_it_was_constructed(kind):
    names = inspect.signature(kind).parameters
    given = {name: value for name, value in GIVEN.items() if name in names}
    made = kind(**given)
    assert {name: getattr(made, name) for name in given} == given
    assert all(hasattr(made, name) for name in names)
    assert {field.name for field in fields(TrainingSettings)} <= GIVEN.keys()
