"""Magnitude scores the weight that acts, not what it is computed of; such models are sliced right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from operators.criteria import Activation, Magnitude, Taylor
from spaces import ChannelSpace


class Adapted(nn.Module):
    """As peft wraps a layer: the layer, and low-rank ones by the names of adapters."""

    def __init__(self, layer: nn.Module, adapters: tuple[str, ...] = ("default",)) -> None:
        super().__init__()
        kind, options = type(layer), {}
        if isinstance(layer, nn.Conv2d):
            first, last = layer.in_channels, layer.out_channels
            options = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
        else:
            first, last = layer.in_features, layer.out_features
        narrow = {"kernel_size": 1} if options else {}
        self.base_layer, self.scaling = layer, dict.fromkeys(adapters, 2.0)
        self.lora_A = nn.ModuleDict({a: kind(first, 2, bias=False, **options) for a in adapters})
        self.lora_B = nn.ModuleDict({a: kind(2, last, bias=False, **narrow) for a in adapters})
        self.lora_dropout = nn.ModuleDict({a: nn.Dropout(0.1) for a in adapters})

    def forward(self, x: Tensor) -> Tensor:
        y = self.base_layer(x)
        for name, scale in self.scaling.items():
            y = y + self.lora_B[name](self.lora_A[name](self.lora_dropout[name](x))) * scale
        return y


class Added(nn.Linear):
    """As loralib does it, with parameters of the layer itself."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.lora_A, self.lora_B = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + x @ self.lora_A.T @ self.lora_B.T * 0.5


class Product(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.linear = layer
        self.A = nn.Parameter(torch.randn(layer.in_features, 2))
        self.B = nn.Parameter(torch.randn(2, layer.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + x @ self.A @ self.B


class Gated(nn.Linear):
    """Computes its weight in ``forward``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gate = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gate.sigmoid()[:, None], self.bias)


class Delta(nn.Module):
    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.A, self.B = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.B @ self.A


class Cubed(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight**3


def parametrised(layer: nn.Linear, how: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", how)


def masked(layer: nn.Module) -> nn.Module:
    prune.random_unstructured(layer, "weight", 0.5)
    prune.ln_structured(layer, "weight", 0.25, 2, 0)
    return layer


def equalised(layer: nn.Module) -> nn.Module:
    """As generators do: a hook scales a parameter at every call."""
    weight = layer._parameters.pop("weight")
    layer.register_parameter("weight_raw", weight)
    layer.weight = weight.data
    layer.register_forward_pre_hook(
        lambda module, _: setattr(module, "weight", module.weight_raw * module.gain)
    )
    layer.register_buffer("gain", torch.linspace(0.1, 3, len(weight))[:, None])
    return layer


LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "plain": nn.Linear,
    "masks": lambda i, o: masked(nn.Linear(i, o)),
    "masked bias": lambda i, o: prune.l1_unstructured(masked(nn.Linear(i, o)), "bias", 0.5),
    "weight norm of before": lambda i, o: nn.utils.weight_norm(nn.Linear(i, o)),
    "weight norm": lambda i, o: parametrizations.weight_norm(nn.Linear(i, o)),
    "parametrised": lambda i, o: parametrised(nn.Linear(i, o), Cubed()),
    "several": lambda i, o: parametrised(parametrised(nn.Linear(i, o), Cubed()), Delta(o, i)),
    "low rank parametrisation": lambda i, o: parametrised(nn.Linear(i, o, bias=False), Delta(o, i)),
    "adapter": lambda i, o: Adapted(nn.Linear(i, o)),
    "two adapters": lambda i, o: Adapted(nn.Linear(i, o), ("a", "b")),
    "adapter over masks": lambda i, o: Adapted(masked(nn.Linear(i, o))),
    "added": Added,
    "product": lambda i, o: Product(nn.Linear(i, o)),
    "gated": Gated,
    "hook": lambda i, o: equalised(nn.Linear(i, o)),
}


def example(kind: str) -> tuple[nn.Sequential, ChannelSpace, Tensor]:
    """A model whose layers are plain but for the one that is looked at."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), LAYERS[kind](6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(4, 5)
    return model, ChannelSpace(model, x), x


@pytest.mark.parametrize("kind", LAYERS)
def test_magnitude_is_that_of_the_linear_map(kind: str) -> None:
    model, space, _ = example(kind)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores = Magnitude().score(model, [], space.plan, None)
    with torch.no_grad():
        zero, acts = model[2](torch.zeros(1, 6)), model[2](torch.eye(6))
    found = [name for name in scores if name.startswith("2") and len(scores[name]) == 8]
    assert len(found) == 1
    torch.testing.assert_close(scores[found[0]], (acts - zero).norm(dim=0), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", LAYERS)
def test_a_compact_model_equals_the_masked_one(kind: str) -> None:
    _, space, x = example(kind)
    least = space.repair(np.zeros((1, space.length), dtype=np.uint8))
    for genome in [space.base, *space.sample(2, np.random.default_rng(0)), *least]:
        assert space.difference(genome, (torch.randn_like(x),)) < 1e-5
        space.build(genome).train()(x).sum().backward()


@pytest.mark.parametrize("kind", ["masks", "parametrised", "hook"])
def test_other_criteria_see_what_a_layer_gives_whose_weight_is_computed(kind: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), *(LAYERS[kind](i, o) for i, o in ((6, 7), (7, 8), (8, 3)))]
    model, x = (
        nn.Sequential(*[f for layer in layers for f in (layer, nn.ReLU())][:-1]).eval(),
        torch.randn(4, 5),
    )
    space, data = ChannelSpace(model, x), [(x, torch.zeros(4, dtype=torch.long))]
    for criterion in (Activation(), Taylor()):
        scores = criterion.score(
            model, data, space.plan, lambda o, y: F.cross_entropy(o, y, reduction="none")
        )
        assert len(scores) >= 2 and all(score.any() for score in scores.values()), criterion.name


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "masks": lambda: masked(nn.Conv2d(6, 8, 3)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(6, 8, 3)),
    "transposed, masks": lambda: masked(nn.ConvTranspose2d(6, 8, 3)),
    "depthwise, masks": lambda: masked(nn.Conv2d(6, 6, 3, groups=6)),
    "grouped, parametrised": lambda: parametrised(nn.Conv2d(6, 8, 3, groups=2), Cubed()),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(6, 8, 3)),
    "spectral norm of before": lambda: nn.utils.spectral_norm(nn.Conv2d(6, 8, 3)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Conv2d(6, 8, 1)),
}
STAYS = (
    "orthogonal",
    "depthwise, masks",
    "grouped, parametrised",
)
"""Layers without a group of their eight outputs: these are tied to inputs."""


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_count_by_the_weight_that_acts_and_are_sliced_right(kind: str) -> None:
    torch.manual_seed(0)
    layer, x = CONVOLUTIONS[kind](), torch.randn(2, 3, 7, 7)
    after = nn.Conv2d(layer.out_channels, 5, 1)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), layer, nn.ReLU(), after, nn.ReLU(), nn.Conv2d(5, 2, 1)
    ).eval()
    space = ChannelSpace(model, x)
    scores = Magnitude().score(model, [], space.plan, None)
    model(x)  # hooks compute the weight when the layer is called
    out = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    acts = layer.weight.detach().double().movedim(out, 0).flatten(1).square().sum(1)
    name = next((n for n in scores if n.startswith("2") and len(scores[n]) == 8), None)
    assert (name is None) == (kind in STAYS)
    if name is not None:
        torch.testing.assert_close(scores[name].double(), acts.sqrt(), rtol=1e-4, atol=1e-4)
    for genome in space.sample(3, np.random.default_rng(0)):
        assert space.difference(genome, (torch.randn_like(x),)) < 1e-5
        space.build(genome).train()(x).sum().backward()


@pytest.mark.parametrize("stride", [1, 2])
def test_low_rank_additions_to_convolutions_count(stride: int) -> None:
    torch.manual_seed(0)
    wrapped = Adapted(nn.Conv2d(4, 6, 3, stride=stride, padding=1))
    model = nn.Sequential(wrapped, nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()
    space = ChannelSpace(model, torch.randn(2, 4, 8, 8))
    first, last = wrapped.lora_A["default"].weight, wrapped.lora_B["default"].weight[:, :, 0, 0]
    whole = wrapped.base_layer.weight + 2 * torch.einsum("or,rikl->oikl", last, first)
    scores = Magnitude(p=1.0).score(model, [], space.plan, None)
    torch.testing.assert_close(
        scores["0.base_layer"], whole.detach().abs().sum((1, 2, 3)), rtol=1e-4, atol=1e-4
    )


def test_masks_of_whole_filters_decide() -> None:
    """What is hidden under a mask is worth nothing, however large it is."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        model[0].weight[1] = 100.0
    mask = torch.ones_like(model[0].weight)
    mask[1] = 0
    prune.custom_from_mask(model[0], "weight", mask)
    space = ChannelSpace(model, torch.randn(2, 1, 5, 5))
    scores = Magnitude().score(model, [], space.plan, None)
    assert scores["0"][1] == 0 and (scores["0"] > 0).sum() == 3
