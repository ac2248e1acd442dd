"""A hyper-parameter search of seconds, for tests that go through the door."""

from pathlib import Path

import pytest
import yaml

SMALL = {
    "name": "small",
    "model": {"class_path": "spaces.models.DenseNet", "init_args": {"depth": 1}},
    "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 120}},
    "space": {
        "class_path": "spaces.TrialSpace",
        "init_args": {
            "parameters": {
                "model.width": {"low": 8, "high": 32},
                "training.learning_rate": {"low": 1e-4, "high": 0.3, "log": True},
            }
        },
    },
    "evaluators": [
        {
            "class_path": "evaluators.TrialTraining",
            "init_args": {
                "epochs": 6,
                "bias_samples": 32,
                "tic": {"class_path": "evaluators.tic.TIC", "init_args": {"estimator": "trace"}},
            },
        }
    ],
    "objectives": ["loss"],
    "strategy": {
        "class_path": "search.Tuning",
        "init_args": {
            "startup": 4,
            "monitor": "predicted_loss",
            "pruner": {
                "class_path": "optuna.pruners.MedianPruner",
                "init_args": {"n_startup_trials": 3, "n_warmup_steps": 1},
            },
        },
    },
    "search": {"lag": 2, "chunk": 1, "budget": {"evaluations": 12}},
    "finish": {"onnx": False, "latency_seconds": 0.0},
}


@pytest.fixture
def tuning_config(tmp_path: Path) -> Path:
    """Return the path of the configuration."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path
