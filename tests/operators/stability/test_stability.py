import numpy as np
import pytest

from operators.stability import EdgeHistory, Histories, Stability, window_means

NAMES = tuple("pqrstuv")
CALM = np.array([0.3, 0.2, 0.15, 0.13, 0.1, 0.07, 0.05])


def edge(rows) -> EdgeHistory:
    return EdgeHistory(NAMES[: len(rows[0])], np.asarray(rows, dtype=np.float64))


def keep(rule, history, epoch=50, epochs=100):
    return rule.keep(epoch, epochs, {"a": history}, np.random.default_rng(0)).get("a")


def run(rule, draw, epochs, edges=("a",)):
    """Search as a supernet does: `draw(epoch, edge, operations)` gives the importances. Returns what was
    kept, by epoch.
    """
    histories, removed = Histories(), {}
    active = dict.fromkeys(edges, NAMES)
    for epoch in range(1, epochs + 1):
        for name in edges:
            histories.record(name, active[name], draw(epoch, name, active[name]))
        for name, kept in rule.keep(epoch, epochs, histories.edges, np.random.default_rng(epoch)).items():
            removed[epoch] = kept
            active[name] = kept
            histories.reset(name, kept)
        if rule.done(epoch, epochs, histories.edges):
            break
    return removed


def test_stages_follow_one_another_and_each_waits_for_a_whole_history():
    def calm(epoch, name, operations):
        return [CALM[NAMES.index(o)] for o in operations]

    rule = Stability(window=3, patience=2, threshold=1e-4)
    assert run(rule, calm, 50) == {7: tuple("pqrst"), 14: tuple("pqr"), 21: ("p",)}
    assert run(Stability(window=3, patience=2, threshold=1e-4, minimum=2), calm, 50) == {
        7: tuple("pqrst"),
        14: tuple("pqr"),
        21: tuple("pq"),
    }
    assert run(Stability(window=2, patience=1, threshold=1e-4, stages=[2]), calm, 50) == {4: tuple("pq")}


def test_a_jump_beyond_the_threshold_waits_and_patience_counts_checks():
    moved = CALM + np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0, -0.05 + 1e-3])
    moved = moved / moved.sum()
    rule = Stability(window=2, patience=3, threshold=1e-3)
    assert keep(rule, edge([CALM] * 6)) is not None
    assert keep(rule, edge([CALM] * 3 + [moved] * 3)) is None
    assert keep(rule, edge([CALM] * 3 + [moved] * 5)) is None, "of three checks one still sees the jump"
    assert keep(rule, edge([CALM] * 3 + [moved] * 6)) is not None


def test_what_would_be_kept_must_not_change_however_small_the_step():
    low, high = CALM.copy(), CALM.copy()
    low[4:6], high[4:6] = (
        [0.0851, 0.0849],
        [0.0849, 0.0851],
    )  # t and u change places at the border of the first stage
    rule = Stability(window=2, patience=1, threshold=1e-3)
    assert keep(rule, edge([low, low, high, high])) is None
    assert keep(rule, edge([high, high, high, high])) == tuple("pqrsu")
    assert keep(
        Stability(window=2, patience=1, threshold=1e-3, rank=False), edge([low, low, high, high])
    ) == tuple("pqrsu")
    inner = CALM[[1, 0, 2, 3, 4, 5, 6]]
    assert (
        keep(Stability(window=2, patience=1, threshold=1.0), edge([CALM, CALM, inner, inner])) is not None
    ), "all four stay anyway"


def test_it_keeps_by_the_window_not_by_the_last_check():
    last = CALM[[6, 1, 2, 3, 4, 5, 0]]
    rule = Stability(window=3, patience=1, threshold=1.0, stages=[1])
    assert keep(rule, edge([CALM, CALM, CALM, CALM, CALM, last])) == ("p",)
    assert window_means(np.array([CALM, CALM, last]), 3)[0].argmax() == 0


def test_calibrated_waits_only_while_the_choice_loses_ground():
    rule = Stability(window=3, patience=1, stages=[1])
    wobble = np.random.default_rng(0).normal(scale=1e-5, size=(6, 4))
    near = np.array([0.27, 0.25, 0.24, 0.24]) + wobble
    way = 0.002 * np.arange(6)[:, None] * np.array([1.0, -0.5, -0.5, 0.0])
    assert keep(rule, edge(near + way)) == ("p",), "the best gains"
    assert keep(rule, edge(near - way)) is None, "the best of a window ago loses, be it the best still"
    assert keep(rule, edge(near - 4 * way)) is None, "or no more"
    among = 0.02 * np.arange(6)[:, None] * np.array([0.0, 0.0, 1.0, -1.0])
    assert keep(rule, edge(near + among)) is None, "what was third is now the best"
    among = 0.002 * np.arange(6)[:, None] * np.array([0.0, 0.0, 1.0, -1.0])
    assert keep(rule, edge(near + among)) == ("p",), "the others among themselves"


def test_calibrated_does_not_wait_for_ranks_that_only_noise_changes():
    rule, rested = Stability(window=3, patience=1, stages=[1]), 0
    ranks = Stability(window=3, patience=1, stages=[1], threshold=1.0)
    by_rank = 0
    for seed in range(100):
        walk = np.random.default_rng(seed).normal(scale=0.01, size=(6, 7)).cumsum(axis=0)
        chances = np.exp(walk)
        history = edge(chances / chances.sum(axis=1, keepdims=True))
        rested += keep(rule, history) is not None
        by_rank += keep(ranks, history) is not None
    assert rested >= 85 > by_rank


@pytest.mark.parametrize("threshold", ["noise", "walk"])
def test_noise_is_stable_and_drift_is_not(threshold):
    rule = Stability(window=5, patience=1, threshold=threshold, stages=[1], rank=False)
    noisy = drifting = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(scale=0.01, size=(10, 7))
        noise = noise.cumsum(axis=0) / 4 if threshold == "walk" else noise
        drift = np.linspace(-1, 1, 7) * np.arange(10)[:, None] * 0.04
        chances, moved = np.exp(np.log(CALM) + noise), np.exp(np.log(CALM) + noise + drift)
        noisy += keep(rule, edge(chances / chances.sum(axis=1, keepdims=True))) is not None
        drifting += keep(rule, edge(moved / moved.sum(axis=1, keepdims=True))) is not None
    assert noisy >= 34
    assert drifting <= 2


def test_edges_go_on_their_own():
    def draw(epoch, name, operations):
        chances = np.array([CALM[NAMES.index(o)] for o in operations])
        return chances + (epoch % 4) * 0.1 * np.arange(len(operations)) * (name == "b")

    histories = Histories()
    for epoch in range(1, 12):
        for name in "ab":
            histories.record(name, NAMES, draw(epoch, name, NAMES))
    kept = Stability(window=2, threshold=1e-4).keep(11, 50, histories.edges, np.random.default_rng(0))
    assert list(kept) == ["a"]
