"""A plan that was verified before is found again, and only where everything is as it was."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels import remembered
from spaces.channels.remembered import OFF, VARIABLE


class Net(nn.Module):
    """A width in the code, and a layer that is scaled by its width, which no rule sees."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.width = width
        self.a, self.b, self.c = nn.Linear(3, width), nn.Linear(width, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.a(x)).view(-1, 1, self.width).flatten(1)
        return self.c(torch.tanh(self.b(y)) * self.b.weight.shape[0])


EXAMPLE = torch.linspace(-1, 1, 6).reshape(2, 3)


def net(seed: int = 0, width: int = 6) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(width).eval()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Return a list with one entry for every smaller model that is run to verify."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    found: list[int] = []
    whole = ChannelSpace.difference
    monkeypatch.setattr(ChannelSpace, "difference", lambda *a, **k: (found.append(1), whole(*a, **k))[1])
    return found


def test_a_second_start_verifies_nothing_and_has_the_same_plan(runs: list[int], tmp_path: Path) -> None:
    first = ChannelSpace(net(), EXAMPLE)
    verified = len(runs)
    second = ChannelSpace(net(), EXAMPLE)
    assert verified and len(runs) == verified and len([*tmp_path.iterdir()]) == 1
    assert second.fingerprint == first.fingerprint and second.report() == first.report()
    assert first.report()["attributes"] == [{"module": "", "name": "width"}] and first._refused
    genome = second.repair(np.zeros((1, second.length), dtype=np.uint8))[0]
    assert second.build(genome).width == 1 and second.difference(genome) < 1e-5


@pytest.mark.parametrize(
    ("other", "options"),
    [(lambda: net(1), {}), (lambda: net(0, 5), {}), (net, {"min_keep": 2}), (net, {"freeze": ["b"]})],
)
def test_other_weights_code_or_settings_are_verified(runs: list[int], other, options: dict) -> None:
    ChannelSpace(net(), EXAMPLE)
    verified = len(runs)
    ChannelSpace(other(), EXAMPLE, **options)
    assert len(runs) > verified


@pytest.mark.parametrize(
    "change",
    [
        lambda found: "{",
        lambda found: "[]",
        lambda found: json.dumps(found | {"refused": {}}),
        lambda found: json.dumps(found | {"followers": [{"module": "", "name": "forward", "literal": 99}]}),
    ],
)
def test_a_damaged_file_counts_for_nothing_and_is_written_anew(
    runs: list[int], tmp_path: Path, change
) -> None:
    first = ChannelSpace(net(), EXAMPLE)
    (file,) = tmp_path.iterdir()
    before = file.read_text()
    file.write_text(change(json.loads(before)))
    verified = len(runs)
    second = ChannelSpace(net(), EXAMPLE)
    assert len(runs) > verified and second.fingerprint == first.fingerprint
    assert second.report() == first.report() and file.read_text() == before


def test_it_can_be_switched_off(runs: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, OFF)
    ChannelSpace(net(), EXAMPLE)
    assert not [*tmp_path.iterdir()]


def test_plans_that_were_not_used_for_longest_are_forgotten(
    runs: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were used last stay, and what is none of ours."""
    monkeypatch.setattr(remembered, "MOST_PLANS", 3)
    ChannelSpace(net(), EXAMPLE)
    (own,) = tmp_path.iterdir()
    files = [own, *(tmp_path / f"{n:032x}.json" for n in range(4)), tmp_path / "notes.json"]
    for age, file in enumerate(files):
        file.write_text(own.read_text())
        os.utime(file, (1000 - age, 1000 - age))
    os.utime(own, (1, 1))
    ChannelSpace(net(), EXAMPLE)  # it was found, so it counts as used
    assert len([*tmp_path.iterdir()]) == len(files)
    ChannelSpace(net(1), EXAMPLE)
    kept = {*tmp_path.iterdir()}
    assert {own, files[1], files[-1]} < kept and len(kept) == 4
