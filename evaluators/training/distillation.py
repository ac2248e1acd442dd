"""Distillation: a compact model learns from the unpruned one what the labels do not say."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.data.task import per_sample
from spaces.errors import InputError


class Distillation:
    """Blends the loss with the distance to a teacher's outputs: ``(1 - weight) loss + weight distance``.

    For class labels the distance is ``T^2 KL(teacher / T || student / T)`` on softmax over axis 1 (Hinton,
    Vinyals and Dean, arXiv 1503.02531 [P]), for float targets the squared error between the outputs, with no
    temperature [O].

    Args:
        temperature: T; higher shows more of how the teacher ranks the wrong classes.
        weight: 0 (labels only) to 1 (teacher only).

    Raises:
        InputError: a temperature that is not positive, a weight outside 0 to 1.
    """

    def __init__(self, temperature: float = 4.0, weight: float = 0.5) -> None:
        if temperature <= 0 or not 0 <= weight <= 1:
            raise InputError(
                f"distillation: temperature {temperature} and weight {weight}; expected one above 0 and one "
                f"of 0 to 1"
            )
        self.temperature, self.weight = temperature, weight

    def __call__(
        self, loss: Tensor, outputs: Tensor, teacher: Tensor, targets: Tensor, labelled: Tensor | None = None
    ) -> Tensor:
        """Return the blended loss of every sample, ``(batch,)``, from the loss ``(batch,)``, both outputs and
        the targets.

        Of samples that are not `labelled`, ``(batch,)``, the distance alone counts. None: all are.
        """
        distance = self.distance(outputs, teacher, targets)
        blended = (1 - self.weight) * loss + self.weight * distance
        return blended if labelled is None else torch.where(labelled.to(loss.device), blended, distance)

    def distance(self, outputs: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of every sample, ``(batch,)``; gradients flow to `outputs` only."""
        teacher = teacher.detach()
        if targets.is_floating_point():
            return per_sample((outputs - teacher).square())
        T = self.temperature
        divergence = F.kl_div(
            F.log_softmax(outputs / T, 1), F.log_softmax(teacher / T, 1), reduction="none", log_target=True
        )
        return T**2 * per_sample(divergence.sum(1))
