import numpy as np
import pytest

from operators.mutation import BudgetShift
from operators.testing import MutationContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.errors import InputError


class TestBudgetShift(MutationContract):
    def mutation(self):
        return BudgetShift()


SPACE = ToySpace((Segment("a", 20), Segment("depth", 2, 4), Segment("b", 30), Segment("c", 10)))


def half(n=3000):
    genomes = SPACE.sample(n, np.random.default_rng(3))
    genomes[:, SPACE.slices["a"].start] = genomes[:, SPACE.slices["b"].start] = 1
    return genomes


def shifted(genomes, guide=None, seed=0, **settings):
    return BudgetShift(**settings)(SPACE, genomes, guide or {}, np.random.default_rng(seed))


def moved(genomes, result):
    """Which of the segments of keep bits changed, (n, 3)."""
    return np.stack(
        [(genomes[:, SPACE.slices[name]] != result[:, SPACE.slices[name]]).any(axis=1) for name in "abc"],
        axis=1,
    )


def test_one_segment_moves_in_one_direction():
    genomes = half()
    result = shifted(genomes, segments=1e-9)
    assert (moved(genomes, result).sum(axis=1) == 1).all()
    change = result.astype(int) - genomes
    assert not ((change > 0).any(axis=1) & (change < 0).any(axis=1)).any()
    assert 0.4 < (change > 0).any(axis=1).mean() < 0.6


def test_more_segments_move_when_asked():
    genomes = half()
    assert moved(genomes, shifted(genomes, segments=3)).all()


def test_span_bounds_the_step_and_is_used():
    genomes = half()
    part = SPACE.slices["b"]
    result = shifted(genomes, span=0.3, segments=3)
    step = abs(result[:, part].sum(axis=1, dtype=int) - genomes[:, part].sum(axis=1, dtype=int))
    assert step.min() == 1
    assert step.max() == 9
    assert abs(step.mean() - 5) < 0.3


def test_full_segments_shrink_and_empty_ones_grow():
    full = np.ones((200, SPACE.length), dtype=np.uint8)
    assert (shifted(full).sum(axis=1) < full.sum(axis=1)).all()
    few = SPACE.repair(np.zeros((200, SPACE.length), dtype=np.uint8))
    result = shifted(few, segments=1e-9)
    assert (result >= few).all()


def test_low_scores_go_and_high_scores_come_back():
    genomes, scores = half(), np.arange(SPACE.length, dtype=float)
    result = shifted(genomes, {"taylor": scores}, span=0.3)
    off, on = (
        (result < genomes).sum(axis=0)[SPACE.slices["b"]],
        (result > genomes).sum(axis=0)[SPACE.slices["b"]],
    )
    assert off[:6].sum() > 2 * off[-6:].sum()
    assert on[-6:].sum() > 2 * on[:6].sum()


def test_without_scores_channels_are_alike():
    genomes = half()
    off = (shifted(genomes, {"unheard": np.arange(SPACE.length)}) < genomes).sum(axis=0)[SPACE.slices["b"]][
        1:
    ]
    assert off.max() < 1.5 * off.min()


def test_other_choices_stay():
    genomes = half()
    assert (shifted(genomes, segments=9)[:, SPACE.slices["depth"]] == genomes[:, SPACE.slices["depth"]]).all()
    with pytest.raises(InputError, match="no keep bits"):
        BudgetShift()(
            ToySpace((Segment("depth", 3, 5),)), np.zeros((2, 3), np.uint8), {}, np.random.default_rng(0)
        )


def test_impossible_settings():
    for settings, word in (
        ({"span": 0}, "span"),
        ({"span": 1.1}, "span"),
        ({"segments": 0}, "segments"),
        ({"pressure": -1}, "pressure"),
    ):
        with pytest.raises(InputError, match=f"BudgetShift: {word}"):
            BudgetShift(**settings)
