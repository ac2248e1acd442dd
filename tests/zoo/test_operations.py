"""The page on operations is that of the code, and what it says about rules and reports is true."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels.rules import RULES, rule
from spaces.channels.rules.catalogue import catalogue
from spaces.channels.rules.pointwise import unary
from tests.zoo.cases import ZOO, space_of

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_page_lists_all_rules():
    assert catalogue() in PAGE, (
        "rules have changed: put spaces.channels.rules.catalogue.catalogue() into docs/operations.md"
    )


@pytest.mark.parametrize("name", [name for name, case in ZOO.items() if case.frozen])
def test_what_stays_whole_is_documented_with_its_reason(name: str):
    space = space_of(name)
    assert f"| {name} | {ZOO[name].frozen} |" in PAGE
    assert all("on its own" in reason for reason in space._refused.values())
    assert space._refused or name in ("WeightNormed", "TorchDecoder")


@pytest.mark.parametrize("name", ["Refinement", "GPT", "ResNeXt"])
def test_every_parameter_axis_is_reported_with_its_group_or_the_reason(name: str):
    space = space_of(name)
    rows = space.report()["axes"]
    names = {name: p.shape for name, p in space.model.named_parameters()}
    assert {row["axis"] for row in rows} == {
        f"{n}[{d}]" for n, shape in names.items() for d, size in enumerate(shape) if size > 1
    }
    assert all(row["groups"] or row["reason"] for row in rows)
    groups = {group["name"] for group in space.report()["groups"]}
    assert {name for row in rows for name in row["groups"]} == groups


def test_a_frozen_number_is_told_with_its_line():
    row = next(
        row for row in space_of("MobileViT").report()["axes"] if row["axis"] == "block.to_qkv.weight[0]"
    )
    assert "the model does not run" in row["reason"] and "block: torch.fx cannot trace it" in row["reason"]
    assert "(t.reshape(*t.shape[:3], 2, 4)" in row["where"]


class Digamma(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
        self.c = nn.Linear(2, 6)
        self.d = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(torch.relu(self.c(self.b(torch.digamma(self.a(x).exp() + 1)))))


def test_a_rule_of_the_users_own():
    model, example = Digamma().eval(), torch.randn(2, 4)
    assert "a" not in ChannelSpace(model, example).slices
    rule("digamma")(unary)
    try:
        assert "a" in ChannelSpace(model, example).slices
    finally:
        del RULES["digamma"]
