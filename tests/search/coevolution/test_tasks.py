"""Coevolution is not about autoencoders alone: sequence to sequence, denoising, variational pairs, several
architectures on one graph.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators import Cost, PairTraining
from evaluators.assessment import assess
from evaluators.base import Evaluation
from evaluators.data import Reconstruction, Strings
from evaluators.data.base import Data
from evaluators.pairs.corruption import Corruption, Denoising, Variational
from operators.mutation import VariancePruning
from operators.schedules import Fixed, Increase
from search import Finish, Ledger, Result, Search
from search.coevolution import Coevolution, Complete, Ring
from search.report.facts import Facts, gather
from spaces import MixedPairs, PairSpace, VariationalPair
from spaces.models import Perceptron
from spaces.pairs.pair import Pair

sys.path.insert(0, str(Path(__file__).parent))
from cell_case import tiny_data

PRUNING = VariancePruning(direction="low", amount=0.2)


def search(
    model: nn.Module | None,
    data: Data,
    rules: Coevolution,
    space: object = PairSpace,
    directory: Path | None = None,
    corruption: Corruption | None = None,
    finish: Finish | None = None,
    **training: float,
) -> Result:
    """A whole search on a front of loss and parameters."""
    parts = [Cost(), PairTraining(corruption=corruption, **training)]  # type: ignore[arg-type]
    settings = {"space": space, "evaluators": parts, "objectives": ["loss", "params"], "strategy": rules}
    return Search(model, data, directory=directory, finish=finish, **settings).run(evaluations=None)  # type: ignore[arg-type]


class Reader(nn.Module):
    """Strings ``(batch, length)`` to codes ``(batch, latent)``."""

    def __init__(self, symbols: int = 4, length: int = 4, latent: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, 6)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(6 * length, 24), nn.ReLU(), nn.Linear(24, latent), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.embed(x))


class Writer(nn.Module):
    """Codes to logits ``(batch, symbols, length)``."""

    def __init__(self, symbols: int = 4, length: int = 4, latent: int = 16) -> None:
        super().__init__()
        ends = nn.Linear(24, symbols * length), nn.Unflatten(1, (symbols, length))
        self.layers = nn.Sequential(nn.Linear(latent, 24), nn.ReLU(), *ends)

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)


def test_a_pair_that_reverses_strings_is_coevolved_and_pruned() -> None:
    data = Strings(symbols=4, length=4, samples=250, task="reverse")
    torch.manual_seed(0)
    rules = Coevolution(Ring(3), steps=18, schedule=Increase(0.5), pruning=[PRUNING])
    result = search(Pair(Reader(), Writer()), data, rules, epochs=3, learning_rate=1e-2, batch_size=16)
    assert result.reason == "steps"
    guessing = math.log(4)
    whole = sum(parameter.numel() for parameter in Pair(Reader(), Writer()).parameters())
    good = [m for m in result.front if m.metrics["loss"] < guessing / 3]
    assert good, [(m.metrics["loss"], m.metrics["params"]) for m in result.front]
    smallest = min(good, key=lambda m: m.metrics["params"])
    assert smallest.metrics["params"] < 0.9 * whole and not smallest.candidate.genome.all()

    model = result.build(smallest)
    inputs, targets = next(iter(data.batches("search", 100)))
    with torch.no_grad():
        outputs = model(inputs)
    assert float(data.loss(outputs, targets).mean()) == pytest.approx(smallest.metrics["loss"], rel=1e-4)
    right = (outputs.argmax(1) == inputs.flip(1)).float().mean()  # strings that no training saw
    assert right > 0.8


def test_denoising_pairs_restore_what_is_missing() -> None:
    """Against the same coevolution without it, on inputs with holes."""
    data = tiny_data()
    inputs, targets = next(iter(data.batches("test", 1000)))
    holes = torch.where(
        torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)) < 0.3, 0.0, inputs
    )
    losses = []
    for corruption in (Denoising(0.3), None):
        rules = Coevolution(Ring(3), steps=10, schedule=Fixed(0.2), pruning=[PRUNING])
        torch.manual_seed(0)
        result = search(
            Pair(Perceptron((12, 10, 4)), Perceptron((4, 10, 12))),
            data,
            rules,
            corruption=corruption,
            epochs=4,
            learning_rate=1e-2,
        )
        best = min(result.front, key=lambda m: m.metrics["loss"])
        assert not any("reseed" in m.candidate.operator for m in result.front)
        with torch.no_grad():
            losses.append(float(data.loss(result.build(best)(holes), targets).mean()))
    assert losses[0] < 0.9 * losses[1]


class Moments(nn.Module):
    """Mean and log-variance, as two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 10), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(10, 4), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return self.mean(x), self.log_variance(x)


def test_variational_pairs_keep_a_latent_near_a_normal_one() -> None:
    data = tiny_data()
    divergences = []
    for beta in (0.0, 1.0):
        rules = Coevolution(Ring(3), steps=8, schedule=Fixed(0.2), pruning=[PRUNING])
        pair = VariationalPair(Moments(), Perceptron((4, 10, 12)))
        result = search(pair, data, rules, corruption=Variational(beta), epochs=6, learning_rate=1e-2)
        best = min(result.front, key=lambda m: m.metrics["loss"])
        model = result.build(best).eval()
        inputs, targets = next(iter(data.batches("search", 1000)))
        with torch.no_grad():
            mean, log_variance = model.encoder(inputs)
            assert float(data.loss(model(inputs), targets).mean()) == pytest.approx(
                best.metrics["loss"], rel=1e-4
            )
        divergences.append(float((0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)).mean()))
        assert (
            best.metrics["loss"] < 0.9 * float(data.loss(targets.mean(0).expand_as(targets), targets).mean())
            or beta
        )
    assert divergences[1] < divergences[0] / 2


ENCODERS = [
    {"class_path": "spaces.models.Perceptron", "init_args": {"widths": widths}}
    for widths in ([12, 8, 4], [12, 10, 6, 4])
]
DECODERS = [
    {"class_path": "spaces.models.Perceptron", "init_args": {"widths": widths}}
    for widths in ([4, 8, 12], [4, 14, 12])
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reconstruction, Result]:
    """A search over two encoders and two decoders, finished in its directory."""
    folder, data = tmp_path_factory.mktemp("mixed") / "run", tiny_data()
    space = MixedPairs(ENCODERS, DECODERS, shape=[12])
    rules = Coevolution(Complete(4), steps=8, schedule=Fixed(0.4), pruning=[PRUNING])
    finish = Finish(members=3, epochs=1, onnx=False, latency_seconds=0.0)
    return folder, data, search(None, data, rules, space, folder, finish=finish, epochs=1, learning_rate=1e-2)


def steps_of(folder: Path) -> list[Evaluation]:
    ledger = Ledger.reader(folder / "ledger.db")
    try:
        return [evaluation for _, evaluation in ledger.evaluations()]
    finally:
        ledger.close()


def test_cells_of_several_architectures_meet_and_their_members_are_built_and_exported(
    mixed: tuple[Path, Reconstruction, Result],
) -> None:
    folder, data, result = mixed
    space = MixedPairs(ENCODERS, DECODERS, shape=[12])
    began = [space.architectures(e.candidate.genome) for e in steps_of(folder) if e.candidate.id < 4]
    assert began == [(0, 0), (1, 1), (0, 0), (1, 1)]
    met = {space.architectures(e.candidate.genome) for e in steps_of(folder)}
    assert met & {(0, 1), (1, 0)}, "no cell took an encoder of one and a decoder of another architecture"
    for member in result.front:
        model = result.build(member)
        inputs, targets = next(iter(data.batches("search", 1000)))
        with torch.no_grad():
            assert float(data.loss(model(inputs), targets).mean()) == pytest.approx(
                member.metrics["loss"], rel=1e-4
            )
    folders = sorted((folder / "models").glob("*/"))
    assert folders
    for exported in folders:
        recipe = json.loads((exported / "recipe.json").read_text())
        final = next(final for final in result.finals if final.folder.endswith(f"/{exported.name}"))
        tested = assess(result.tuned(final), data, data.batches("test", 256))
        assert recipe["metrics"]["test_loss"] == pytest.approx(tested["loss"])


def facts_of(folder: Path) -> Facts:
    ledger = Ledger.reader(folder / "ledger.db")
    try:
        return gather(ledger)
    finally:
        ledger.close()


def test_the_report_tells_of_architectures_and_leaves_idle_ones_out(
    mixed: tuple[Path, Reconstruction, Result],
) -> None:
    """The share of a segment is that of the cells which have it; without the architecture's bits, which
    nobody prunes.
    """
    folder, _, _ = mixed
    cells = facts_of(folder).cells
    assert cells is not None and cells.choices == {"encoder": 2, "decoder": 2}
    assert not any(name.startswith("architecture/") for name, _ in cells.segments)
    space = MixedPairs(ENCODERS, DECODERS, shape=[12])
    counts = cells.architectures()
    assert list(counts) == ["encoder 0", "encoder 1", "decoder 0", "decoder 1"]
    assert all((counts[f"{half} 0"] + counts[f"{half} 1"] == 4).all() for half in ("encoder", "decoder"))
    assert counts["encoder 0"][0] == counts["decoder 1"][0] == 2

    shares = dict(zip([name for name, _ in cells.segments], cells.shares(), strict=True))
    steps: dict[int, list[np.ndarray]] = {}
    for e in steps_of(folder):
        steps.setdefault(e.candidate.id // 4, []).append(e.candidate.genome)
    lower = False
    for step, genomes in steps.items():
        for half, position in (("encoder", 0), ("decoder", 1)):
            for number in (0, 1):
                having = [g for g in genomes if space.architectures(g)[position] == number]
                assert len(having) == counts[f"{half} {number}"][step]
                for name in (name for name in shares if name.startswith(f"{half}{number}/")):
                    expected = np.mean([g[space.slices[name]].mean() for g in having]) if having else np.nan
                    assert shares[name][step] == pytest.approx(expected, nan_ok=True)
                    lower |= bool(having) and expected < np.mean(
                        [g[space.slices[name]].mean() for g in genomes]
                    )
    assert lower, "nothing that idle architectures would have hidden"

    assert list(cells.pictures) == [
        int(path.name) for path in sorted((folder / "models").glob("*/"), key=lambda p: order(folder, p))
    ]
    report = (folder / "report.html").read_text()
    assert (
        "encoder 1: layers.2" in report
        and "decoder 0: layers.0" in report
        and "architecture" not in plots(report, "alive")
    )


def order(folder: Path, exported: Path) -> int:
    """The place of a member in the table of the finished models."""
    return [final.id for final in facts_of(folder).finals].index(int(exported.name))


def plots(report: str, name: str) -> str:
    """The part of a report that draws a figure."""
    return report.split(f'id="{name}"')[1].split("</section>")[0]
