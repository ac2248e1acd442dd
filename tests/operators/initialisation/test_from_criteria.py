import numpy as np
import pytest

from operators.initialisation import FromCriteria
from operators.testing import InitialisationContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.errors import InputError


class TestFromCriteria(InitialisationContract):
    def initialisation(self):
        return FromCriteria()


SPACE = ToySpace((Segment("a", 20), Segment("b", 40)))
A, B = SPACE.slices.values()


def draw(guide, n=200, seed=0, **settings):
    return FromCriteria(**settings)(SPACE, n, guide, np.random.default_rng(seed))


def test_budgets_are_spread_over_the_range():
    shares = draw({"x": np.arange(60.0)}, 2000, min_keep=0.3, max_keep=0.7).mean(axis=1)
    assert shares.min() >= 0.29
    assert shares.max() <= 0.71
    assert abs(shares.mean() - 0.5) < 0.01
    assert shares.std() > 0.1


def test_what_is_kept_scores_higher_than_what_is_not():
    scores = np.random.default_rng(1).random(60)
    for genome in draw({"x": scores}, global_share=0, own_share=0, min_keep=0.2, max_keep=0.8):
        for part in (A, B):
            kept = genome[part] == 1
            assert scores[part][kept].min() > scores[part][~kept].max()
    normalised = np.concatenate([scores[A] / scores[A].mean(), scores[B] / scores[B].mean()])
    for genome in draw({"x": scores}, global_share=1, own_share=0, min_keep=0.2, max_keep=0.8):
        assert normalised[genome == 1].min() > normalised[genome == 0].max()


def test_quota_gives_every_segment_the_same_share():
    genomes = draw({"x": np.arange(60.0)}, global_share=0, own_share=0, min_keep=0.5, max_keep=0.5)
    assert (genomes[:, A].sum(axis=1) == 10).all()
    assert (genomes[:, B].sum(axis=1) == 20).all()


def test_segments_may_have_shares_of_their_own():
    genomes = draw({"x": np.arange(60.0)}, 500, global_share=0, own_share=1, min_keep=0.2, max_keep=0.8)
    first, second = genomes[:, A].mean(axis=1), genomes[:, B].mean(axis=1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2
    together = draw({"x": np.arange(60.0)}, 500, global_share=0, own_share=0, min_keep=0.2, max_keep=0.8)
    assert np.corrcoef(together[:, A].mean(axis=1), together[:, B].mean(axis=1))[0, 1] > 0.98


def test_global_ranking_finds_the_segment_with_many_weak_channels():
    scores = np.concatenate([np.ones(20), np.where(np.arange(40) < 4, 1.0, 1e-3)])
    genomes = draw({"x": scores}, global_share=1, own_share=0, min_keep=0.4, max_keep=0.4)
    assert (genomes[:, A].sum(axis=1) == 20).all()
    assert (genomes[:, B].sum(axis=1) == 4).all()


def test_scales_of_segments_do_not_matter():
    scores = np.random.default_rng(1).random(60)
    scaled = np.concatenate([scores[A] * 1024, scores[B] / 1024])
    assert (draw({"x": scores}) == draw({"x": scaled})).all()


def test_criteria_are_drawn_by_name():
    guide = {"x": np.arange(60.0), "y": -np.arange(60.0), "activation": np.full((200, 60), np.nan)}
    top = draw(guide, global_share=0, own_share=0, max_keep=0.9)[:, [A.stop - 1, A.start]]
    assert (top.sum(axis=1) == 1).all()
    assert 0.4 < top[:, 0].mean() < 0.6
    assert draw(guide, names=["x"], max_keep=0.9)[:, A.stop - 1].all()


def test_equal_scores_are_no_vote_for_the_first_channels():
    genomes = draw({"x": np.ones(60)}, 1000, min_keep=0.5, max_keep=0.5)
    assert genomes.mean(axis=0).max() < 0.6


def test_other_choices_are_sampled():
    space = ToySpace()
    genomes = FromCriteria()(
        space, 300, {"x": np.arange(space.length, dtype=float)}, np.random.default_rng(0)
    )
    np.testing.assert_allclose(np.bincount(genomes[:, space.slices["depth"]].ravel()) / 900, 0.2, atol=0.05)


@pytest.mark.parametrize(
    ("guide", "names", "message"),
    [({}, None, "it has nothing"), ({"x": np.ones(60)}, ["taylor"], "'taylor'; it has x")],
)
def test_missing_scores_are_named(guide, names, message):
    with pytest.raises(InputError, match=message):
        draw(guide, names=names)


def test_impossible_settings():
    for settings in (
        {"names": []},
        {"names": "taylor"},
        {"global_share": 2},
        {"min_keep": 0.6, "max_keep": 0.5},
        {"max_keep": 1.5},
    ):
        with pytest.raises(InputError):
            FromCriteria(**settings)
