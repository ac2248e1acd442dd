"""A mask over a model of your own: what may go, what stays, and what goes together.

python examples/custom_spaces/own_model.py            # some seconds on one core
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import ChannelSpace, Data, Digits, Evolution, Result, Search, Training, fit


def eye(width: int) -> nn.Sequential:
    """Two convolutions over one half of the image, 8 x 4 pixels, to features of the shape (batch,
    4 * width).
    """
    first = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(
        *first, nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.AvgPool2d((4, 2)), nn.Flatten()
    )


class Twins(nn.Module):
    """Two encoders, one for either half of an image, an embedding of both, and a classifier."""

    def __init__(self, width: int = 12, embedding: int = 16) -> None:
        super().__init__()
        self.left, self.right = eye(width), eye(width)
        self.embedding = nn.Linear(8 * width, embedding)
        self.head = nn.Linear(embedding, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([self.left(x[..., :4]), self.right(x[..., 4:])], 1)
        return self.head(F.relu(self.embedding(seen)))


def make_space(model: nn.Module, example: tuple[Tensor, ...]) -> ChannelSpace:
    return ChannelSpace(
        model,
        example,
        freeze=["embedding"],  # a database is full of these vectors: their size stays
        tie=[["left.0", "right.0"], ["left.3", "right.3"]],  # both eyes keep the same channels
        round_to=2,
        least={"left.0": 0.25},
    )


def trained(data: Data, epochs: int = 10) -> Twins:
    """Train the network; yours is trained already."""
    torch.manual_seed(0)
    model = Twins()
    for _ in fit(model, data, Training(epochs=epochs)):
        pass
    return model


def run(evaluations: int = 150, epochs: int = 10) -> Result:
    data = Digits()
    search = Search(
        trained(data, epochs),
        data,
        space=make_space,
        constraints=["macs <= 50%"],
        strategy=Evolution(population=16),
        lag=8,
        chunk=4,
    )
    return search.run(evaluations=evaluations)


def main() -> None:
    torch.set_num_threads(1)
    result = run()
    for frozen in result.problem.space.report()["frozen"]:
        print(f"stays whole: {frozen['axis']}: {frozen['reason']}")
    print(result.table())


if __name__ == "__main__":
    main()
