"""Cells: the same run in any order and on any grid, resumed at any step, and what a step does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Cost, PairTraining
from evaluators.pairs.state import CellFiles, PairState
from operators.controller import Controller
from operators.mutation import RandomPruning, VariancePruning
from operators.schedules import Fixed
from search import Search
from search.coevolution import Complete, IfBetter, Torus
from search.coevolution.inline_grid import SimulatedGrid
from spaces.pairs.space import PairSpace

sys.path.insert(0, str(Path(__file__).parent))
from cell_case import make, rows, rules, tiny_data, tiny_pair


def test_all_cells_do_all_steps_and_the_front_improves(tmp_path: Path) -> None:
    loop = make(tmp_path, rules(steps=12))
    assert loop.run().kind == "steps"
    found = rows(loop)
    assert sorted(found) == list(range(5 * 13))
    first = np.mean([e.metrics["loss"] for _, e in loop.ledger.evaluations() if e.candidate.id < 5])
    last = np.mean([e.metrics["loss"] for _, e in loop.ledger.evaluations() if e.candidate.id >= 60])
    assert last < first
    assert (
        min(e.metrics["params"] for e in loop.front.members)
        < loop.problem.evaluator.screen(loop.problem.space.base[None])["params"][0]
    )


@pytest.mark.parametrize("topology", [Torus(2, 3), Complete(4)])
def test_the_run_is_the_same_in_any_order(tmp_path: Path, topology) -> None:
    """A simulated grid ends steps in another order, some cells far ahead of others."""
    sequential = make(tmp_path, rules(topology=topology), name="a")
    sequential.run()
    times = np.random.default_rng(3).lognormal(0, 1, 1000)
    shuffled = make(
        tmp_path, rules(topology=topology), SimulatedGrid(3, lambda id: float(times[id])), name="b"
    )
    shuffled.run()
    order = [e.candidate.id for _, e in shuffled.ledger.evaluations()]
    assert order != sorted(order)
    assert rows(sequential) == rows(shuffled)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple]:
    """The rows of a run that nothing stopped."""
    loop = make(tmp_path_factory.mktemp("whole"), rules())
    loop.run()
    return rows(loop)


@pytest.mark.parametrize("stop", [1, 7, 18, 29])
def test_a_run_goes_on_at_any_step(tmp_path: Path, stop: int, whole: dict[int, tuple]) -> None:
    times = np.random.default_rng(5).lognormal(0, 1, 1000)
    first = make(tmp_path, rules(), SimulatedGrid(3, lambda id: float(times[id])), name="parts")
    seen = []
    first.tally.hearing.append(
        SimpleNamespace(
            evaluated=lambda evaluation, joined: (
                seen.append(evaluation),
                first.interrupt() if len(seen) == stop else None,
            )
        )
    )
    assert first.run().kind == "interrupted"
    first.ledger.close()
    second = make(tmp_path, rules(), name="parts")
    assert second.run().kind == "steps"
    assert second.restored == stop
    assert rows(second) == whole


def test_a_budget_of_evaluations_can_be_raised(tmp_path: Path, whole: dict[int, tuple]) -> None:
    first = make(tmp_path, rules(), evaluations=12, name="parts")
    assert first.run().kind == "evaluations"
    assert len(rows(first)) == 12
    first.ledger.close()
    second = make(tmp_path, rules(), name="parts")
    assert second.run().kind == "steps"
    assert rows(second) == whole


def test_files_are_kept_for_the_front_and_for_steps_to_come_alone(tmp_path: Path) -> None:
    loop = make(tmp_path, rules(steps=20))
    loop.run()
    assert CellFiles(tmp_path / "run").ids() == {member.candidate.id for member in loop.front.members}


def test_what_was_pruned_stays_pruned(tmp_path: Path) -> None:
    """In weights and in genomes: a child keeps at most what both its halves kept."""
    loop = make(tmp_path, rules(steps=10, schedule=Fixed(1.0)))
    loop.run()
    space, files = loop.problem.space, loop.files
    genomes = {e.candidate.id: e.candidate.genome for _, e in loop.ledger.evaluations()}
    for _, e in loop.ledger.evaluations():
        parents = e.candidate.parents
        if len(parents) == 1:
            assert (genomes[e.candidate.id] <= genomes[parents[0]]).all() or "bounded" in e.candidate.operator
    for id in files.ids():
        tensors = PairState.from_bytes(files.read(id)).tensors()
        for name, mask in space.masks(genomes[id]).items():
            assert (tensors[name][~mask] == 0).all()
    assert any(genome.mean() < 1 for genome in genomes.values())


def test_without_persistence_genomes_stay_whole(tmp_path: Path) -> None:
    loop = make(tmp_path, rules(persistent=False, prune_first=False, schedule=Fixed(1.0)))
    loop.run()
    evaluations = [e for _, e in loop.ledger.evaluations()]
    assert all(e.candidate.genome.all() for e in evaluations)
    assert any(e.metrics["kept"] < 1 for e in evaluations if "random" in e.candidate.operator)


def test_replacement_only_by_better_pairs_never_loses(tmp_path: Path) -> None:
    loop = make(
        tmp_path, rules(replacement=IfBetter(), pruning=(), schedule=None, steps=10), learning_rate=0.05
    )
    loop.run()
    losses = {e.candidate.id: e.metrics["loss"] for _, e in loop.ledger.evaluations()}
    operators = {e.candidate.operator for _, e in loop.ledger.evaluations()}
    assert "stay" in operators
    assert all(losses[id] <= losses[id - 5] for id in losses if id >= 5)


def test_a_cell_that_diverges_is_seeded_again_from_its_best_neighbour(tmp_path: Path) -> None:
    loop = make(tmp_path, rules(pruning=(), schedule=None, learning_rate=1e30, steps=4), optimiser="sgd")
    loop.run()
    evaluations = {e.candidate.id: e for _, e in loop.ledger.evaluations()}
    seeded = [e for e in evaluations.values() if e.candidate.operator == "reseed"]
    assert seeded
    assert all(np.isfinite(list(e.metrics.values())).all() for e in evaluations.values())


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 12)

    def forward(self, x):
        if self.training:
            raise RuntimeError("out of luck")
        return self.layer(x)


def test_code_that_raises_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    loop = make(tmp_path, rules(pruning=(), schedule=None))
    loop.problem.space.model.decoder = Broken()
    loop._work._pool.clear()
    reason = str(loop.run())
    assert reason.startswith("failures: cell ")
    assert "out of luck" in reason


def test_a_search_without_a_directory(tmp_path: Path) -> None:
    search = Search(
        tiny_pair(),
        tiny_data(),
        space=PairSpace,
        evaluators=[Cost(), PairTraining(batches=3)],
        objectives=["loss", "params"],
        strategy=rules(),
    )
    result = search.run(evaluations=None)
    assert result.reason == "steps"
    member = result.front[0]
    model = result.build(member)
    data = tiny_data()
    inputs, targets = next(data.batches("search", 1000))
    with torch.no_grad():
        assert float(data.loss(model(inputs), targets).mean()) == pytest.approx(
            member.metrics["loss"], rel=1e-4
        )


def test_a_mixture_is_never_worse_than_its_start(tmp_path: Path) -> None:
    loop = make(tmp_path, rules(mixture=0.1, pruning=(), schedule=None))
    loop.run()
    assert all("mixture_loss" in e.metrics for _, e in loop.ledger.evaluations() if e.candidate.id >= 5)


def test_a_controller_learns_within_each_cell(tmp_path: Path) -> None:
    controller = Controller([RandomPruning(0.05), VariancePruning(direction="low", amount=0.1)])
    loop = make(tmp_path, rules(pruning=(), controller=controller, schedule=Fixed(1.0), steps=8))
    assert loop.run().kind == "steps"
    states = [PairState.from_bytes(loop.files.read(id)) for id in loop.files.ids()]
    assert any(sum(state.memory["trials"]) > 1 for state in states)
    assert controller.state == Controller(controller.mutations).state  # the rules stay as they were given


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_training_the_compact_pair_is_training_the_masked_one(tmp_path: Path, optimiser: str) -> None:
    """Weights and moments, over several trainings of one pair; the same order of samples."""
    loop = make(tmp_path, rules(), optimiser=optimiser, batches=10)
    work, space = loop._work, loop.problem.space
    genome = space.repair(np.random.default_rng(0).integers(0, 2, (1, space.length), dtype=np.uint8))[0]
    pairs, moments = [tiny_pair(), tiny_pair()], [{}, {}]
    for seed in range(3):
        loss, moments[0] = work._train(
            pairs[0], genome, moments[0], 1e-2, torch.Generator().manual_seed(seed)
        )
        masks = work._pruning.mask(pairs[1], genome)
        other, moments[1] = work.training.train(
            pairs[1], masks, moments[1], 1e-2, torch.Generator().manual_seed(seed)
        )
        assert loss == pytest.approx(other, rel=1e-5)
    assert masks
    for name, tensor in pairs[0].state_dict().items():
        assert torch.allclose(tensor, pairs[1].state_dict()[name], atol=1e-5)
    for name, tensor in moments[1].items():
        assert torch.allclose(moments[0][name].float(), tensor.float(), atol=1e-5), name
