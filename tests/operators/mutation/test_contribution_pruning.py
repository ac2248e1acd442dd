import numpy as np
import pytest

from operators.mutation import ContributionPruning
from operators.testing import PruningContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.errors import InputError

SPACE = ToySpace((Segment("a", 4), Segment("b", 4)))
FULL = np.ones((1, 8), dtype=np.uint8)


class TestContributionPruning(PruningContract):
    def mutation(self):
        return ContributionPruning(amount=0.3, noise=5.0)  # so much that everybody may go


def guide(deviations, outgoing):
    signs = np.where(np.arange(50) % 2, 1.0, -1.0)[:, None]
    return {
        "outputs": (signs * np.asarray(deviations)).astype(np.float32),
        "outgoing": np.asarray(outgoing, dtype=np.float64),
    }


def gone(mutation, guide, genome=FULL, n=400):
    rng = np.random.default_rng(0)
    return np.mean([mutation(SPACE, genome, guide, rng)[0] == 0 for _ in range(n)], axis=0)


def test_who_hardly_varies_or_is_not_listened_to_goes_first():
    shares = gone(ContributionPruning(0.25), guide([1, 1, 1, 0.01, 1, 1, 1, 1], [1, 1, 1, 1, 0.02, 1, 1, 1]))
    assert shares[3] > shares[4] > shares[[0, 1, 2, 5, 6, 7]].max()


def test_layers_of_any_scale_stand_side_by_side():
    """The second segment is a thousand times as loud: its least unit goes all the same."""
    shares = gone(ContributionPruning(0.125), guide([1, 1, 1, 0.5, 1000, 1000, 1000, 100], np.ones(8)))
    assert shares.argmax() == 7


def test_it_takes_its_share_of_what_is_kept_on_average():
    half = np.array([[1, 1, 0, 0, 1, 1, 0, 0]], dtype=np.uint8)
    shares = gone(ContributionPruning(0.25), guide(np.linspace(1, 2, 8), np.ones(8)), half, 4000)
    assert abs(shares[half[0] == 1].sum() - 1.0) < 0.1


def test_noise_lets_others_go():
    told = guide([1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], np.ones(8))
    assert (gone(ContributionPruning(0.1), told) == 0).any()
    assert (gone(ContributionPruning(0.1, noise=1.0), told) > 0).all()


def test_negative_noise_is_refused():
    with pytest.raises(InputError, match="ContributionPruning: noise -1; expected at least 0"):
        ContributionPruning(noise=-1)
