"""What TIC costs: its share of an epoch of the training that it watches.

Three sizes of a perceptron on digits, trained as configs/digits_tuning.yaml trains them (every epoch ends
with the search split's metrics); after every epoch each estimator is timed on 64 samples, one after the
other, and shares are taken within the epoch.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch

from benchmarks import harness
from evaluators.data import Digits
from evaluators.tic import TIC, CrossEntropy
from evaluators.training.evaluator import Training, fit
from spaces.models import DenseNet

WIDTHS, DEPTH, BATCH, SAMPLES = (32, 128, 512), 2, 32, 64
ESTIMATORS = ("gram", "trace", "diagonal", "block")


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    epochs = 40 if quick else 200
    data = Digits()
    (batch,) = list(data.batches("search", SAMPLES))[:1]
    shares: dict[str, dict[str, list[float]]] = {
        name: defaultdict(list) for name in (*ESTIMATORS, "vmap", "seconds")
    }
    for width in WIDTHS:
        torch.manual_seed(0)
        model = DenseNet(width, DEPTH)
        ways = {name: TIC(name) for name in ESTIMATORS} | {"vmap": TIC("gram", path="functional")}  # type: ignore[arg-type]
        size = f"{sum(p.numel() for p in model.parameters())} parameters"
        began = time.perf_counter()
        for report in fit(model, data, Training(epochs=epochs, batch_size=BATCH, keep_best=False)):
            epoch = time.perf_counter() - began
            for name, tic in ways.items():
                seconds = tic(
                    model,
                    CrossEntropy(),
                    batch,
                    train_loss=report.metrics["train_loss"],
                    n=data.size("train"),
                ).seconds
                if report.step > 3:  # the first ones fill caches, and check the hooks
                    shares[name][size].append(seconds / epoch)
            shares["seconds"][size].append(epoch)
            began = time.perf_counter()
    spreads = {
        name: {size: harness.spread(values) for size, values in sizes.items()}
        for name, sizes in shares.items()
    }
    worst = {
        f"{name}_share_of_epoch": max(s["median"] for s in sizes.values())
        for name, sizes in spreads.items()
        if name != "seconds"
    }
    return worst | {"shares": spreads}, {
        "model": f"Dense({WIDTHS}, depth={DEPTH})",
        "training_samples": data.size("train"),
        "batch_size": BATCH,
        "bias_samples": SAMPLES,
        "epochs": epochs,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    harness.main("tic", measure)
