import numpy as np
import pytest
import torch
from torch import nn

from evaluators.data import Phantoms, Segmentation, overlap_by_case
from evaluators.testing import DataContract
from spaces.errors import InputError

FEW = {"train": 12, "calibration": 6, "search": 8, "test": 6}


def whole(data, split):
    return next(data.batches(split, 1000))


class TestPhantoms(DataContract):
    def data(self):
        return Phantoms(16, FEW)

    def model(self):
        torch.manual_seed(0)
        return nn.Conv2d(1, 4, 3, 1, 1)


def test_there_are_enough_of_them_and_every_structure_is_in_each():
    data = Phantoms()
    images, labels = whole(data, "train")
    assert images.shape == (240, 1, 64, 64)
    assert labels.shape == (240, 64, 64)
    assert images.mean(dim=(2, 3)).abs().max() < 1e-4 and (images.std(dim=(2, 3)) - 1).abs().max() < 1e-2
    for structure in range(4):
        share = (labels == structure).float().mean(dim=(1, 2))
        assert (share > 0.003).all(), f"structure {structure} is missing or a few pixels"


def test_the_cavity_is_inside_the_muscle_and_the_crescent_beside_it():
    _, labels = whole(Phantoms(64, FEW, seed=3), "train")
    padded = nn.functional.pad(labels, (1, 1, 1, 1))
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbours = padded[:, dy : dy + 64, dx : dx + 64]
        assert not ((labels == 3) & ((neighbours == 0) | (neighbours == 1))).any(), (
            "the cavity touches more than its wall"
        )
    touching = ((labels == 1) & (padded[:, 1:-1, 2:] == 2)) | ((labels == 1) & (padded[:, 2:, 1:-1] == 2))
    assert touching.flatten(1).any(1).float().mean() > 0.5


def test_a_seed_decides_and_a_split_does_not_depend_on_the_sizes_of_others():
    one, other = Phantoms(16, FEW, seed=1), Phantoms(16, FEW, seed=2)
    assert not torch.equal(whole(one, "test")[0], whole(other, "test")[0])
    more = Phantoms(16, {**FEW, "train": 20}, seed=1)
    for split in ("calibration", "search", "test"):
        assert torch.equal(whole(one, split)[0], whole(more, split)[0])


def test_difficulty_lowers_what_a_threshold_can_do():
    """Separation of blood from muscle by brightness alone, in deviations of both: it falls with the
    difficulty.
    """

    def separation(difficulty):
        images, labels = whole(Phantoms(32, FEW, difficulty), "train")
        images = images[:, 0]
        apart = []
        for image, label in zip(images, labels, strict=True):
            blood, muscle = image[(label == 1) | (label == 3)], image[label == 2]
            apart.append((blood.mean() - muscle.mean()) / (blood.std() + muscle.std()))
        return float(np.mean(apart))

    easy, middle, hard = (separation(difficulty) for difficulty in (0.0, 0.5, 1.0))
    assert easy > 1.3 * middle > 1.3 * 1.3 * hard > 0


def test_labels_do_not_depend_on_the_difficulty():
    assert torch.equal(whole(Phantoms(32, FEW, 0.0), "test")[1], whole(Phantoms(32, FEW, 1.0), "test")[1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": 8}, "size 8; expected at least 16"),
        ({"difficulty": 1.5}, "difficulty 1.5; expected a number of 0 to 1"),
        ({"samples": {"train": 0}}, "samples train: 0; expected at least 1"),
        (
            {"samples": {"validation": 5}},
            "samples validation: 5; expected at least 1 for any of train, calibration",
        ),
    ],
)
def test_arguments_out_of_their_range_are_refused(arguments, text):
    with pytest.raises(InputError, match=f"^data: {text}"):
        Phantoms(**arguments)


def test_overlap_by_case_of_images():
    data = Phantoms(16, FEW)

    class Oracle(nn.Module):
        def forward(self, x):
            images, labels = whole(data, "test")
            found = torch.stack([labels[(images == image).flatten(1).all(1)][0] for image in x])
            return nn.functional.one_hot(found, 4).movedim(-1, 1).float()

    names, overlap = overlap_by_case(Oracle(), data, "test", size=4)
    assert names == [str(i) for i in range(6)]
    assert overlap.shape == (6, 3) and (overlap == 1).all()
    assert isinstance(data.task, Segmentation)
