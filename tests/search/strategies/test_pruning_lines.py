"""Lines from the base model to the smallest."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators import Cost, Digits, Evaluation, InheritedTraining, State
from evaluators.inherited.channel_worth import RemovalTrials
from operators.mutation import RandomPruning, RemovalPruning
from search import PruningLines, Search
from search.testing import evaluate, pruning
from spaces.errors import InputError
from spaces.models import Perceptron


def played(strategy, problem, spoil=lambda e: e, seed=0):
    """Ask and tell until nothing more is asked; return the evaluations."""
    strategy.start(problem, seed)
    told = []
    while candidates := strategy.ask(8):
        told += [spoil(e) for e in evaluate(problem, candidates)]
        strategy.tell(told[-len(candidates) :])
    return told


def randomly(**settings):
    return PruningLines(mutation=RandomPruning(), **settings)


def test_a_line_goes_from_the_base_model_to_the_smallest_in_equal_ratios():
    problem = pruning(200)
    told = played(randomly(rounds=10, smallest=0.1), problem)
    assert (told[0].candidate.genome == problem.space.base).all()
    assert [e.candidate.parents for e in told] == [(), *((i,) for i in range(len(told) - 1))]
    costs = np.array([problem.evaluator.screen(e.candidate.genome[None])["macs"][0] for e in told])
    np.testing.assert_allclose(costs / costs[0], 0.1 ** (np.arange(11) / 10), atol=0.06)
    for before, after in itertools.pairwise(told):
        assert (after.candidate.genome <= before.candidate.genome).all()


class Hesitant(RandomPruning):
    """Takes half of what it is asked to take."""

    def __call__(self, space, genomes, guide, rng):
        self.amount /= 2
        return super().__call__(space, genomes, guide, rng)


def test_rounds_follow_the_last_one_until_the_smallest_is_reached():
    def left(more):
        strategy = PruningLines(1, 4, 0.2, mutation=Hesitant(), more=more)
        return [e.candidate.genome.mean() for e in played(strategy, pruning(100))]

    assert len(left(None)) == 5 and left(None)[-1] > 0.25
    assert left(None) == left(20)[:5] and left(20)[-1] <= 0.2 and 7 < len(left(20)) < 25
    assert len(left(2)) == 7


def test_lines_are_side_by_side_and_differ():
    problem = pruning(100)
    strategy = randomly(lines=3, rounds=4)
    strategy.start(problem, 0)
    first = strategy.ask(8)
    assert len(first) == 3
    assert strategy.ask(8) == []
    assert strategy.waiting
    strategy.tell(evaluate(problem, first[:2]))
    second = strategy.ask(8)
    assert [c.parents for c in second] == [(0,), (1,)]
    assert (second[0].genome != second[1].genome).any()


def test_heirs_are_those_who_may_still_be_parents():
    problem = pruning(100)
    strategy = randomly(lines=2, rounds=4, growth=1.0, brood=3)
    strategy.start(problem, 0)
    ids, parents, heirs = [], [], []
    while candidates := strategy.ask(1):
        ids += [c.id for c in candidates]
        parents.append({parent for c in candidates for parent in c.parents})
        strategy.tell(evaluate(problem, candidates))
        heirs.append(strategy.heirs())
    for turn, known in enumerate(heirs):
        told = set(ids[: turn + 1])
        assert set.union(set(), *parents[turn + 1 :]) & told <= known
    assert max(map(len, heirs)) < len(ids) / 2


def test_cheap_rounds_try_several_children_and_go_on_from_the_best():
    problem = pruning(100)
    told = played(randomly(rounds=6, smallest=0.05, growth=0.5, brood=3), problem)
    parents = sorted({parent for e in told for parent in e.candidate.parents})
    families = [[e for e in told if e.candidate.parents == (parent,)] for parent in parents]
    sizes = [len(family) for family in families]
    assert sizes[0] == 1
    assert max(sizes) == 3
    assert sizes == sorted(sizes)
    for family, parent in zip(families, parents[1:], strict=False):
        values = problem.values(family)[:, 0]
        assert family[int(values.argmin())].candidate.id == parent


def test_it_follows_from_the_seed_alone():
    first, second, other = (played(randomly(lines=2, rounds=5), pruning(60), seed=seed) for seed in (1, 1, 2))
    assert [e.candidate.genome.tolist() for e in first] == [e.candidate.genome.tolist() for e in second]
    assert [e.candidate.genome.tolist() for e in first] != [e.candidate.genome.tolist() for e in other]


def failing(*ids, parent=None):
    """Spoil these candidates, or all children of one."""
    return lambda e: (
        replace(e, state=State.FAILED, metrics={})
        if e.candidate.id in ids or parent in e.candidate.parents
        else e
    )


def test_a_round_of_which_everybody_failed_is_tried_again():
    told = played(randomly(rounds=5), pruning(60), failing(2))
    assert [e.candidate.parents for e in told[2:5]] == [(1,), (1,), (3,)]
    assert told[-1].candidate.genome.mean() < 0.05
    assert told[2].candidate.seed != told[3].candidate.seed


def test_a_line_breaks_off_where_it_fails_for_good_and_the_others_go_on():
    told = played(randomly(lines=2, rounds=5), pruning(60), failing(parent=2))
    assert sum(e.candidate.parents == (2,) for e in told) == 3
    assert not {e.candidate.id for e in told if e.candidate.parents == (2,)} & {
        parent for e in told for parent in e.candidate.parents
    }
    assert min(e.candidate.genome.mean() for e in told if e.state is State.COMPLETE) < 0.1


def test_the_first_of_a_brood_is_pruned_without_noise():
    problem = pruning(60)
    problem.guide |= {"removal": np.random.default_rng(0).random(60), "cost": np.full(60, 1 / 60)}
    settings = {"rounds": 4, "smallest": 0.1, "growth": 1.0, "brood": 3}
    told = played(PruningLines(**settings, mutation=RemovalPruning(power=0, noise=2.0)), problem)
    alone = played(PruningLines(**settings | {"growth": 0.0}, mutation=RemovalPruning(power=0)), problem)
    first = next(e for e in told if e.candidate.parents == (0,))
    assert (first.candidate.genome == alone[1].candidate.genome).all()
    siblings = [e.candidate.genome for e in told if e.candidate.parents == (0,)]
    lines = played(PruningLines(2, 4, 0.1, mutation=RemovalPruning(power=0, noise=2.0)), problem)
    assert (lines[2].candidate.genome != lines[3].candidate.genome).any()
    assert len(siblings) > 1 and any((genome != siblings[0]).any() for genome in siblings[1:])


def test_the_arrays_of_the_parent_say_what_goes():
    problem = pruning(40)
    strategy = PruningLines(rounds=2, smallest=0.25, mutation=RemovalPruning(power=0))
    strategy.start(problem, 0)
    (base,) = evaluate(problem, strategy.ask(1))
    rises, costs = np.linspace(1, 2, 40), np.full(40, 1 / 40)
    strategy.tell(
        [Evaluation(base.candidate, State.COMPLETE, base.metrics, {"removal": rises, "cost": costs})]
    )
    (child,) = strategy.ask(1)
    gone = np.flatnonzero(child.genome == 0)
    assert gone.tolist() == list(range(len(gone)))
    assert len(gone) == 20


def test_a_whole_search_prunes_while_it_trains():
    torch.manual_seed(0)
    model = Perceptron((64, 12, 8, 10))
    evaluator = InheritedTraining(10, 32, 1e-2, first_steps=40, worth=RemovalTrials(16, share=10.0))
    search = Search(
        model,
        Digits(train_samples=100),
        evaluators=[Cost(), evaluator],
        objectives=["loss", "macs"],
        strategy=PruningLines(rounds=6, smallest=0.1),
        criteria=[],
        lag=1,
        chunk=1,
    )
    result = search.run(evaluations=None)
    assert result.reason == "exhausted"
    rounds = result.counts["evaluations"] - 1
    assert 4 <= rounds <= 6, "a round that the last one has done already is left out"
    smallest = min(result.front, key=lambda e: e.metrics["macs"])
    assert smallest.metrics["macs"] <= 0.15 * result.problem.base["macs"]
    assert smallest.metrics["generation"] == rounds + 1
    assert smallest.metrics["lineage_steps"] == 40 + rounds * 10


def test_what_does_not_fit_is_refused_in_one_line():
    for settings, text in [
        ({"lines": 0}, "lines 0; expected at least 1"),
        ({"rounds": 0}, "rounds 0; expected at least 1"),
        ({"smallest": 1}, "smallest 1; expected a share"),
    ]:
        with pytest.raises(InputError, match=text):
            PruningLines(**settings)
    with pytest.raises(InputError, match="cost 'params' is not screened; expected one of macs"):
        PruningLines(cost="params").start(pruning(10), 0)
