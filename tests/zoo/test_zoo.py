"""The zoo: whatever is pruned of these models, the compact one computes what the masked one does, learns, and
travels.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.cost.counting import count
from evaluators.cost.planned import PlannedCosts
from spaces import ChannelSpace
from spaces.channels import space as module
from spaces.testing import flat
from tests.zoo.cases import ZOO, example_of, model_of, space_of

NO_BATCH = ("MessagePassing",)
"""Models whose first axis is no batch: one sample of it is no input."""


IDLE = ("residual_convs.2.",)
"""WaveNet's last residual convolution leads nowhere."""


def genomes_of(space: ChannelSpace, n: int = 2) -> np.ndarray:
    return np.concatenate(
        [space.sample(n, np.random.default_rng(1)), space.repair(np.zeros((1, space.length), dtype=np.uint8))]
    )


def tolerance(name: str) -> float:
    return 0.05 if "Bfloat" in name else 1e-5


@pytest.mark.parametrize("name", ZOO)
def test_a_compact_model_equals_the_masked_one(name: str) -> None:
    space = space_of(name)
    for seed, genome in enumerate(genomes_of(space)):
        assert space.difference(genome, example_of(name, 3, seed + 1)) < tolerance(name)


@pytest.mark.parametrize("name", ZOO)
def test_it_learns_and_its_weights_fit_back_into_the_full_model(name: str) -> None:
    space = space_of(name)
    genome = genomes_of(space, 1)[0]
    model, before = space.build(genome).train(), {k: v.clone() for k, v in space.model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    torch.stack([y.float().square().mean() for y in flat(model(*example_of(name, 4)))]).sum().backward()
    trained = [
        (key, p) for key, p in model.named_parameters() if p.requires_grad and not key.startswith(IDLE)
    ]
    assert trained and all(p.grad is not None and p.grad.isfinite().all() for _, p in trained), [
        k for k, p in trained if p.grad is None
    ]
    optimiser.step()
    assert space.difference(genome, compact=model) < tolerance(name)
    assert all(torch.equal(before[k], v) for k, v in space.model.state_dict().items()), (
        "the base model changed"
    )


@pytest.mark.parametrize("name", [n for n in ZOO if n not in NO_BATCH])
def test_arithmetic_agrees_with_counting(name: str) -> None:
    space = space_of(name)
    genomes = genomes_of(space)
    planned = PlannedCosts(space.plan)(genomes)
    for row, genome in enumerate(genomes):
        assert count(space.build(genome), example_of(name)) == {
            cost: values[row] for cost, values in planned.items()
        }


@pytest.mark.parametrize("name", ZOO)
def test_every_group_is_physically_removed(name: str) -> None:
    space = space_of(name)
    whole = sum(p.numel() for p in space.model.parameters())
    for segment, part in zip(space.segments, space.slices.values(), strict=True):
        genome = space.base.copy()
        genome[part][1:] = 0
        model = space.build(space.repair(genome[None])[0])
        assert sum(p.numel() for p in model.parameters()) < whole, f"{segment.name} takes nothing away"


@pytest.mark.parametrize("name", ["ViT", "Yolo", "Recurrent"])
def test_it_travels_and_is_found_again(name: str) -> None:
    space = space_of(name)
    other = pickle.loads(pickle.dumps(space))
    genome = genomes_of(space, 1)[0]
    assert other.difference(genome) < 1e-5
    model = model_of(name).requires_grad_(False).train()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    assert ChannelSpace(model, example_of(name)).fingerprint == space.fingerprint, (
        "groups depend on values, mode or requires_grad"
    )


@pytest.mark.parametrize(
    "name", [n for n in ZOO if n not in ("Autoencoder", "Unflattened", "Yolo", "Refinement")]
)
def test_the_rules_are_right_without_verification(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no number in the code has to follow, all that the rules find is right at once."""
    trusted = space_of(name)
    if trusted._refused or trusted._followers:
        pytest.skip("numbers in the code of this model have to follow")
    monkeypatch.setattr(module, "VERIFY", False)
    assert (
        ChannelSpace(model_of(name), example_of(name), **ZOO[name].options).fingerprint == trusted.fingerprint
    )


NO_ONNX = (*NO_BATCH, "Bfloat", "Perceiver")
"""torch 2.13 cannot write them, whole or pruned: bf16 on the CPU, attention over tensors of three dimensions.
"""


@pytest.fixture(scope="module")
def translations() -> Iterator[None]:
    """Let torch make its table of translations once: it makes one an export, which takes half as long as the
    rest.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("translations")
@pytest.mark.parametrize("name", [n for n in ZOO if n not in NO_ONNX])
def test_onnx_computes_the_same(name: str, tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    space = space_of(name)
    model, inputs = space.build(genomes_of(space, 1)[0]).eval(), example_of(name)
    torch.onnx.export(model, inputs, tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    given = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    with torch.no_grad():
        for a, b in zip(session.run(None, given), flat(model(*inputs)), strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-4)


GROUPS = json.loads((Path(__file__).parent / "groups.json").read_text(encoding="utf-8"))
"""Names and sizes of all groups, as they are known to be right. The ledger depends on the names: they must
not change by accident.
"""


@pytest.mark.parametrize("name", ZOO)
def test_the_groups_are_those_that_are_known(name: str) -> None:
    """Verification hides a wrong rule by freezing what it got wrong: here it shows."""
    space = space_of(name)
    assert {segment.name: segment.size for segment in space.segments} == GROUPS[name]
    assert not space._refused or ZOO[name].frozen, space._refused
