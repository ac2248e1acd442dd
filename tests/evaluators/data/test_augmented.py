import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluators import Training, fit
from evaluators.data import Arrays, Augmented, Digits, Reconstruction
from evaluators.data.augmented import moved
from evaluators.inherited.teaching import Teacher
from evaluators.testing import DataContract
from spaces import InputError
from spaces.models import ResidualNet


class TestAugmented(DataContract):
    """Without border and mirror the samples are those of the data, so that the contract holds of a shuffled
    split, too.
    """

    def data(self):
        return Augmented(Digits(train_samples=60), padding=0, flip=False)

    def model(self):
        return ResidualNet((4,))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(n=40, size=6):
    """Images all of whose pixels differ, from each other and from 0."""
    return torch.arange(1, 1 + n * 2 * size * size, dtype=torch.float32).reshape(n, 2, size, size)


def crops(image, padding):
    """Return every crop of an image ``(channels, height, width)`` with a border, by its corner, and the
    mirrored ones.
    """
    bordered = F.pad(image, (padding,) * 4)
    height, width = image.shape[1:]
    found = {}
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = bordered[:, row : row + height, column : column + width]
            found[row, column, False] = crop
            found[row, column, True] = crop.flip(2)
    return found


def places(images, padding, flip, seed=0):
    """Return where every image went: corner, and whether it was mirrored."""
    went = []
    for image, after in zip(images, moved(images, padding, flip, generator(seed)), strict=True):
        fits = [place for place, crop in crops(image, padding).items() if torch.equal(crop, after)]
        assert len(fits) == 1, "a moved image is one crop of itself, its channels together"
        went += fits
    return went


def test_a_moved_image_is_a_crop_of_its_own_and_all_crops_come():
    went = places(numbered(400), 1, True)
    assert set(went) == {
        (row, column, flip) for row in range(3) for column in range(3) for flip in (False, True)
    }
    assert 150 < sum(flip for _, _, flip in went) < 250
    for axis in (0, 1):
        assert all(90 < sum(place[axis] == at for place in went) < 180 for at in range(3))


def test_without_a_mirror_none_is_mirrored_and_without_a_border_none_is_moved():
    assert not any(flip for _, _, flip in places(numbered(), 2, False))
    assert {(row, column) for row, column, _ in places(numbered(), 0, True)} == {(0, 0)}


def test_images_need_not_be_square():
    images = torch.rand(5, 3, 4, 9) + 1
    after = moved(images, 2, True, generator())
    assert after.shape == images.shape
    assert all(
        any(torch.equal(a, crop) for crop in crops(image, 2).values())
        for a, image in zip(after, images, strict=True)
    )


def images(data, split="train", size=16, seed=None):
    return torch.cat([x for x, _ in data.batches(split, size, None if seed is None else generator(seed))])


def test_equal_generators_give_equal_batches_and_every_epoch_others():
    data = Augmented(Digits(train_samples=60), padding=2)
    assert torch.equal(images(data, seed=1), images(data, seed=1))
    assert not torch.equal(images(data, seed=1), images(data, seed=2))
    order = generator(1)
    one, next_one = ({x.numpy().tobytes() for x, _ in data.batches("train", 1, order)} for _ in range(2))
    assert one != next_one


def test_every_batch_is_the_plain_one_moved():
    plain = Digits(train_samples=60)
    data = Augmented(plain, padding=2)
    order = generator(3)
    for (before, labels), (after, same) in zip(
        plain.batches("train", 16, generator(3)), data.batches("train", 16, order), strict=True
    ):
        assert torch.equal(labels, same)
        for image, one in zip(before, after, strict=True):
            assert any(torch.equal(one, crop) for crop in crops(image, 2).values())


def test_only_shuffled_training_images_are_moved():
    plain = Digits(train_samples=60)
    data = Augmented(plain, padding=2)
    assert torch.equal(images(data), images(plain))
    for split in ("calibration", "search", "test"):
        assert torch.equal(images(data, split, seed=1), images(plain, split, seed=1))
    assert torch.equal(data.example()[0], plain.example()[0])


def test_the_fingerprint_knows_what_is_done():
    plain = Digits(train_samples=60)
    made = [
        Augmented(plain),
        Augmented(plain, flip=False),
        Augmented(plain, padding=2),
        Augmented(Digits(train_samples=61)),
    ]
    assert len({plain.fingerprint, *(data.fingerprint for data in made)}) == 5


def test_what_is_no_image_of_one_label_is_refused():
    rng = np.random.default_rng(0)
    flat = Arrays(rng.normal(size=(40, 5)), np.arange(40) % 3)
    tokens = Arrays(rng.integers(0, 9, (40, 1, 8, 8)), np.arange(40) % 3)
    pair = Arrays((rng.normal(size=(40, 1, 8, 8)),) * 2, np.arange(40) % 3)
    for data, found in (
        (flat, r"inputs \(5,\)"),
        (tokens, "images? of floats"),
        (pair, r"\(1, 8, 8\), \(1, 8, 8\)"),
    ):
        with pytest.raises(InputError, match=found):
            Augmented(data)
    with pytest.raises(InputError, match=r"Augmented of Reconstruction.* targets \(1, 8, 8\)"):
        Augmented(Reconstruction(Digits(train_samples=60)))
    with pytest.raises(InputError, match="padding -1; expected at least 0"):
        Augmented(Digits(train_samples=60), padding=-1)


def test_a_teacher_is_asked_of_what_its_pupil_sees():
    data = Augmented(Digits(train_samples=60), padding=2)
    torch.manual_seed(0)
    model = ResidualNet((4,)).eval()
    teacher = Teacher(model, data)
    assert not teacher.kept
    with torch.no_grad():
        for (inputs, _), said, _ in teacher.batches(16, generator(1)):
            assert torch.equal(said, model(inputs))


def test_a_training_follows_from_its_seed_and_an_augmented_one_is_another():
    plain = Digits(train_samples=60)

    def losses(data):
        torch.manual_seed(0)
        return [
            report.metrics["train_loss"]
            for report in fit(ResidualNet((4,)), data, Training(epochs=2, batch_size=16))
        ]

    moved_about = Augmented(plain, padding=1, flip=False)
    assert losses(moved_about) == losses(moved_about)
    assert losses(moved_about) != losses(plain)
