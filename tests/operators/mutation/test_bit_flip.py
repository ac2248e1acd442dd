import numpy as np
import pytest

from operators.mutation import BitFlip
from operators.testing import MutationContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.errors import InputError


class TestBitFlip(MutationContract):
    def mutation(self):
        return BitFlip(0.1)


def changed(mutation, genomes, space, seed=0):
    return mutation(space, genomes, {}, np.random.default_rng(seed))


def test_rate_is_the_share_of_changed_loci():
    space = ToySpace()
    genomes = space.sample(3000, np.random.default_rng(0))
    assert abs((changed(BitFlip(0.2), genomes, space) != genomes).mean() - 0.2) < 0.01


def test_one_change_a_genome_by_default():
    space = ToySpace()
    genomes = space.sample(3000, np.random.default_rng(0))
    assert abs((changed(BitFlip(), genomes, space) != genomes).sum(axis=1).mean() - 1) < 0.06


def test_rate_1_changes_every_locus_and_spreads_over_all_other_alleles():
    space = ToySpace((Segment("depth", 4, 5),))
    genomes = np.full((5000, 4), 2, dtype=np.uint8)
    alleles = changed(BitFlip(1.0), genomes, space)
    np.testing.assert_allclose(
        np.bincount(alleles.ravel(), minlength=5) / alleles.size, [0.25, 0.25, 0, 0.25, 0.25], atol=0.02
    )


def test_256_choices_do_not_wrap():
    space = ToySpace((Segment("grid", 3, 256),))
    alleles = changed(BitFlip(1.0), np.full((4000, 3), 255, dtype=np.uint8), space)
    assert not (alleles == 255).any()
    assert alleles.min() == 0
    assert alleles.max() == 254


def test_golden():
    space = ToySpace((Segment("bits", 10), Segment("depth", 2, 4)))
    genomes = np.zeros((3, 12), dtype=np.uint8)
    genomes[:, 0] = 1
    assert changed(BitFlip(0.3), genomes, space, seed=1).tolist() == [
        [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0],
    ]


@pytest.mark.parametrize("rate", [0, -0.1, 1.5])
def test_impossible_rate(rate):
    with pytest.raises(InputError, match="rate"):
        BitFlip(rate)
    with pytest.raises(InputError, match="probability"):
        BitFlip(0.1, probability=2)
