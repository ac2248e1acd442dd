"""Your model, your data, your limits: everything that Secateur needs to know of them.

python examples/your_model.py                         # trains and saves weights, then searches from Python
python run_search.py examples/your_model.yaml         # the same search by the door, from those weights
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur import Arrays, Search, Training, fit

WEIGHTS = Path(__file__).with_name("your_weights.safetensors")


class Waves(Arrays):
    """Recordings of three channels and 32 time steps; which of four shapes of wave is in them? Noise and
    phase differ.

    Your own data come here: any arrays, split into train, calibration, search and test by shares or by row
    numbers.
    """

    def __init__(self, samples: int = 2000, noise: float = 1.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        labels = rng.integers(4, size=samples)
        time = np.linspace(0, 4 * np.pi, 32) + rng.uniform(0, 2 * np.pi, (samples, 3, 1))
        waves = np.stack(
            [np.sin(time), np.sign(np.sin(time)), 2 / np.pi * np.arcsin(np.sin(time)), np.sin(2 * time)]
        )
        super().__init__(
            waves[labels, np.arange(samples)] + rng.normal(0, noise, (samples, 3, 32)), labels, seed=seed
        )


class WaveNet(nn.Module):
    """Your own network: any module that ``torch.export`` can trace."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, width, 5, padding=2)
        self.norm = nn.BatchNorm1d(width)
        self.depthwise = nn.Conv1d(width, width, 5, padding=2, groups=width)
        self.pointwise = nn.Conv1d(width, 2 * width, 1)
        self.head = nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.pointwise(self.depthwise(x)))
        return self.head(x.mean(-1))


def trained(data: Waves, epochs: int = 15) -> WaveNet:
    """Train the network; yours is trained already."""
    torch.manual_seed(0)
    model = WaveNet()
    for report in fit(model, data, Training(epochs=epochs)):
        print(report.step, report.metrics)
    return model


def main() -> None:
    data = Waves()
    model = trained(data)
    save_file(model.state_dict(), WEIGHTS)
    result = Search(model, data, objectives=["error", "macs"], constraints=["macs <= 50%"]).run(
        evaluations=200
    )
    print(result.table())


if __name__ == "__main__":
    main()
