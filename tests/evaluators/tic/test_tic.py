"""TIC: known answers, agreement of its estimators and of its two paths, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.tic import TIC, NonFiniteGradients, Prediction, RegimeGauge, attribute
from evaluators.tic.criterion import EstimatorName
from evaluators.tic.likelihood import CrossEntropy, Likelihood, SquaredError
from spaces.errors import InputError

ESTIMATORS: tuple[EstimatorName, ...] = ("exact", "block", "diagonal", "trace", "gram")


def bias(tic: TIC, model: nn.Module, loss: object, batch: tuple[Tensor, Tensor]) -> float:
    return tic(model, loss, batch, train_loss=0.0, n=1).bias  # type: ignore[arg-type]


# -- models --------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Embedding and head share a table, one layer is called twice, positions are many."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.layer, self.head = (
            nn.Embedding(11, 8, padding_idx=0),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.Linear(8, 11),
        )
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.embedding(x)
        y = y + self.layer(self.norm(y))
        return self.head(y + torch.tanh(self.layer(y))).transpose(1, 2)


class Raw(nn.Module):
    """A parameter used without its layer, and one that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale = nn.Linear(6, 6), nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.first(x)), self.first.weight) * self.scale


class Functional(nn.Module):
    """Only layers that hooks know, but one of them is also used behind their back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.first(x)), self.first.weight)


class SequenceFirst(nn.Module):
    """What the layer sees has the samples in its second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).transpose(0, 1).mean(1)


def models() -> dict[str, tuple[nn.Module, tuple[int, ...], int | None, int]]:
    """Name -> model, shape of a sample, vocabulary of token inputs, classes."""
    torch.manual_seed(0)
    convolutions = [
        nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, groups=2, stride=2, dilation=2, padding=(1, 2)),
        nn.GroupNorm(2, 6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(72, 3, bias=False),
    ]
    frozen = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    frozen[0].weight.requires_grad_(False)
    frozen[2].bias.requires_grad_(False)
    found: dict[str, tuple[nn.Module, tuple[int, ...], int | None, int]] = {
        "perceptron": (
            nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4)),
            (6,),
            None,
            4,
        ),
        "convolutions": (nn.Sequential(*convolutions), (2, 8, 8), None, 3),
        "one dimension": (
            nn.Sequential(nn.Conv1d(2, 4, 3, padding="same"), nn.Tanh(), nn.Flatten(), nn.Linear(40, 3)),
            (2, 10),
            None,
            3,
        ),
        "three dimensions": (
            nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)),
            (1, 3, 3, 3),
            None,
            3,
        ),
        "tied": (Tied(), (7,), 11, 11),
        "raw": (Raw(), (6,), None, 6),
        "behind": (Functional(), (6,), None, 6),
        "sequence first": (SequenceFirst(), (5, 4), None, 4),
        "frozen": (frozen, (6,), None, 4),
    }
    for model, *_ in found.values():
        model.double()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean, module.running_var = (
                    torch.randn(6).double(),
                    torch.rand(6).double() + 0.5,
                )
    return found


def batch_of(name: str, samples: int = 24) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model, shape, vocabulary, classes = models()[name]
    inputs = (
        torch.randn(samples, *shape).double()
        if vocabulary is None
        else torch.randint(vocabulary, (samples, *shape))
    )
    return model, (inputs, torch.randint(classes, (samples, *shape) if vocabulary else (samples,)))


# -- two paths, five estimators ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models())
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_hooks_or_their_fallback_equal_per_sample_gradients_of_torch_func(
    name: str, estimator: EstimatorName
) -> None:
    model, batch = batch_of(name)
    ours = TIC(estimator)(model, "cross_entropy", batch, train_loss=0.0, n=1)
    reference = TIC(estimator, path="functional")(model, "cross_entropy", batch, train_loss=0.0, n=1)
    assert ours.bias == pytest.approx(reference.bias, rel=1e-9)
    assert ours.error == pytest.approx(reference.error, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "hooked"), [("tied", True), ("convolutions", True), ("behind", False), ("sequence first", False)]
)
def test_hooks_are_trusted_only_where_autograd_agrees(name: str, hooked: bool) -> None:
    model, batch = batch_of(name)
    taken = (
        bias(TIC("gram", path="hooks"), model, "cross_entropy", batch)
        if hooked or name == "behind"
        else math.nan
    )
    right = bias(TIC("gram"), model, "cross_entropy", batch)
    assert (taken == pytest.approx(right, rel=1e-9)) is hooked


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "tied"])
@pytest.mark.parametrize("fisher", [1, 3])
def test_gram_is_exact(name: str, fisher: int) -> None:
    model, batch = batch_of(name)
    values = [
        TIC(e, fisher=fisher)(model, "cross_entropy", batch, train_loss=0.0, n=1) for e in ("gram", "exact")
    ]  # type: ignore[arg-type]
    assert values[0].bias == pytest.approx(values[1].bias, rel=1e-8)
    assert values[0].error == pytest.approx(values[1].error, rel=1e-6)


def test_gram_of_all_classes_is_exact() -> None:
    model, batch = batch_of("perceptron")
    assert bias(TIC("gram", fisher="all"), model, "cross_entropy", batch) == pytest.approx(
        bias(TIC("exact", fisher="all"), model, "cross_entropy", batch), rel=1e-8
    )


def test_many_draws_come_to_the_fisher_of_all_classes() -> None:
    model, batch = batch_of("perceptron", 12)
    every = bias(TIC("trace", fisher="all"), model, "cross_entropy", batch)
    assert bias(TIC("trace", fisher=3000), model, "cross_entropy", batch) == pytest.approx(every, rel=0.03)
    assert bias(TIC("trace", fisher=1), model, "cross_entropy", batch) != pytest.approx(every, rel=0.003)


def test_small_memory_changes_nothing_but_the_pieces() -> None:
    for name in ("perceptron", "convolutions", "tied", "raw"):
        model, batch = batch_of(name)
        for estimator in ("gram", "diagonal"):
            whole, pieces = TIC(estimator), TIC(estimator, memory=1)  # type: ignore[arg-type]
            assert bias(pieces, model, "cross_entropy", batch) == pytest.approx(
                bias(whole, model, "cross_entropy", batch), rel=1e-9
            )


def test_trace_is_a_lower_bound_of_the_undamped_diagonal() -> None:
    for seed in range(5):
        model, batch = batch_of("perceptron", 24 + seed)
        trace, diagonal = (
            bias(TIC(e, damping=1e-9), model, "cross_entropy", batch) for e in ("trace", "diagonal")
        )  # type: ignore[arg-type]
        assert trace <= diagonal


# -- known answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "classes"), [(4, 2), (3, 4)])
@pytest.mark.parametrize("estimator", ["exact", "gram"])
def test_well_specified_softmax_regression_has_the_bias_of_aic(
    features: int, classes: int, estimator: EstimatorName
) -> None:
    torch.manual_seed(1)
    model = nn.Linear(features, classes).double()
    inputs = torch.randn(1500, features).double()
    labels = torch.distributions.Categorical(logits=model(inputs).detach()).sample()
    found = TIC(estimator, damping=1e-5, fisher="all" if estimator == "exact" else 1, splits=0)
    assert bias(found, model, "cross_entropy", (inputs, labels)) == pytest.approx(
        (classes - 1) * (features + 1), rel=0.12
    )


@pytest.mark.parametrize("variance", [0.5, 2.0])
def test_linear_regression_has_its_closed_form(variance: float) -> None:
    """C is variance / (1/2) times F, which is what squared error without 1/2 believes of the noise."""
    torch.manual_seed(2)
    model = nn.Linear(5, 1).double()
    inputs = torch.randn(4000, 5).double()
    targets = model(inputs).detach() + math.sqrt(variance) * torch.randn(4000, 1).double()
    found = bias(TIC("exact", damping=1e-6, fisher=20, splits=0), model, "squared_error", (inputs, targets))
    assert found == pytest.approx(6 * variance / 0.5, rel=0.1)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_sample_of_many_independent_positions_divides_the_bias(outputs: int) -> None:
    """A loss that averages T positions is 1/T of a negative log-likelihood: its bias is the number of
    parameters over T.
    """
    torch.manual_seed(3)
    model = nn.Linear(4, outputs).double()
    inputs = torch.randn(1000, 6, 4).double()
    targets = model(inputs).detach() + math.sqrt(0.5) * torch.randn(1000, 6, outputs).double()
    found = bias(TIC("exact", damping=1e-6, fisher=20, splits=0), model, "squared_error", (inputs, targets))
    assert found == pytest.approx(5 * outputs / (6 * outputs), rel=0.12)


def test_the_standard_error_is_the_spread_over_batches() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    values, errors = [], []
    for i in range(40):
        batch = torch.randn(64, 6), torch.randint(3, (64,))
        found = TIC("gram", damping=0.1, seed=i)(model, "cross_entropy", batch, train_loss=0.0, n=1)
        values.append(found.bias)
        errors.append(found.error)
    spread = float(torch.tensor(values).std())
    assert 0.6 < float(torch.tensor(errors).mean()) / spread < 1.6


# -- what it returns, and leaves -----------------------------------------------------------------------------


def test_score_is_training_loss_plus_bias_over_n() -> None:
    model, batch = batch_of("perceptron")
    one, many = (
        TIC(scale=s)(model, nn.CrossEntropyLoss(), batch, train_loss=0.7, n=50) for s in ("1", "1/n")
    )  # type: ignore[arg-type]
    assert many.bias == pytest.approx(one.bias / 50)
    assert many.error == pytest.approx(one.error / 50)
    assert many.score == 0.7 + many.bias


def test_nothing_of_the_model_or_the_random_numbers_is_touched() -> None:
    model, batch = batch_of("convolutions")
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    TIC()(model, "cross_entropy", batch, train_loss=0.0, n=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_it_can_be_called_without_gradients_and_gives_the_same_twice() -> None:
    model, batch = batch_of("perceptron")
    with torch.no_grad():
        first = bias(TIC(), model, F.cross_entropy, batch)
    assert first == bias(TIC(), model, F.cross_entropy, batch)


def test_a_fit_without_any_gradient_has_no_bias() -> None:
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    found = TIC("diagonal")(
        model, "squared_error", (torch.zeros(8, 2), torch.zeros(8, 1)), train_loss=0.0, n=8
    )
    assert found.bias < 1e-9


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_saturated_model_with_one_wrong_label_has_a_large_bias_not_none(estimator: EstimatorName) -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], [1000.0, 0.0]]))
    inputs, labels = torch.ones(8, 2), torch.ones(8, dtype=torch.long)
    labels[0] = 0
    found = TIC(estimator)(model, "cross_entropy", (inputs, labels), train_loss=0.0, n=1)
    assert 1e5 < found.bias < math.inf


def test_the_gauge_is_the_relative_movement_and_can_be_resumed() -> None:
    model = nn.Linear(3, 2)
    gauge = RegimeGauge(model)
    assert gauge(model) == 0
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.25)
    assert gauge(model) == pytest.approx(0.25)
    assert RegimeGauge(model, gauge.state())(model) == pytest.approx(0.25)
    found = TIC()(
        model, "squared_error", (torch.randn(8, 3), torch.randn(8, 2)), train_loss=0.1, n=8, gauge=gauge
    )
    assert found.movement == pytest.approx(0.25)
    assert found.metrics().keys() == {"tic_bias", "tic_error", "predicted_loss", "movement"}


def test_a_prediction_reports_itself_to_a_trial() -> None:
    class Trial:
        def __init__(self) -> None:
            self.values: dict[int, float] = {}
            self.attributes: dict[str, object] = {}

        def report(self, value: float, step: int) -> None:
            self.values[step] = value

        def set_user_attr(self, key: str, value: object) -> None:
            self.attributes[key] = value

    trial = Trial()
    Prediction(0.5, 0.25, 0.1, 0.3).report(trial, 4)
    assert trial.values == {4: 0.75}
    assert trial.attributes == {attribute(4): {"bias": 0.25, "error": 0.1, "movement": 0.3}}


# -- what it refuses -----------------------------------------------------------------------------------------


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale if x.sum().item() > 0 else -x * self.scale


@pytest.mark.parametrize(
    ("model", "loss", "samples", "words"),
    [
        (nn.Linear(3, 2), "cross_entropy", 3, "a batch of 3 samples; expected at least 4"),
        (nn.Linear(3, 2), "hinge", 8, "expected 'cross_entropy'"),
        (nn.Linear(3, 2), nn.CrossEntropyLoss(label_smoothing=0.1), 8, "smoothing"),
        (
            nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 2)),
            "cross_entropy",
            8,
            "0 is a BatchNorm",
        ),
        (
            nn.Linear(3, 2).requires_grad_(False),
            "cross_entropy",
            8,
            "no parameter of Linear requires a gradient",
        ),
        (Branching(), "cross_entropy", 8, "Branching has an operation without per-sample gradients"),
    ],
)
def test_what_cannot_be_handled_is_named_in_one_line(
    model: nn.Module, loss: object, samples: int, words: str
) -> None:
    with pytest.raises(InputError, match=words) as error:
        bias(TIC(), model, loss, (torch.rand(samples, 3), torch.randint(2, (samples,))))
    assert "\n" not in str(error.value)


def test_exact_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="'exact' with 10100 parameters; expected at most 5000"):
        bias(TIC("exact"), nn.Linear(100, 100), "squared_error", (torch.randn(8, 100), torch.randn(8, 100)))


def test_a_model_that_diverged_is_told_apart() -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.fill_(math.nan)
    with pytest.raises(NonFiniteGradients):
        bias(TIC(), model, "cross_entropy", (torch.randn(8, 3), torch.randint(2, (8,))))


@pytest.mark.parametrize(
    "setting",
    [{"estimator": "full"}, {"damping": 0.0}, {"scale": "n"}, {"fisher": 0}, {"splits": -1}, {"path": "x"}],
)
def test_settings_out_of_range_are_named(setting: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"tic: {next(iter(setting))}"):
        TIC(**setting)  # type: ignore[arg-type]


def test_every_part_goes_back_into_its_own_mode_also_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    model[2].eval()
    batch = torch.randn(8, 3), torch.randint(2, (8,))
    seen: list[bool] = []
    model[1].register_forward_hook(lambda layer, *_: seen.append(layer.training))
    TIC("trace")(model, "cross_entropy", batch, train_loss=0.0, n=8)
    assert seen and not any(seen)
    with pytest.raises(NonFiniteGradients):
        TIC("trace")(model, "cross_entropy", (batch[0] * float("inf"), batch[1]), train_loss=0.0, n=8)
    assert [part.training for part in model.modules()] == [True, True, True, False]


@pytest.mark.parametrize("likelihood", [CrossEntropy(), SquaredError()])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_slopes_are_those_of_the_targets_and_of_samples_drawn_one_after_the_other(
    likelihood: Likelihood, shape: tuple[int, ...]
) -> None:
    outputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    targets = outputs.argmax(1) if isinstance(likelihood, CrossEntropy) else torch.zeros(shape)
    before = outputs.clone()
    found = likelihood.slopes(outputs, targets, torch.Generator().manual_seed(2), 3)
    generator = torch.Generator().manual_seed(2)
    labels = [targets, *(likelihood.sample(outputs, generator) for _ in range(3))]
    for slope, drawn in zip(found, labels, strict=True):
        assert torch.allclose(slope, Likelihood.slope(likelihood, outputs, drawn), atol=1e-6)  # by autograd
    assert torch.equal(outputs, before)
