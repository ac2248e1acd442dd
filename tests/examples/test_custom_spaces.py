"""The examples of docs/custom-spaces.md run, on tiny budgets, and find what they are meant to find."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators import Cost, Training
from evaluators.data import Digits
from search import Evolution, Finish, RandomSearch, Search
from search import load as reload
from search.finish.export import base_of, export
from spaces import Choice, InputError
from spaces.testing import SpaceContract

ROOT = Path(__file__).parents[2]


def load(name):
    """Import a file of examples/ as a module of its own, so that what it defines can be pickled."""
    spec = importlib.util.spec_from_file_location(f"example_{Path(name).stem}", ROOT / "examples" / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


choices = load("custom_space.py")
own_model, joint, origins, low_rank = (
    load(f"custom_spaces/{name}.py") for name in ("own_model", "joint", "origins", "low_rank")
)


class TestDigitNet(SpaceContract):
    def space(self):
        return choices.DigitNet()

    def inputs(self):
        return (torch.zeros(2, 1, 8, 8),)


class TestLowRank(low_rank.TestLowRank):
    """Three lines of the example itself."""


@pytest.fixture(scope="module")
def data():
    return Digits(train_samples=100)


def test_a_space_in_one_class_is_searched(data):
    evaluators = [Cost(), Training(epochs=1, learning_rate=0.03)]
    search = Search(
        None,
        data,
        space=choices.DigitNet(),
        evaluators=evaluators,
        constraints=["macs <= 50%"],
        lag=4,
        chunk=4,
    )
    search.strategy = Evolution(population=4)
    result = search.run(evaluations=8)
    bound = result.problem.base["macs"] / 2
    assert result.front and all(member.metrics["macs"] <= bound for member in result.front)
    for member in result.front:
        values = result.problem.space.values(member.candidate.genome)
        assert result.build(member)[-1].in_features == values["width"]


def test_a_mask_leaves_what_is_frozen_and_keeps_together_what_is_tied():
    result = own_model.run(evaluations=32, epochs=3)
    space = result.problem.space
    assert {segment.name for segment in space.segments} == {"left.0", "left.3"}
    assert "embedding.weight[0]" in {frozen["axis"] for frozen in space.report()["frozen"]}
    assert len(result.front) > 1
    for member in result.front:
        model = result.build(member)
        assert model.embedding.out_features == 16
        assert member.metrics["macs"] <= result.problem.base["macs"] / 2
        for place in (0, 3):
            assert model.left[place].out_channels == model.right[place].out_channels
            assert model.left[place].out_channels in (2, 4, 6, 8, 10, 12)
        assert model.left[0].out_channels >= 3
        kept = space.slice_indices(member.candidate.genome)
        assert np.array_equal(kept["left.0.weight"][0], kept["right.0.weight"][0])
        assert space.difference(member.candidate.genome) < 1e-4
    assert min(member.metrics["error"] for member in result.front) < 0.8  # a constant has .9


def test_a_joint_genome_says_what_is_cut_what_is_left_out_and_how_it_is_tuned(monkeypatch):
    rates = {}
    fit = joint.TrialTraining.evaluate

    def witness(self, model, candidate):
        rates[candidate.genome.tobytes()] = sum(parameter.numel() for parameter in model.parameters())
        yield from fit(self, model, candidate)

    monkeypatch.setattr(joint.TrialTraining, "evaluate", witness)
    result = joint.run(evaluations=8, epochs=1, pretraining=1)
    space = result.problem.space
    for member in result.front:
        parts = space.split(member.candidate.genome)
        depth, width = (
            parts["blocks"].describe()["depth"],
            member.candidate.genome[space.slices["mask/stem.0"]].sum(),
        )
        model = result.build(member)
        assert len(model.blocks) == depth
        assert model.head.in_features == model.stem[0].out_channels == width
        assert rates[member.candidate.genome.tobytes()] == member.metrics["params"]
        assert member.metrics["macs"] <= 0.6 * result.problem.base["macs"]


class TestJoint(SpaceContract):
    builds = 2

    def space(self):
        torch.manual_seed(0)
        return joint.make_space(joint.ResidualNet((4,), blocks=joint.BLOCKS), (torch.zeros(2, 1, 8, 8),))

    def inputs(self):
        return (torch.zeros(2, 1, 8, 8),)


def test_weights_come_from_where_the_genes_say():
    result = origins.run(evaluations=20, pretraining=1)
    found = {
        result.problem.space.describe(m.candidate.genome)["genes/origin"]: m.metrics for m in result.front
    }
    assert found.keys() <= {"inherited", "original", "fresh"}
    assert all(
        metrics["lineage_steps"] == 8 * (1 + 4 * metrics["rung"])
        for origin, metrics in found.items()
        if origin == "fresh"
    )
    assert {metrics["rung"] for metrics in found.values()} <= {0.0, 1.0}


def test_ranks_cost_what_they_say_the_full_rank_is_the_model_and_an_export_loads_again(tmp_path):
    result = low_rank.run(evaluations=24, epochs=2)
    space = result.problem.space
    inputs = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(space.build(space.base)(inputs), space.model(inputs))
    for member in result.front:
        ranks = space.describe(member.candidate.genome)
        sizes = {name: tuple(space.model.get_submodule(name).weight.shape) for name in ranks}
        whole = {name: min(size) for name, size in sizes.items()}
        macs = sum(
            o * i if ranks[name] == whole[name] else ranks[name] * (o + i) for name, (o, i) in sizes.items()
        )
        assert member.metrics["macs"] == macs <= 0.7 * result.problem.base["macs"]
    genome = result.front[-1].candidate.genome
    export(tmp_path, 1, genome, result.build(-1), space, (inputs,), base=base_of(space, genome), onnx=False)
    torch.testing.assert_close(reload(tmp_path, space.build(genome))(inputs), result.build(-1)(inputs))


def test_full_rank_factors_compute_what_the_layer_computes():
    torch.manual_seed(0)
    layer, inputs = torch.nn.Linear(12, 7), torch.randn(5, 12)
    torch.testing.assert_close(low_rank.factorised(layer, 7)(inputs), layer(inputs), rtol=1e-4, atol=1e-5)


def test_a_choice_that_was_extended_is_another_run_and_carries_genomes_over_by_value(data, tmp_path):
    class Wider(choices.DigitNet):
        width = Choice([4, 8, 12, 16, 24, 32])

    def search(space):
        finish = Finish(members=0, onnx=False)
        return Search(
            None,
            data,
            space=space,
            evaluators=[Cost()],
            objectives=["params", "macs"],
            strategy=RandomSearch(),
            directory=tmp_path / "run",
            finish=finish,
            study=False,
            lag=4,
            chunk=4,
        )

    before = search(choices.DigitNet()).run(evaluations=8)
    with pytest.raises(
        InputError,
        match=r"belongs to another space, what differs is space: \w+, values were .*, are .*; give this run",
    ):
        search(Wider()).run(evaluations=12)
    again = search(choices.DigitNet()).run(evaluations=8)
    assert [m.candidate.id for m in again.front] == [m.candidate.id for m in before.front] and again.complete
    for member in before.front:
        values = before.problem.space.values(member.candidate.genome)
        assert Wider().values(Wider().encode(**values)) == values
