"""A space of your own: a class whose attributes are the choices. Networks for handwritten digits, each
trained briefly.

python examples/custom_space.py            # about twenty seconds on one core
"""

from __future__ import annotations

import torch
from torch import nn

from secateur import Categorical, Choice, ChoiceSpace, Cost, Digits, Evolution, Integer, Search, Training

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class DigitNet(ChoiceSpace):
    """Convolutions of one width on images of half the size, then global pooling and a linear head."""

    depth = Integer(1, 3)
    width = Choice([4, 8, 12, 16, 24])
    kernel = Choice([1, 3, 5])
    activation = Categorical(["relu", "gelu"])

    default = {"depth": 3, "width": 24, "kernel": 3, "activation": "relu"}  # noqa: RUF012  (what "macs <= 50%" refers to)

    def __init__(self, classes: int = 10) -> None:
        self.classes = classes

    def build_from(self, depth: int, width: int, kernel: int, activation: str) -> nn.Module:
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for inputs in [1] + [width] * (depth - 1):
            layers += [
                nn.Conv2d(inputs, width, kernel, padding="same"),
                nn.BatchNorm2d(width),
                ACTIVATIONS[activation](),
            ]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, self.classes))


def main() -> None:
    torch.set_num_threads(1)  # models this small lose time on more
    space = DigitNet()
    search = Search(
        data=Digits(),
        space=space,
        evaluators=[Cost(), Training(epochs=5, learning_rate=0.03)],
        objectives=["error", "macs"],
        constraints=["macs <= 50%"],
        strategy=Evolution(population=16),
    )
    result = search.run(evaluations=50)
    for member in result.front:
        print(
            f"error {member.metrics['error']:.3f}   {member.metrics['macs']:>9,.0f} MACs   "
            f"{space.values(member.candidate.genome)}"
        )


if __name__ == "__main__":
    main()
