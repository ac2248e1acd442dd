"""Random architectures out of blocks that the rules know, and of some that they do not: never a
wrong output.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluators.cost.counting import count
from evaluators.cost.planned import PlannedCosts
from spaces import ChannelSpace, InputError
from spaces.channels import space as module
from tests.zoo.blocks import Random, Shuffle, Tokens

MANY = int(os.environ.get("SECATEUR_FUZZ", "60"))
"""Of the long test; five hundred take five minutes:
``SECATEUR_FUZZ=500 make slow ARGS=tests/zoo/test_fuzz.py``.
"""
SETTINGS = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow],
}


def check(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]), monkeypatch.context() as patch:
        torch.manual_seed(seed)
        model, inputs = Random(seed).eval(), torch.randn(2, 3, 8, 8)
        numbers = any(
            isinstance(block, Tokens | Shuffle) for block in model.blocks
        )  # in the code, which have to follow
        patch.setattr(module, "VERIFY", numbers)  # else: what the rules alone make of it
        try:
            space = ChannelSpace(model, inputs)
        except InputError as error:
            assert "nothing can be pruned" in str(error)
            return
        genomes = np.concatenate(
            [
                space.sample(2, np.random.default_rng(seed)),
                space.repair(np.zeros((1, space.length), dtype=np.uint8)),
            ]
        )
        planned = PlannedCosts(space.plan)(genomes)
        for row, genome in enumerate(genomes):
            assert space.difference(genome, (torch.randn(3, 3, 8, 8),)) < 1e-4
            assert count(space.build(genome), (inputs,))["params"] == planned["params"][row]
        known = {row["axis"]: row for row in space.report()["axes"]}
        assert all(row["groups"] or row["reason"] for row in known.values()), (
            "an axis without group or reason"
        )


@settings(max_examples=15, **SETTINGS)
@given(seed=st.integers(0, 2**31))
def test_random_architectures(seed: int, monkeypatch_module: pytest.MonkeyPatch) -> None:
    check(seed, monkeypatch_module)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=MANY, **SETTINGS)
@given(seed=st.integers(0, 2**31))
def test_many_random_architectures(seed: int, monkeypatch_module: pytest.MonkeyPatch) -> None:
    check(seed, monkeypatch_module)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch
