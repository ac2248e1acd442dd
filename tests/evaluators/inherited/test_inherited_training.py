"""Children go on from their parents' tuned weights."""

from dataclasses import replace
from functools import cache
from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Candidate, Digits, InheritedTraining, Quality
from evaluators.inherited.files import InheritedFiles
from evaluators.inherited.steps import BriefTraining
from evaluators.testing import EvaluatorContract
from spaces import ChannelSpace, JointSpace, PairSpace
from spaces.choices import Categorical, ChoiceSpace, Float, HyperParameters, Integer
from spaces.errors import InputError
from spaces.models import Perceptron, ResidualNet
from spaces.pairs.pair import Pair

DIGITS = Digits(train_samples=200)


@cache
def residual_space():
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((4, 6)), DIGITS.example())


class TestLineageContract(EvaluatorContract):
    def evaluator(self):
        return InheritedTraining(steps=3, batch_size=16)

    def space(self):
        return residual_space()

    def data(self):
        return DIGITS


class TestLineageContractWithoutSteps(TestLineageContract):
    def evaluator(self):
        return InheritedTraining(steps=0)


@pytest.fixture
def space():
    return residual_space()


@pytest.fixture
def make(space, tmp_path):
    def evaluator(state=tmp_path, **settings):
        made = InheritedTraining(**({"steps": 3, "batch_size": 16} | settings))
        made.bind(space, DIGITS)
        made.state = state
        return made

    return evaluator


def genome_of(space, share, seed=0):
    return space.repair((np.random.default_rng(seed).random((1, space.length)) < share).astype(np.uint8))[0]


def run(evaluator, candidate):
    model = evaluator.space.build(candidate.genome)
    (report,) = evaluator.evaluate(model, candidate)
    return report, model


def same(one, other):
    one, other = (x if isinstance(x, dict) else x.state_dict() for x in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def left(tmp_path, id):
    return InheritedFiles(tmp_path).read(id)


def test_a_child_like_its_parent_scores_as_the_parent_where_it_takes_no_steps(make, space, tmp_path):
    genome = genome_of(space, 0.6)
    parent, trained = run(make(), Candidate(0, genome, seed=1))
    still = make(steps=0)
    still._runs = make()._runs  # as if of one run
    child, model = run(still, Candidate(1, genome, (0,), "copy", 2))
    assert {name: child.metrics[name] for name in ("loss", "error")} == {
        name: parent.metrics[name] for name in ("loss", "error")
    }
    np.testing.assert_array_equal(child.arrays["activation"], parent.arrays["activation"])
    assert same(model, trained)
    assert same(dict(left(tmp_path, 1).tensors), dict(left(tmp_path, 0).tensors))
    assert (child.metrics["generation"], child.metrics["lineage_steps"]) == (1.0, 3.0)


def test_a_child_begins_with_its_slice_of_the_parents_weights(make, space):
    """With steps of no length it ends with them, but for the statistics of BatchNorm."""
    _, _ = run(make(), Candidate(0, space.base, seed=1))
    parent = left(make().state, 0).tensors
    child = genome_of(space, 0.5)
    frozen = make(learning_rate=1e-30, weight_decay=0.0)
    frozen._runs = make()._runs
    _, model = run(frozen, Candidate(1, child, (0,), seed=2))
    expected = space.gather(child, parent)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    base = space.build(child).state_dict()
    assert any(not torch.equal(expected[name], base[name]) for name, _ in model.named_parameters())


def test_what_was_scored_equals_the_masked_full_model_with_the_tensors_of_the_file(make, space, tmp_path):
    evaluator = make()
    run(evaluator, Candidate(0, genome_of(space, 0.7), seed=1))
    child = Candidate(1, genome_of(space, 0.5, 1), (0,), seed=2)
    _, model = run(evaluator, child)
    inputs = next(iter(DIGITS.batches("test", 32)))[0]
    model.eval()
    with torch.no_grad():
        masked = space.reference(child.genome, left(tmp_path, 1).tensors)(inputs)
        torch.testing.assert_close(model(inputs), masked, rtol=1e-5, atol=1e-5)


def test_channels_that_grow_back_come_with_the_values_of_their_last_owner(make, space, tmp_path):
    evaluator = make()
    narrow = genome_of(space, 0.5)
    run(evaluator, Candidate(0, space.base, seed=1))
    run(evaluator, Candidate(1, narrow, (0,), seed=2))
    first, second = left(tmp_path, 0).tensors, left(tmp_path, 1).tensors
    kept = space.slice_indices(narrow)
    for name in dict(space.model.named_parameters()):
        own = torch.zeros(first[name].shape, dtype=torch.bool)
        index = np.ix_(*(kept.get(name, {}).get(dim, np.arange(size)) for dim, size in enumerate(own.shape)))
        own[tuple(map(torch.from_numpy, index))] = True
        assert torch.equal(first[name][~own], second[name][~own]), name
        assert not torch.equal(first[name][own], second[name][own]), name
    still = make(steps=0)
    still._runs = evaluator._runs
    _, grown = run(still, Candidate(2, space.base, (1,), seed=3))
    for name, parameter in grown.named_parameters():
        assert torch.equal(parameter, second[name]), name


@pytest.mark.parametrize("parents", [(), (7,)])
def test_without_a_file_of_the_parent_it_begins_with_the_base_model(make, space, parents):
    genome = genome_of(space, 0.5)
    found, model = run(make(), Candidate(9, genome, parents, seed=3))
    expected, other = run(make(None), Candidate(9, genome, seed=3))
    assert found.metrics == expected.metrics
    assert same(model, other)
    assert found.metrics["generation"] == 0.0


def test_the_file_of_another_run_is_nobodys_parent(make, space):
    run(make(steps=5), Candidate(0, space.base, seed=1))
    report, _ = run(make(), Candidate(1, space.base, (0,), seed=2))
    assert (report.metrics["generation"], report.metrics["lineage_steps"]) == (0.0, 3.0)


def test_who_has_a_file_is_not_trained_again(make, space, monkeypatch):
    candidate = Candidate(4, genome_of(space, 0.5), seed=3)
    report, model = run(make(), candidate)
    monkeypatch.setattr(BriefTraining, "__call__", None)
    again, reloaded = run(make(), candidate)
    assert again.metrics == report.metrics
    np.testing.assert_array_equal(again.arrays["activation"], report.arrays["activation"])
    assert same(model, reloaded)


@pytest.mark.parametrize("change", [{"seed": 4}, {"parents": (1,)}, {"genome": None}])
def test_the_file_of_another_candidate_counts_as_none(make, space, change):
    genome = genome_of(space, 0.5)
    run(make(), Candidate(4, genome, seed=3))
    other = replace(
        Candidate(4, genome, seed=3),
        **(change if change.get("genome", 1) else {"genome": genome_of(space, 0.5, 5)}),
    )
    report, _ = run(make(), other)
    assert report.metrics == run(make(None), other)[0].metrics


def test_a_damaged_file_counts_as_none_and_is_made_again(make, space, tmp_path):
    candidate = Candidate(4, genome_of(space, 0.5), seed=3)
    report, _ = run(make(), candidate)
    path = InheritedFiles(tmp_path).path(4)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert run(make(), candidate)[0].metrics == report.metrics
    assert path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_who_diverges_leaves_nothing(make, space, tmp_path):
    report, _ = run(make(steps=8, learning_rate=1e30), Candidate(0, space.base, seed=1))
    assert not np.isfinite(report.metrics["loss"])
    assert left(tmp_path, 0) is None


def test_outside_no_random_number_is_drawn(make, space):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(make(), Candidate(0, space.base, seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_steps_teach(make, space):
    before, _ = run(make(None, steps=0), Candidate(0, space.base))
    after, _ = run(make(None, steps=80, learning_rate=0.03), Candidate(0, space.base))
    assert after.metrics["loss"] < before.metrics["loss"] - 0.5
    assert "train_loss" not in before.metrics


class Sizes(ChoiceSpace):
    width = Integer(2, 4)
    depth = Integer(1, 3)
    activation = Categorical(["relu", "gelu"])

    def build_from(self, width, depth, activation):
        hidden = [
            [nn.LazyLinear(width), nn.ReLU() if activation == "relu" else nn.GELU()] for _ in range(depth)
        ]
        model = nn.Sequential(nn.Flatten(), *chain.from_iterable(hidden), nn.LazyLinear(10))
        model(torch.zeros(2, 64))
        return model


class Tuning(HyperParameters):
    learning_rate = Float(1e-4, 1e-1, log=True)


def assembled(net, tuning):
    return net.build()


@pytest.fixture
def descend(tmp_path):
    """Evaluate a parent of (width, depth, activation), which takes 5 steps, and its child; return report,
    both, and the child as built.
    """

    def descended(parent, child, steps=0):
        space = Sizes()
        genomes = [
            space.encode(width=width, depth=depth, activation=activation)
            for width, depth, activation in (parent, child)
        ]
        evaluators = [
            InheritedTraining(steps=count, batch_size=16, recalibration=None) for count in (5, steps)
        ]
        for evaluator in evaluators:
            evaluator.bind(space, DIGITS)
            evaluator.state, evaluator._runs = tmp_path / str(steps), ("one run", "one run")
        torch.manual_seed(0)
        models = [space.build(genome) for genome in genomes]
        built = {name: tensor.clone() for name, tensor in models[1].state_dict().items()}
        random = torch.get_rng_state()
        candidates = Candidate(0, genomes[0]), Candidate(1, genomes[1], (0,))
        _, (report,) = (
            list(e.evaluate(*given)) for e, *given in zip(evaluators, models, candidates, strict=True)
        )
        assert torch.equal(random, torch.get_rng_state())
        again = space.build(genomes[1])
        (known,) = evaluators[1].evaluate(again, candidates[1])
        assert known.metrics == report.metrics and same(again, models[1])
        return report, *models, built

    return descended


@pytest.mark.parametrize("size", [(4, 1, "relu"), (2, 3, "relu"), (3, 2, "relu")])
def test_an_architecture_that_grew_begins_as_its_parents_function(descend, size):
    report, parent, child, built = descend((2, 1, "relu"), size)
    inputs = next(iter(DIGITS.batches("test", 64)))[0]
    with torch.no_grad():
        torch.testing.assert_close(child(inputs), parent(inputs), rtol=1e-5, atol=1e-5)
    assert report.metrics["generation"] == 1
    assert size[0] == 2 or torch.equal(child.state_dict()["1.weight"][2:], built["1.weight"][2:])
    trained, *_ = descend((2, 1, "relu"), size, steps=30)
    assert trained.metrics["loss"] < report.metrics["loss"]


@pytest.mark.parametrize(
    "sizes",
    [((4, 1, "relu"), (2, 1, "relu")), ((2, 1, "gelu"), (2, 2, "gelu")), ((2, 1, "relu"), (3, 1, "gelu"))],
)
def test_an_architecture_that_cannot_begins_with_what_it_has_in_common_with_its_parent_and_is_trained(
    descend, sizes
):
    report, parent, child, built = descend(*sizes)
    before, now = parent.state_dict(), child.state_dict()
    assert report.metrics["generation"] == 1
    for name, tensor in now.items():
        common = before.get(name, torch.zeros(()))
        if common.ndim == tensor.ndim:
            block = tuple(slice(min(sizes)) for sizes in zip(tensor.shape, common.shape, strict=True))
            built[name][block] = common[block]
    assert same(now, built)
    trained, *_ = descend(*sizes, steps=30)
    assert trained.metrics["loss"] < report.metrics["loss"]


def test_a_mask_beside_settings_inherits_by_its_places(tmp_path):
    mask = residual_space()
    space = JointSpace({"net": mask, "tuning": Tuning()})
    evaluator = InheritedTraining(steps=2, batch_size=16)
    evaluator.bind(space, DIGITS)
    evaluator.state = tmp_path
    rng = np.random.default_rng(0)
    parent, child = space.sample(2, rng)
    for id, genome, parents in ((0, parent, ()), (1, child, (0,))):
        (report,) = evaluator.evaluate(space.build(genome), Candidate(id, genome, parents, seed=id))
    assert report.metrics["generation"] == 1
    left = InheritedFiles(tmp_path).read(1).tensors
    assert {name: tensor.shape for name, tensor in left.items()} == {
        name: t.shape for name, t in mask.model.state_dict().items()
    }


def test_bad_settings_and_spaces_are_refused_in_one_line():
    for settings, text in [
        ({"steps": -1}, "steps -1; expected at least 0"),
        ({"batch_size": 0}, "batch_size 0; expected at least 1"),
        ({"optimiser": "lion"}, "optimiser 'lion'; expected adamw or sgd"),
        ({"recalibration": "test"}, "recalibration 'test'"),
    ]:
        with pytest.raises(InputError, match=text):
            InheritedTraining(**settings)
    with pytest.raises(InputError, match="no data"):
        InheritedTraining().bind(residual_space())
    pair = PairSpace(Pair(Perceptron((64, 8, 4)), Perceptron((4, 8, 64))), (torch.zeros(2, 64),))
    with pytest.raises(
        InputError, match=r"space PairSpace has no tensors to inherit; expected spaces.ChannelSpace"
    ):
        InheritedTraining().bind(pair, DIGITS)
    with pytest.raises(
        InputError, match=r"assembled makes of the mask 'net' has no places in the full tensors"
    ):
        InheritedTraining().bind(JointSpace({"net": residual_space(), "tuning": Tuning()}, assembled), DIGITS)
    with pytest.raises(InputError, match="batches of one sample"):
        evaluator = InheritedTraining(batch_size=1)
        evaluator.bind(residual_space(), DIGITS)
        run(evaluator, Candidate(0, residual_space().base))


def test_it_measures_what_quality_measures(make, space):
    genome = genome_of(space, 0.5)
    report, _ = run(make(None, steps=0), Candidate(0, genome))
    quality = Quality()
    quality.bind(space, DIGITS)
    (plain,) = quality.evaluate(space.build(genome), Candidate(0, genome))
    assert {name: report.metrics[name] for name in plain.metrics} == plain.metrics
