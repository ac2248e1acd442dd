import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluators.data import Arrays, Digits, Segmentation, overlap_by_case
from spaces.errors import InputError


def logits(labels: torch.Tensor, classes: int = 3, sure: float = 20.0) -> torch.Tensor:
    return sure * F.one_hot(labels, classes).movedim(-1, 1).float()


TRUE = torch.tensor([[[0, 1, 1, 2], [0, 1, 1, 2]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
FALSE = torch.tensor([[[0, 1, 1, 1], [0, 1, 1, 0]], [[0, 0, 0, 0], [0, 0, 2, 0]]])


def test_dice_by_hand():
    metrics = Segmentation(3).metrics(logits(FALSE), TRUE)
    assert metrics["dice_1"].tolist() == pytest.approx(
        [8 / 9, 1.0]
    )  # 2 * 4 / (5 + 4); in neither of the second
    assert metrics["dice_2"].tolist() == [0.0, 0.0]
    assert metrics["dice"].tolist() == pytest.approx([4 / 9, 0.5])
    assert (metrics["dice"] + metrics["dice_error"]).tolist() == [1, 1]
    assert all(
        (values == 1).all()
        for name, values in Segmentation(3).metrics(logits(TRUE), TRUE).items()
        if name != "dice_error"
    )


def test_a_case_is_summed_before_it_is_divided():
    both = Segmentation(3).overlap(FALSE, TRUE, np.array([0, 0]))
    assert both.tolist() == [pytest.approx([8 / 9, 0.0])]
    apart = Segmentation(3).overlap(torch.cat([FALSE, TRUE]), torch.cat([TRUE, TRUE]), np.array([1, 1, 0, 0]))
    assert apart.tolist() == [[1, 1], pytest.approx([8 / 9, 0.0])]
    assert Segmentation(3).overlap(FALSE[:1], TRUE[:1], np.array([0])).shape == (1, 2)


def test_loss_falls_with_both_its_parts():
    task = Segmentation(3)
    right, wrong = task.loss(logits(TRUE), TRUE), task.loss(logits(FALSE), TRUE)
    assert (right < 1e-3).all() and (wrong > right).all()
    unsure = logits(TRUE, sure=1.0)
    chances = unsure.softmax(1)[0, 1:]
    masks = torch.stack([TRUE[0] == 1, TRUE[0] == 2]).float()
    dice = (2 * (chances * masks).sum((1, 2)) + 1) / (chances.sum((1, 2)) + masks.sum((1, 2)) + 1)
    expected = F.cross_entropy(unsure[:1], TRUE[:1]) + 1 - dice.mean()
    assert task.loss(unsure, TRUE)[0] == pytest.approx(float(expected), rel=1e-5)


def test_the_dice_loss_teaches_where_cross_entropy_forgets_the_small():
    outputs = torch.zeros(1, 2, 8, 8, requires_grad=True)
    targets = torch.zeros(1, 8, 8, dtype=torch.int64)
    targets[0, 3, 3] = 1
    Segmentation(2).loss(outputs, targets).sum().backward()
    structure, ground = outputs.grad[0, 1, 3, 3], outputs.grad[0, 1, 0, 0]
    plain = torch.zeros(1, 2, 8, 8, requires_grad=True)
    F.cross_entropy(plain, targets).backward()
    assert structure < 0 < ground
    assert abs(structure) > abs(plain.grad[0, 1, 3, 3])


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused_with_their_place(label):
    masks = torch.zeros(10, 4, 4, dtype=torch.int64)
    masks[7, 2, 1] = label
    rows = {"train": [0, 1, 2, 3], "calibration": [4, 5], "search": [6, 7], "test": [8, 9]}
    with pytest.raises(InputError, match=r"split 'search', sample 1 \(row 7 .*expected integers from 0 to 2"):
        Arrays(torch.zeros(10, 1, 4, 4), masks, rows, Segmentation(3))
    with pytest.raises(InputError, match="expected integers from 0 to 2"):
        Arrays(torch.zeros(10, 1, 4, 4), torch.zeros(10, 4, 4), rows, Segmentation(3))


def test_other_data_and_too_few_classes_are_refused():
    with pytest.raises(InputError, match="1 classes; expected at least 2"):
        Segmentation(1)
    with pytest.raises(InputError, match="Digits has no labels a pixel"):
        overlap_by_case(torch.nn.Flatten(), Digits(), "test")
