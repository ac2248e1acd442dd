"""The same distillation for every arm: what is left of its time, on the training texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.real.ground import Clock
from benchmarks.real.retrieval import Retrieval
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.optimisation import make_optimiser
from spaces.calling import forward


@dataclass(frozen=True)
class Recipe:
    """How a model learns from the teacher.

    Attributes:
        batch: texts of a step.
        rate: of learning, at its peak: it rises for `warmup` of the time and falls to nothing.
        clip: largest norm of a gradient.
        every: CPU seconds from one writing of the state to the next.
    """

    batch: int = 64
    rate: float = 5e-4
    warmup: float = 0.05
    clip: float = 1.0
    every: float = 120.0


def distil(
    model: nn.Module, data: Retrieval, clock: Clock, seed: int, file: Path, recipe: Recipe | None = None
) -> int:
    """Train a model in place until the time is up, from where a file has it; return how many texts it saw."""
    recipe = recipe or Recipe()
    optimiser = make_optimiser("adamw", model, recipe.rate, 0.0)
    checkpoint, seen = Checkpoint(file), 0
    if (state := checkpoint.load()) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        seen = state["seen"]
    began = saved = clock.note("pruned")
    model.train()
    while True:
        for inputs, targets in data.batches(
            "train", recipe.batch, torch.Generator().manual_seed(seed + seen)
        ):
            share = (clock.spent - began) / max(clock.budget - began, 1e-9)
            if share >= 1:
                model.eval()
                return seen
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * min(share / recipe.warmup, (1 - share) / (1 - recipe.warmup))
            optimiser.zero_grad()
            data.loss(forward(model, inputs), targets).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            seen += len(targets["own"])
            if clock.spent - saved > recipe.every:
                known = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "seen": seen}
                checkpoint.save(known)
                saved = clock.note()
