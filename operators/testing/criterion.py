"""The contract of a criterion."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from operators.criteria import Criterion
from operators.testing.toys import ToyNet, global_generators_untouched, toy_batches, toy_plan


class CriterionContract(ABC):
    """What strategies, and the owner of the model, rely on."""

    @abstractmethod
    def criterion(self) -> Criterion:
        """Return the criterion."""

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return ToyNet()

    def scored(self, model: nn.Module | None = None) -> Tensor:
        """Return the scores of the toy network's only segment."""

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return cross_entropy(outputs, targets, reduction="none")

        scores = self.criterion().score(model or self.model(), toy_batches(), toy_plan(), loss)
        assert set(scores) == {"conv"}
        return scores["conv"]

    def test_has_a_name(self) -> None:
        assert self.criterion().name.isidentifier()

    def test_one_finite_score_a_locus(self) -> None:
        scores = self.scored()
        assert scores.shape == (6,)
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()
        assert not scores.requires_grad

    def test_the_model_comes_back_unchanged(self) -> None:
        model = self.model().train()
        model.get_submodule("norm").eval()
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.scored(model)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert all(
            parameter.grad is not None and (parameter.grad == 1).all() for parameter in model.parameters()
        )
        assert [name for name, module in model.named_modules() if not module.training] == ["norm"]
        assert not any(module._forward_hooks for module in model.modules())

    def test_a_frozen_model_has_the_same_scores(self) -> None:
        model = self.model()
        expected = self.scored(model)
        torch.testing.assert_close(self.scored(model.requires_grad_(False)), expected)
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_works_where_gradients_are_off(self) -> None:
        expected = self.scored()
        with torch.no_grad():
            torch.testing.assert_close(self.scored(), expected)

    def test_same_model_same_scores(self) -> None:
        torch.testing.assert_close(self.scored(), self.scored(), rtol=0, atol=0)

    def test_global_generators_stay_as_they_are(self) -> None:
        model = self.model()
        with global_generators_untouched():
            self.scored(model)

    def test_pickles(self) -> None:
        assert pickle.loads(pickle.dumps(self.criterion())).name == self.criterion().name
