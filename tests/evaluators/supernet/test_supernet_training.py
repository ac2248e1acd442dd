"""A supernet in training: what is removed is gone, what is put away goes on, and what never moves says so."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from evaluators.supernet import SupernetSettings, SupernetTraining
from operators.stability import FixedStop, NoRemoval, Rule, Stability
from spaces.cells import genotype as text
from spaces.errors import InputError
from tests.evaluators.supernet.case import FAST, Script, data, design, equal, training

HALF = Script(
    {
        3: {"normal/a-0": ("skip", "sep_conv_3")},
        4: {"normal/a-0": ("sep_conv_3",), "reduction/b-0": ("skip",)},
    }
)


def test_what_is_removed_is_gone_from_module_optimisers_and_clock() -> None:
    search = training()
    records = list(search.run(6, HALF))
    assert [record.operations for record in records] == [12, 12, 12, 11, 8, 8]
    assert records[2].removed == {"normal/a-0": ["avg_pool_3"]}
    assert records[3].removed == {"normal/a-0": ["skip"], "reduction/b-0": ["avg_pool_3", "sep_conv_3"]}
    net = search.supernet
    assert (
        net.architecture.active["normal/a-0"] == ("sep_conv_3",)
        and "normal/a-0" not in net.architecture.alphas
    )
    assert [list(edge.operations) for edge in net.edges("normal/a-0")] == [["sep_conv_3"]]
    assert (
        records[4].macs < records[0].macs
        and records[4].parameters < records[0].parameters
        and records[4].memory < records[1].memory
    )
    held = {id(p) for p in net.parameters()}
    for optimiser in (search._steps.weights, search._steps.alphas):
        assert {id(p) for group in optimiser.param_groups for p in group["params"]} <= held
        assert {id(p) for p in optimiser.state} <= held, "an optimiser remembers what is gone"
    assert sum(row.numel() for row in net.architecture.alphas.values()) == 4 + 4, (
        "one edge of each kind is still open"
    )


def test_softmax_runs_over_what_is_left() -> None:
    search = training()
    list(search.run(4, Script({3: {"normal/a-0": ("skip", "sep_conv_3")}})))
    search.supernet.architecture.mix()
    architecture = search.supernet.architecture
    betas = architecture.betas["normal/0"].softmax(0)
    assert architecture.active["normal/a-0"] == ("skip", "sep_conv_3", "none")
    assert (
        architecture.weights["normal/a-0"].sum().item() == pytest.approx(1)
        and architecture.shares["normal/a-0"] == betas[0]
    )
    assert search.records[3].importances["normal/a-0"].keys() == {"skip", "sep_conv_3"}
    assert sum(search.records[3].importances["normal/a-0"].values()) == pytest.approx(1)


def test_what_stays_keeps_its_alpha_and_its_moments() -> None:
    search = training()
    list(search.run(3, NoRemoval()))
    before = search.supernet.architecture.alphas["normal/a-0"]
    values, moments = before.detach().clone(), search._steps.alphas.state[before]["exp_avg"].clone()
    search._remove(3, 9, Script({3: {"normal/a-0": ("skip", "sep_conv_3")}}))
    now = search.supernet.architecture.alphas["normal/a-0"]
    assert torch.equal(now.detach(), values[[0, 2, 3]]) and torch.equal(
        search._steps.alphas.state[now]["exp_avg"], moments[[0, 2, 3]]
    )


def test_the_history_of_an_edge_starts_anew_after_a_removal() -> None:
    search = training()
    list(search.run(5, Script({3: {"normal/a-0": ("skip", "sep_conv_3")}})))
    edges = search.histories.edges
    assert edges["normal/a-0"].checks == 2 and edges["normal/b-0"].checks == 4, "warm-up is no part of it"


@pytest.mark.parametrize(("at", "order"), [(1, 1), (4, 1), (3, 2)])
def test_a_search_goes_on_bit_by_bit(at: int, order: int) -> None:
    whole = training(order=order)
    states = {}
    for record in whole.run(6, HALF):
        states[record.epoch] = whole.state()
    other = training(seed=9, order=order)
    torch.manual_seed(5)
    records = list(other.run(6, HALF, states[at]))
    assert records == whole.records[at:], "one epoch differs"
    assert (
        equal(other.supernet.state_dict(), whole.supernet.state_dict()) and other.genotype == whole.genotype
    )


def test_going_on_leaves_the_state_as_it_was() -> None:
    """Rules fork from one state: each must find it untouched."""
    search = training()
    list(search.run(3, NoRemoval()))
    state = search.state()
    first = [list(training().run(5, rule, state)) for rule in (HALF, NoRemoval(), HALF)]
    assert first[0] == first[2]


def test_same_seed_same_search_and_another_seed_another_one() -> None:
    one, two, other = (training(seed) for seed in (0, 0, 1))
    assert list(one.run(3, NoRemoval())) == list(two.run(3, NoRemoval()))
    assert one.records != list(other.run(3, NoRemoval()))


def test_a_rule_that_is_done_ends_the_search() -> None:
    search = training()
    records = list(search.run(8, FixedStop(epoch=3, keep=1)))
    assert len(records) == 3 and all(
        len(names) == 1 for names in search.supernet.architecture.active.values()
    )
    assert list(search.run(8, FixedStop(epoch=3, keep=1))) == []


def test_stages_that_end_at_two_leave_two_and_end_the_search() -> None:
    search = training()
    records = list(search.run(40, Stability(window=2, patience=1, stages=(2,), threshold=1.0, rank=False)))
    assert len(records) == 1 + 4, "the warm-up, and what the rule has to see"
    assert all(
        len(search.supernet.architecture.named(edge)) == 2 for edge in search.supernet.architecture.active
    )


class Spy(Rule):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, float]] = []

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping, rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        self.calls.append((epoch, epochs, rng.random()))
        return {}


def test_a_rule_is_asked_after_the_warm_up_with_numbers_of_the_epoch() -> None:
    spies = Spy(), Spy()
    list(training(warmup=2).run(4, spies[0]))
    first = training(warmup=2)
    list(first.run(3, NoRemoval()))
    list(training(warmup=2).run(4, spies[1], first.state()))
    assert [call[:2] for call in spies[0].calls] == [(3, 4), (4, 4)]
    assert spies[1].calls == spies[0].calls[1:]


@pytest.mark.parametrize(
    ("settings", "epochs", "rule", "words"),
    [
        ({"warmup": 5}, 5, NoRemoval(), "warmup 5 of 5 epochs: the architecture would never move"),
        (
            {},
            5,
            Stability(window=3, patience=2),
            "Stability decides after 7 checks, but 5 epochs less a warmup of 1 give 4",
        ),
    ],
)
def test_a_search_that_could_not_decide_is_refused(
    settings: dict, epochs: int, rule: Rule, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        next(training(**settings).run(epochs, rule))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture_learning_rate": 0.0}, "the architecture would never move"),
        ({"held_out": "train"}, "expected calibration or search"),
        ({"order": 3}, "order 3; expected 1 or 2"),
        ({"share": 0}, "share 0"),
        ({"warmup_operations": 0}, "warmup_operations 0; expected at least 1, or null"),
        ({"batch_size": 1}, "batch_size 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SupernetSettings(**settings)


def test_an_architecture_that_does_not_move_says_so() -> None:
    search = training(architecture_learning_rate=1e-30)
    with pytest.raises(InputError, match="epoch 2 left every architecture parameter as it was"):
        list(search.run(4, NoRemoval()))


def test_warm_up_leaves_the_architecture_alone() -> None:
    search = training(warmup=2)
    before = {name: tensor.clone() for name, tensor in search.supernet.architecture.state_dict().items()}
    records = search.run(4, NoRemoval())
    next(records), next(records)
    assert (
        equal(before, search.supernet.architecture.state_dict()) and search.records[1].held_out_loss is None
    )
    next(records)
    assert not equal(before, search.supernet.architecture.state_dict())


def test_a_warm_up_of_few_operations_costs_less_and_goes_on_bit_by_bit() -> None:
    plain, drawn = training(warmup=2), training(warmup=2, warmup_operations=1)
    states = {}
    for record in drawn.run(4, NoRemoval()):
        states[record.epoch] = drawn.state()
    list(plain.run(4, NoRemoval()))
    for name in ("macs", "memory"):
        of_all, found = ([getattr(record, name) for record in search.records] for search in (plain, drawn))
        assert max(found[:2]) < of_all[0] and found[2:] == of_all[2:], name
    for at in (1, 2):
        other = training(seed=9, warmup=2, warmup_operations=1)
        torch.manual_seed(5)
        assert list(other.run(4, NoRemoval(), states[at])) == drawn.records[at:]
        assert equal(other.supernet.state_dict(), drawn.supernet.state_dict())


@pytest.mark.parametrize("number", [1, 2])
def test_few_operations_stand_for_all_on_average(number: int) -> None:
    supernet = training().supernet
    edge = supernet.edges("normal/a-0")[0]
    x = torch.randn(4, 2, 6, 6)
    with torch.no_grad():
        supernet.architecture.mix()
        whole, parts = edge(x), []
        for first in range(3):
            supernet.architecture.draw(number, first)
            parts.append(edge(x))
        torch.testing.assert_close(torch.stack(parts).mean(0), whole)
        supernet.architecture.draw(3)
        torch.testing.assert_close(edge(x), whole)
        seen = set()
        for _ in range(40):
            supernet.architecture.draw(number)
            seen |= {frozenset(places) for places in supernet.architecture.drawn.values()}
    assert len(seen) == 3, "each operation, or each pair of them"


def test_a_frozen_network_keeps_weights_and_statistics() -> None:
    from evaluators.supernet import SupernetTraining
    from spaces.cells import DenseGraph, Design, SkipUNet

    class Labelled(type(data())):  # type: ignore[misc]
        """The labels of images, asked of every pixel."""

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return super().loss(outputs.mean((2, 3)), targets)

    found = data()
    found.__class__ = Labelled
    host = SkipUNet((2, 3), classes=2)
    search = SupernetTraining(
        Design(host, found.example(), graph=DenseGraph(1), operations=("skip", "sep_conv_3")),
        found,
        SupernetSettings(**FAST),
    )
    before = {
        name: tensor.clone()
        for name, tensor in search.supernet.network.model.state_dict().items()
        if ".cell." not in name
    }
    list(search.run(2, NoRemoval()))
    after = {
        name: tensor
        for name, tensor in search.supernet.network.model.state_dict().items()
        if ".cell." not in name
    }
    assert equal(before, after)
    assert any("num_batches_tracked" in name for name in before), "there are statistics that could have moved"


def test_the_cell_follows_strengths_and_importances() -> None:
    search = training()
    architecture = search.supernet.architecture
    with torch.no_grad():
        for edge, alpha in architecture.alphas.items():
            alpha.copy_(torch.tensor([0.0, 0.0, 2.0, 9.0] if edge == "normal/b-0" else [1.0, 0.0, 0.0, 0.0]))
    assert search.genotype == "normal: 0<a:skip,b:sep_conv_3; reduction: 0<a:skip,b:skip", (
        "none is never chosen, however strong"
    )
    strengths = {
        f"{kind}/{edge}": 0.1 * n
        for kind in ("normal", "reduction")
        for n, edge in enumerate(("a-0", "b-0", "a-1", "b-1", "0-1"))
    }
    best = dict.fromkeys(strengths, "skip")
    cell = design(2).discretise(strengths, best)
    assert set(cell["normal"]) == {("a", "0"), ("b", "0"), ("b", "1"), ("0", "1")}


@pytest.mark.parametrize("chosen", [{"a", "b"}, {"a", "0"}, {"b", "0"}])
def test_edges_with_one_operation_left_are_as_strong_as_when_the_others_went(chosen: set[str]) -> None:
    """Nothing weighs them against each other any more, and a tie would be decided by their order."""
    first, later = (SupernetTraining(design(2), data(), SupernetSettings(normalise=False)) for _ in range(2))
    for edge in list(first.supernet.architecture.active):
        source = edge.split("/")[1].split("-")[0]
        with torch.no_grad():
            first.supernet.architecture.alphas[edge].copy_(
                torch.tensor([2.0 if source in chosen else 1.0, 0.0, 0.0, 0.0])
            )
        first._steps.remove(edge, first.supernet.architecture.named(edge)[:1])
    assert all(
        {source for source, node in cell if node == "1"} == chosen
        for cell in text.read(first.genotype).values()
    )
    later.restore(first.state())
    assert later.genotype == first.genotype


def test_retraining_begins_anew_and_is_repeatable() -> None:
    search = training()
    genotype = search.random_genotype(3)
    one, two = (search.retrain(genotype, 0, 2) for _ in range(2))
    assert one == two != search.retrain(genotype, 1, 2)
    assert {"loss", "error", "test_loss", "test_error", "params", "macs"} <= one.keys()


@pytest.mark.parametrize("normalise", [True, False])
def test_the_gradient_of_the_architecture_is_that_of_finite_differences(normalise: bool) -> None:
    search = training(normalise=normalise)
    architecture = search.supernet.architecture
    assert bool(len(architecture.betas)) == normalise, (
        "without edge normalisation there is nothing to learn about edges"
    )
    batch = next(search._steps._batches("calibration"))
    search.supernet.train().double()
    batch = (batch[0].double(), batch[1])
    parameters = list(architecture.parameters())
    gradients = torch.autograd.grad(search._steps._loss(batch), parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            for place in range(len(parameter)):
                sides = []
                for move in (1e-4, -2e-4):
                    parameter[place] += move
                    sides.append(search._steps._loss(batch).item())
                parameter[place] += 1e-4
                assert gradient[place].item() == pytest.approx(
                    (sides[0] - sides[1]) / 2e-4, rel=1e-3, abs=1e-6
                )
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients)
    if not normalise:
        architecture.mix()
        assert set(architecture.shares.values()) == {1.0}, "every edge counts one"
