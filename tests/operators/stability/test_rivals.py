import numpy as np

from operators.stability import (
    EdgeHistory,
    Entropy,
    FixedStop,
    HistogramIntersection,
    RandomRemoval,
    RankStop,
)

NAMES = ("p", "q", "r", "s")


def edge(*rows: list[float]) -> EdgeHistory:
    return EdgeHistory(NAMES, np.array(rows))


def keep(rule, edges, epoch, seed=0):
    return rule.keep(epoch, 100, edges, np.random.default_rng(seed))


FLAT, STEEP = [0.26, 0.25, 0.25, 0.24], [0.05, 0.1, 0.8, 0.05]


def test_a_fixed_stop_keeps_the_best_at_its_epoch_and_not_before():
    edges = {"a": edge(STEEP), "b": edge(FLAT)}
    assert keep(FixedStop(45), edges, 44) == {}
    assert keep(FixedStop(45), edges, 45) == {"a": ("r",), "b": ("p",)}
    assert keep(FixedStop(45, keep=2), edges, 45)["a"] == ("q", "r")


def test_ranks_must_rest_on_all_edges():
    steady, swapped = edge(*[STEEP] * 5), edge(FLAT, FLAT, [0.24, 0.25, 0.25, 0.26], FLAT, FLAT)
    assert keep(RankStop(4), {"a": steady, "b": edge(*[FLAT] * 5)}, 9) == {"a": ("r",), "b": ("p",)}
    assert keep(RankStop(4), {"a": steady, "b": swapped}, 9) == {}
    assert keep(RankStop(1), {"a": steady, "b": swapped}, 9) != {}, "only the last epoch counts then"
    assert keep(RankStop(5), {"a": steady}, 9) == {}, "four changes without one are not five"


def test_sgas_decides_the_most_certain_and_stable_edge_at_its_interval():
    wild = [[0.05, 0.8, 0.1, 0.05], STEEP]
    edges = {"flat": edge(*[FLAT] * 5), "steep": edge(*[STEEP] * 5), "wild": edge(*wild, *wild, STEEP)}
    rule = HistogramIntersection(history=4, interval=5)
    assert keep(rule, edges, 9) == {}
    assert keep(rule, edges, 10) == {"steep": ("r",)}
    assert keep(rule, {"wild": edges["wild"]}, 10) == {"wild": ("r",)}, (
        "the last edge has no other to be compared with"
    )


def test_entropy_settles_sharp_edges_alone():
    edges = {"a": edge(STEEP), "b": edge(FLAT)}
    assert keep(Entropy(0.9), edges, 1) == {"a": ("r",)}
    assert keep(Entropy(0.3), edges, 1) == {}


def test_random_removal_keeps_the_schedule_and_draws_all_alike():
    edges = {"a": edge(STEEP), "b": edge(STEEP)}
    rule = RandomRemoval({10: 2, 20: {"a": 1}})
    assert keep(rule, edges, 9) == {}
    assert {e: len(names) for e, names in keep(rule, edges, 10).items()} == {"a": 2, "b": 2}
    assert list(keep(rule, edges, 20)) == ["a"]
    drawn = [keep(rule, edges, 20, seed)["a"][0] for seed in range(400)]
    assert all(60 < drawn.count(name) < 140 for name in NAMES)
    assert any(keep(rule, edges, 10, seed)["a"] != keep(rule, edges, 10, seed)["b"] for seed in range(5)), (
        "edges draw on their own"
    )
