"""What a configuration may say, key by key, in words. No torch here: help has to come at once."""

from __future__ import annotations

GROUPS: dict[str, dict[str, str]] = {
    "what is made smaller": {
        "model": "the network; null for spaces that build their own",
        "checkpoint": "trained weights (safetensors, a folder of them, or a weights_only file); null: the "
        "model is trained first",
        "training": "how it is trained first",
        "data": "train, calibration, search and test splits, loss and metrics",
        "space": "what may vary",
    },
    "what is wanted": {
        "objectives": "METRIC, 'min METRIC' or 'max METRIC'",
        "constraints": "'METRIC <= NUMBER', >=, with % for a share of the base model's",
        "evaluators": "what is measured; null: evaluators.Cost and evaluators.Quality",
    },
    "how it is searched": {
        "strategy": "how to look",
        "search": "order, lag and chunk of the candidates, seeds",
        "search.budget": "when it ends: evaluations, seconds, epochs, stall, target",
        "criteria": "scores of the base model, the guide; null: magnitude, Taylor, activation",
        "warm_start": "folder of another run, whose candidates it begins with, and whose results it takes "
        "over where they mean the same here",
        "seed": "of everything that is random",
    },
    "where it runs": {
        "executor": "ray: workers here or on a cluster; inline: this process alone",
        "ray": "address, number and size of the workers, time limit of a candidate",
        "modules": "more folders with modules of yours; the config's and the current one are known",
    },
    "what comes of it": {
        "name": "the run's folder below `runs`; null: the name of the config",
        "runs": "parent folder of all runs",
        "finish": "how many of the front are fine-tuned and exported, and how",
        "study": "the view of Optuna: whether there is one, in which database",
        "listeners": "told of the run: search.TensorBoard, search.MLflow, search.WandB, or a search.Listener",
    },
}
"""Title of a group -> key -> what it is."""

KEYS: dict[str, str] = {key: text for group in GROUPS.values() for key, text in group.items()}
