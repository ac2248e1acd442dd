"""Architecture, mask and hyper-parameters in one genome: every candidate is cut out of the trained model and
tuned by its own settings.

python examples/custom_spaces/joint.py            # about a minute on one core
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from secateur import (
    ChannelSpace,
    Choice,
    ChoiceSpace,
    Cost,
    Digits,
    Evolution,
    Float,
    HyperParameters,
    Integer,
    JointSpace,
    Part,
    ResidualNet,
    Result,
    Search,
    Training,
    TrialTraining,
    fit,
)

BLOCKS = 3


class Blocks(ChoiceSpace):
    """How many of the residual blocks are there; what that means is for `assemble` to say."""

    depth = Integer(1, BLOCKS)
    default = {"depth": BLOCKS}  # noqa: RUF012

    def build_from(self, depth: int) -> nn.Module:
        return nn.Identity()


class Tuning(HyperParameters):
    """Settings that :class:`evaluators.TrialTraining` reads from the genome, by its own names for them."""

    learning_rate = Float(3e-4, 3e-2, levels=16, log=True)
    batch_size = Choice([32, 64, 128])
    default = {"learning_rate": 3e-3, "batch_size": 64}  # noqa: RUF012


def assemble(mask: Part, blocks: Part, tuning: Part) -> nn.Module:
    """Slice the channels first, then leave out the last blocks; the tuning builds nothing."""
    model: Any = mask.build()
    model.blocks = model.blocks[: blocks.describe()["depth"]]
    return model


def make_space(model: nn.Module, example: tuple[torch.Tensor, ...]) -> JointSpace:
    return JointSpace(
        {"mask": ChannelSpace(model, example), "blocks": Blocks(), "tuning": Tuning()}, assemble
    )


def run(evaluations: int = 60, epochs: int = 2, pretraining: int = 6) -> Result:
    data = Digits()
    torch.manual_seed(0)
    model = ResidualNet((8,), blocks=BLOCKS)
    for _ in fit(model, data, Training(epochs=pretraining)):
        pass
    search = Search(
        model,
        data,
        space=make_space,
        evaluators=[Cost(), TrialTraining(epochs=epochs)],
        objectives=["error", "macs"],
        constraints=["macs <= 60%"],
        strategy=Evolution(population=12),
        lag=8,
        chunk=4,
    )
    return search.run(evaluations=evaluations)


def main() -> None:
    torch.set_num_threads(1)
    result = run()
    for member in result.front:
        chosen = result.problem.space.describe(member.candidate.genome)
        settings = ", ".join(
            f"{name} {value}" for name, value in chosen.items() if not name.startswith("mask/")
        )
        print(f"error {member.metrics['error']:.3f}   {member.metrics['macs']:>9,.0f} MACs   {settings}")


if __name__ == "__main__":
    main()
