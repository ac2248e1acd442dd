"""A mask, and how its weights are come by: inherited, sliced out of the original or drawn anew, each trained
by its own settings.

python examples/custom_spaces/origins.py            # about a minute on one core
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from secateur import (
    Categorical,
    ChannelSpace,
    Cost,
    Digits,
    Distillation,
    Evolution,
    Float,
    HyperParameters,
    InheritedTraining,
    JointSpace,
    Ladder,
    ResidualNet,
    Result,
    Search,
    Training,
    fit,
)


class Genes(HyperParameters):
    """Settings that :class:`evaluators.InheritedTraining` reads from the genome, by its own names
    for them.
    """

    origin = Categorical(["inherited", "original", "fresh"])
    learning_rate = Float(3e-4, 1e-2, levels=8, log=True)
    default = {"origin": "inherited", "learning_rate": 3e-3}  # noqa: RUF012


def make_space(model: nn.Module, example: tuple[torch.Tensor, ...]) -> JointSpace:
    return JointSpace({"mask": ChannelSpace(model, example), "genes": Genes()})


def run(evaluations: int = 120, pretraining: int = 6) -> Result:
    data = Digits(train_samples=300, label_noise=0.1)
    torch.manual_seed(0)
    model = ResidualNet((8, 16))
    for _ in fit(model, data, Training(epochs=pretraining)):
        pass
    search = Search(
        model,
        data,
        space=make_space,
        evaluators=[Cost(), InheritedTraining(steps=[8, 32], distillation=Distillation(1.0, 0.5))],
        objectives=["loss", "macs"],
        strategy=Evolution(population=16, fidelity=Ladder(cohort=12)),
        lag=8,
        chunk=4,
    )
    return search.run(evaluations=evaluations)


def main() -> None:
    torch.set_num_threads(1)
    result = run()
    described = [(member, result.problem.space.describe(member.candidate.genome)) for member in result.front]
    for member, chosen in described:
        print(
            f"loss {member.metrics['loss']:.3f}   {member.metrics['macs']:>9,.0f} MACs   "
            f"{chosen['genes/origin']}, "
            f"learning rate {chosen['genes/learning_rate']:.1e}, {member.metrics['lineage_steps']:.0f} steps"
        )
    print(Counter(chosen["genes/origin"] for _, chosen in described))


if __name__ == "__main__":
    main()
