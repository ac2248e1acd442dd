import pytest
import torch

from evaluators import Distillation
from spaces.errors import InputError

LABELS = torch.tensor([0, 1, 2, 0])


def test_an_agreeing_teacher_has_no_distance():
    outputs = torch.randn(4, 3)
    assert torch.allclose(
        Distillation().distance(outputs, outputs + 5, LABELS), torch.zeros(4), atol=1e-5
    )  # softmax ignores a constant


def test_the_divergence_by_hand():
    student, teacher, T = torch.randn(4, 3), torch.randn(4, 3), 3.0
    p, q = (teacher / T).softmax(1), (student / T).softmax(1)
    assert torch.allclose(
        Distillation(T).distance(student, teacher, LABELS), T**2 * (p * (p / q).log()).sum(1), atol=1e-5
    )


def test_float_targets_are_told_by_squared_error():
    student, teacher = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 5.0]])
    assert Distillation().distance(student, teacher, torch.zeros(1, 2)).tolist() == [5.0]


def test_gradients_flow_to_the_student_only_and_towards_the_teacher():
    student, teacher = torch.zeros(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    blended = Distillation(weight=1.0)(torch.zeros(4), student, teacher, LABELS)
    blended.sum().backward()
    assert teacher.grad is None and student.grad is not None
    step = (student - 0.1 * student.grad).detach()
    assert (
        Distillation().distance(step, teacher, LABELS) < Distillation().distance(student, teacher, LABELS)
    ).all()


def test_the_weight_blends():
    student, teacher, loss = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4)
    distance = Distillation().distance(student, teacher, LABELS)
    assert torch.equal(Distillation(weight=0.0)(loss, student, teacher, LABELS), loss)
    assert torch.allclose(
        Distillation(weight=0.25)(loss, student, teacher, LABELS), 0.75 * loss + 0.25 * distance
    )


def test_of_samples_without_labels_the_distance_alone_counts():
    outputs, teacher, targets = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 1, 2])
    loss, labelled = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True])
    blend = Distillation(2.0, 0.25)
    blended, distance = blend(loss, outputs, teacher, targets), blend.distance(outputs, teacher, targets)
    assert torch.equal(
        blend(loss, outputs, teacher, targets, labelled), torch.stack([blended[0], distance[1], blended[2]])
    )


def test_dense_labels_give_one_number_a_sample():
    assert Distillation().distance(
        torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    ).shape == (2,)


@pytest.mark.parametrize("arguments", [{"temperature": 0.0}, {"weight": 1.5}, {"weight": -0.1}])
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(InputError, match=r"distillation: .*expected"):
        Distillation(**arguments)
