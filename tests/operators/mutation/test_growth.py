import numpy as np
import pytest

from operators.mutation import Growth
from operators.mutation.growth import growing
from operators.testing import MutationContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.choices import Categorical, Choice, ChoiceSpace, Float, Integer
from spaces.errors import InputError
from spaces.joint import JointSpace


class Net(ChoiceSpace):
    depth = Integer(1, 4)
    activation = Categorical(["relu", "gelu", "silu"])
    width = Choice([8, 16])
    falling = Choice([7, 5, 3])
    rate = Float(0.1, 0.9, levels=5)

    def build_from(self, **values):
        raise AssertionError("nothing is built here")


class TestGrowth(MutationContract):
    def mutation(self):
        return Growth()

    def test_every_keep_bit_can_go_and_come_back(self):
        """They only come back here."""
        space = self.space()
        bits = space.choices == 2
        few = space.repair(np.where(bits, 0, space.sample(500, np.random.default_rng(0))).astype(np.uint8))
        rng, back = np.random.default_rng(1), np.zeros(space.length, bool)
        for _ in range(8):
            grown = self.mutation()(space, few, {}, rng)
            assert (grown >= few).all()
            back |= (grown > few).any(axis=0)
        assert back[bits & ~few.all(axis=0)].all()


class TestGrowthOfChoices(MutationContract):
    def mutation(self):
        return Growth()

    def space(self):
        return Net()

    def test_every_keep_bit_can_go_and_come_back(self):
        pytest.skip("choices of two values are ordered here")


def grown(genomes, space, seed=0, **settings):
    return Growth(**settings)(space, genomes, {}, np.random.default_rng(seed)).astype(int)


def test_one_ordered_choice_goes_up_one_level():
    space = Net()
    genomes = np.tile(space.encode(depth=2, activation="relu", width=8, falling=7, rate=0.5), (4000, 1))
    change = grown(genomes, space) - genomes
    assert (change.sum(axis=1) == 1).all() and (change >= 0).all()
    np.testing.assert_allclose(change.mean(axis=0), [1 / 3, 0, 1 / 3, 0, 1 / 3], atol=0.03)


def test_what_is_at_its_top_stays_and_others_are_drawn():
    space = Net()
    top = space.encode(depth=4, activation="relu", width=16, falling=5, rate=0.9)
    lower = space.encode(depth=4, activation="relu", width=16, falling=5, rate=0.1)
    after = grown(np.stack([top, lower] * 50), space)
    assert (after[::2] == top).all()
    assert (after[1::2] - lower == [0, 0, 0, 0, 1]).all()


def test_a_few_channels_of_one_segment_come_on():
    space = ToySpace((Segment("a", 40), Segment("depth", 2, 4), Segment("b", 10)))
    genomes = np.zeros((4000, 52), dtype=np.uint8)
    genomes[:, :39] = genomes[:, 42] = 1  # of the first only one is off
    genomes[::2, :20] = 0
    change = grown(genomes, space, span=0.2) - genomes
    assert (change >= 0).all() and not change[:, 40:42].any()
    both = np.stack([change[:, :40].sum(axis=1), change[:, 42:].sum(axis=1)], axis=1)
    assert ((both > 0).sum(axis=1) == 1).all()
    assert abs((both[:, 0] > 0).mean() - 0.5) < 0.05
    assert (
        set(both[::2, 0]) == set(range(9)) and set(both[1::2, 0]) == {0, 1} and set(both[:, 1]) == {0, 1, 2}
    )


def test_what_grows_in_a_joint_space():
    space = JointSpace({"mask": ToySpace(), "net": Net()})
    names = [name for name, part in space.slices.items() if part in growing(space)]
    assert names == ["mask/wide", "mask/narrow", "net/depth", "net/width", "net/rate"]


def test_bad_settings_and_spaces():
    for span in (0, 1.1):
        with pytest.raises(InputError, match="Growth: span"):
            Growth(span)
    with pytest.raises(
        InputError, match="Growth: the space has no keep bits and no choices of numbers that rise"
    ):
        grown(np.zeros((2, 3), np.uint8), ToySpace((Segment("depth", 3, 5),)))


def test_golden():
    space = ToySpace((Segment("bits", 6), Segment("more", 4)))
    genomes = np.zeros((3, 10), dtype=np.uint8)
    genomes[:, [0, 6]] = 1
    assert grown(genomes, space, seed=1, span=0.5).tolist() == [
        [1, 0, 0, 0, 0, 0, 1, 0, 1, 1],
        [1, 0, 0, 0, 0, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 1, 0, 1, 0, 0, 0],
    ]
