"""A search of cells as an evaluator: its contract, its course, checkpoints, and the evolution that goes on
from it.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators import Candidate, Quality, SupernetSearch, SupernetSettings, Training
from evaluators.base import Report
from evaluators.supernet import SupernetTraining
from evaluators.testing import EvaluatorContract
from operators.repair.batchnorm import recalibrate
from operators.stability import FixedStop, NoRemoval, Stability
from spaces.cells import CellSpace, CellStack, DenseGraph, SkipUNet, SupernetSpace
from spaces.cells import genotype as text
from spaces.choices import Choice, ChoiceSpace
from spaces.errors import InputError
from spaces.testing import SpaceContract
from tests.evaluators.supernet.case import FAST, OPERATIONS, data, equal


def space(nodes: int = 2) -> SupernetSpace:
    host = CellStack(width=4, cells=2, reductions=[1], joined=nodes, classes=2)
    return SupernetSpace(host, data().example(), graph=DenseGraph(nodes), operations=OPERATIONS)


def evaluator(epochs: int = 4, share: int = 1, **more: object) -> SupernetSearch:
    settings = SupernetSettings(**(FAST | {"share": share, "normalise": share > 1}))  # type: ignore[arg-type]
    arguments = {
        "rule": FixedStop(epoch=3, keep=2),
        "supernet": settings,
        "training": Training(epochs=3, batch_size=16),
    } | more
    return SupernetSearch(epochs, **arguments)  # type: ignore[arg-type]


class TestSupernetSearch(EvaluatorContract):
    def evaluator(self) -> SupernetSearch:
        return evaluator(3, rule=NoRemoval(), training=Training(epochs=1, batch_size=16))

    def space(self) -> SupernetSpace:
        return space(1)

    def data(self):
        return data()


def search(
    folder: Path | None, id: int = 0, share: int = 1, nodes: int = 2, **more: object
) -> tuple[list[Report], nn.Module]:
    where, found = space(nodes), evaluator(share=share, **more)  # type: ignore[arg-type]
    found.bind(where, data())
    found.state = folder
    torch.manual_seed(11)
    model = where.build(np.array([id], dtype=np.uint8))
    return list(found.evaluate(model, Candidate(id, np.array([id], dtype=np.uint8), seed=11))), model


def test_the_course_of_a_search_is_told() -> None:
    reports, model = search(None)
    last = reports[-1]
    assert [r.metrics.get("operations") for r in reports[:4]] == [30, 30, 30, 20]
    assert last.metrics["search_epochs"] == 4 and 0.8 < last.metrics["search_cost"] < 1
    assert last.arrays["importances"].shape == (4, 10, 3)
    assert np.isnan(last.arrays["importances"][3]).sum() == 10, (
        "one of three operations is gone on every edge"
    )
    assert len(last.arrays["removed"]) == 10 and set(last.arrays["removed"][:, 0]) == {"3"}
    genotype = text.read(str(last.arrays["genotype"]))
    assert set(genotype) == {"normal", "reduction"}
    standing = {key: type(edge).__name__ for cell in model.cells.values() for key, edge in cell.edges.items()}  # type: ignore[operator,union-attr]
    assert standing.keys() == {f"{s}-{t}" for s, t in genotype["normal"]} | {
        f"{s}-{t}" for s, t in genotype["reduction"]
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Report], nn.Module]:
    """A search that nobody interrupted."""
    return search(tmp_path_factory.mktemp("whole"), nodes=1, checkpoint_every=1)


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_who_is_interrupted_goes_on_and_ends_alike(
    whole: tuple[list[Report], nn.Module], tmp_path: Path, stop: int
) -> None:
    torch.manual_seed(11)
    where, found = space(1), evaluator(checkpoint_every=1)
    found.bind(where, data())
    found.state = tmp_path
    candidate = Candidate(0, np.zeros(1, dtype=np.uint8), seed=11)
    reports = found.evaluate(where.build(candidate.genome), candidate)
    for _ in range(stop):
        next(reports)
    reports.close()  # type: ignore[attr-defined]
    torch.manual_seed(11)
    other = where.build(candidate.genome)
    again = list(found.evaluate(other, candidate))
    assert [r.metrics for r in again] == [r.metrics for r in whole[0]]
    assert equal(other.state_dict(), whole[1].state_dict())


def test_a_finished_search_is_not_paid_for_twice_and_other_settings_are_another_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, model = search(tmp_path, nodes=1)
    with monkeypatch.context() as patch:
        patch.setattr(SupernetTraining, "epoch", None)
        second, again = search(tmp_path, nodes=1)
    assert [r.metrics for r in first] == [r.metrics for r in second] and equal(
        model.state_dict(), again.state_dict()
    )
    reports, _ = search(tmp_path, nodes=1, rule=FixedStop(epoch=2, keep=1))
    assert [r.metrics.get("operations") for r in reports[:2]] == [12, 12] and reports[-1].metrics[
        "search_epochs"
    ] == 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with two searches: 0 with all channels, 1 with partial ones and edge normalisation."""
    folder = tmp_path_factory.mktemp("run")
    search(folder / "state", 0)
    search(folder / "state", 1, share=2)
    return folder


def reduced(run: Path, candidate: int = 0) -> CellSpace:
    host = CellStack(width=4, cells=2, reductions=[1], joined=2, classes=2)
    return CellSpace(
        host, data().example(), graph=DenseGraph(2), operations=OPERATIONS, run=str(run), candidate=candidate
    )


class TestReducedSpace(SpaceContract):
    builds = 2
    folder: Path

    @pytest.fixture(autouse=True)
    def _run(self, run: Path) -> None:
        type(self).folder = run

    def space(self) -> CellSpace:
        return reduced(self.folder)

    def inputs(self) -> tuple[Tensor, ...]:
        return data().example()


def test_the_reduced_space_has_what_the_search_left_and_begins_with_its_cell(run: Path) -> None:
    where = reduced(run)
    assert {segment.choices for segment in where.segments} == {3}, "none, and the two that were left"
    assert where.base is not None
    reports, _ = search(run / "state", 0)
    assert where.write(where.base) == str(reports[-1].arrays["genotype"])


@pytest.mark.parametrize("candidate", [0, 1])
def test_a_built_cell_is_a_slice_of_the_supernet(run: Path, candidate: int) -> None:
    """It computes what the supernet computes whose other operations and edges have no weight."""
    where = reduced(run, candidate)
    assert where.found is not None
    assert bool(where.found.scales) == (candidate == 1)
    settings = FAST | {"share": where.found.share, "normalise": candidate == 1}
    training = SupernetTraining(where.design, data(), SupernetSettings(**settings))  # type: ignore[arg-type]
    training.restore(torch.load(run / "state" / "cells" / f"{candidate}.supernet.pt")["state"])
    net = training.supernet.eval()
    x = data().example()
    for genome in where.sample(4, np.random.default_rng(0)):
        cells = where.genotype(genome)
        net.architecture.mix()
        for edge, names in net.architecture.active.items():
            kind, name = edge.split("/")
            source, target = name.split("-")
            chosen = cells[kind].get((source, target))
            net.architecture.weights[edge] = torch.tensor([float(name == chosen) for name in names])
            if candidate == 1:
                betas = net.architecture.betas[f"{kind}/{target}"]
                sources = where.design.plan.incoming[target]
                mask = torch.tensor([(s, target) in cells[kind] for s in sources])
                net.architecture.shares[edge] = (
                    betas.detach().masked_fill(~mask, -torch.inf).softmax(0)[sources.index(source)]
                )
        assert torch.allclose(where.build(genome).eval()(*x), net.network(*x), atol=1e-5)


@pytest.mark.parametrize("candidate", [0, 1])
def test_a_tuned_cell_scattered_back_is_the_masked_supernet(run: Path, candidate: int) -> None:
    where = reduced(run, candidate)
    for genome in where.sample(3, np.random.default_rng(1)):
        network = where.build(genome)
        assert where.difference(genome) < 1e-5
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        assert where.difference(genome, compact=network) < 1e-5
        edge = next(iter(next(iter(network.cells.values())).edges.values()))  # type: ignore[operator]
        edge.forward = lambda x: 2 * x + 1  # type: ignore[method-assign]
        assert where.difference(genome, compact=network) > 1e-3, "a difference would show"


def test_inherited_cells_are_worth_something_before_they_are_trained(run: Path) -> None:
    """The search left weights that a new network has not: after recalibration the loss is lower than that of
    new weights.
    """
    where = reduced(run)
    assert where.base is not None
    losses = []
    for network in (where.build(where.base), where.design.build(where.genotype(where.base))):
        recalibrate(network, data().batches("calibration", 16))
        quality = Quality()
        quality.bind(where, data())
        losses.append(next(iter(quality.evaluate(network, Candidate(0, where.base)))).metrics["loss"])
    assert losses[0] < losses[1]


def test_building_an_inherited_cell_costs_no_random_numbers(run: Path) -> None:
    where = reduced(run)
    assert where.base is not None
    before = torch.get_rng_state()
    where.build(where.base)
    assert torch.equal(before, torch.get_rng_state())


def test_a_run_that_does_not_fit_is_refused(run: Path, tmp_path: Path) -> None:
    host, example = CellStack(width=4, cells=2, reductions=[1], joined=2, classes=2), data().example()
    with pytest.raises(InputError, match="has no searched cells; expected the folder of a run"):
        CellSpace(host, example, graph=DenseGraph(2), operations=OPERATIONS, run=str(tmp_path))
    with pytest.raises(InputError, match=r"candidate 7 .* there are 0, 1"):
        CellSpace(host, example, graph=DenseGraph(2), operations=OPERATIONS, run=str(run), candidate=7)
    with pytest.raises(InputError, match="searched another network, graph or set of operations"):
        CellSpace(host, example, graph=DenseGraph(2), operations=OPERATIONS[1:], run=str(run))
    copy = tmp_path / "state" / "cells"
    copy.mkdir(parents=True)
    for name in ("0.json", "0.safetensors"):
        (copy / name).write_bytes((run / "state" / "cells" / name).read_bytes())
    (copy / "0.safetensors").write_bytes(b"x" + (copy / "0.safetensors").read_bytes()[1:])
    with pytest.raises(InputError, match=r"is not what 0\.json says"):
        CellSpace(host, example, graph=DenseGraph(2), operations=OPERATIONS, run=str(tmp_path))
    (copy / "0.json").write_text("{")
    with pytest.raises(InputError, match="not the end of a search of cells"):
        CellSpace(host, example, graph=DenseGraph(2), operations=OPERATIONS, run=str(tmp_path))


class Other(ChoiceSpace):
    width = Choice([1, 2])

    def build_from(self, width: int) -> nn.Module:
        return nn.Linear(1, width)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"space Other; expected spaces.cells.SupernetSpace"):
        evaluator().bind(Other(), data())
    with pytest.raises(InputError, match="no data"):
        evaluator().bind(space())
    with pytest.raises(InputError, match="warmup 1 of 1 epochs"):
        evaluator(1)
    with pytest.raises(InputError, match="Stability decides after"):
        evaluator(6, rule=Stability())
    with pytest.raises(InputError, match="epochs 0"):
        evaluator(0)
    odd = SupernetSpace(
        SkipUNet((2, 3)), (torch.zeros(2, 1, 6, 6),), graph=DenseGraph(1), operations=OPERATIONS, width=3
    )
    with pytest.raises(InputError, match="width 3; expected a multiple of 2"):
        evaluator(share=2).bind(odd, data())
