"""Activations and gradients are seen for heads, places in heads, recurrent units, and what is inside blocks
that may be left out.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from operators.criteria import Activation, Taylor, record
from spaces import ChannelSpace
from spaces.channels.depth import DEPTH
from tests.zoo.cases import ZOO, example_of, model_of, space_of

UNSEEN = ("Functional", "CapsuleNet", "Swin", "TorchDecoder")
"""What raw parameters make in the code of a whole model passes no module; rows of windows, or of positions,
are no samples.
"""


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.float().flatten(1).square().sum(1)


@pytest.mark.parametrize("name", [name for name in ZOO if name not in UNSEEN])
def test_every_locus_is_seen_somewhere(name: str) -> None:
    space = space_of(name)
    seen = {locus for tap in space.plan.taps for locus in tap.levels().ravel().tolist()}
    assert {*range(space.length)} <= seen


@pytest.mark.parametrize("name", ["ViT", "SeparateViT", "HeadwiseGPT", "ResNeXt"])
def test_scores_are_there_for_all_and_a_compact_model_reports_the_same_loci(name: str) -> None:
    depth = {"depth": ["blocks.*"]} if name != "ResNeXt" else {}
    space = ChannelSpace(model_of(name), example_of(name), **depth)
    inputs = example_of(name, 4)
    blocks = space.slices.get(DEPTH, slice(space.length, space.length))
    for criterion in (Activation(), Taylor()):
        scores = criterion.score(space.model, [(inputs[0], torch.zeros(4))], space.plan, loss)
        assert all((values > 0).all() for group, values in scores.items() if group != DEPTH), criterion
    for genome in space.sample(3, np.random.default_rng(0)):
        genome[blocks] = [1, 0][: blocks.stop - blocks.start]
        model = space.build(genome)
        with torch.no_grad(), record(model, space.plan, genome) as activations:
            model(*inputs)
        seen = activations.mean()[: blocks.start]
        gone = {
            locus
            for tap in space.plan.taps
            if tap.module.startswith("blocks.1.")
            for locus in tap.levels().ravel().tolist()
        }
        there = [locus for locus in range(blocks.start) if genome[locus] and not (depth and locus in gone)]
        assert np.isfinite(seen[there]).all() and np.isnan(seen[genome[: blocks.start] == 0]).all()


@pytest.mark.parametrize("name", ["TorchAttention", "TorchEncoder", "Perceiver"])
def test_heads_of_torchs_own_attention_are_seen_in_the_users_model(name: str) -> None:
    space, inputs = space_of(name), example_of(name, 4)
    for criterion in (Activation(), Taylor()):
        scores = criterion.score(space.model, [(inputs[0], torch.zeros(4))], space.plan, loss)
        assert all((values > 0).any() for values in scores.values()), criterion


def test_taylor_foresees_what_closing_a_head_a_little_does() -> None:
    """A gate on a head stands where the head ends: at the input of the output projection."""
    space, inputs, step = space_of("HeadwiseGPT"), example_of("HeadwiseGPT", 4)[0], 0.01
    model = space.model
    scores = Taylor().score(model, [(inputs, torch.zeros(4))], space.plan, loss)["blocks.0.attn.c_attn.heads"]

    def losses(factor: float, head: int) -> Tensor:
        gate = torch.ones(4, 4)
        gate[head] = factor
        handle = model.get_submodule("blocks.0.attn.c_proj").register_forward_pre_hook(
            lambda _, x: (x[0] * gate.flatten(),)
        )
        try:
            return loss(model(inputs), inputs)
        finally:
            handle.remove()

    with torch.no_grad():
        for head in range(4):
            slope = (losses(1 + step, head) - losses(1 - step, head)) / (2 * step)
            assert scores[head].item() == pytest.approx(slope.abs().mean().item(), rel=0.02)
