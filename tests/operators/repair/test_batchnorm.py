import torch
from torch import nn

from operators.repair import recalibrate
from operators.testing.toys import ToyNet, toy_batches


def hidden(model, images):
    return model.conv(images).transpose(0, 1).flatten(1)


def test_statistics_are_those_of_the_batch():
    model, (images, labels) = ToyNet(), toy_batches(1, 16)[0]
    model.norm.running_mean.fill_(7)
    assert recalibrate(model, [(images, labels)]) == 1
    torch.testing.assert_close(
        model.norm.running_mean, hidden(model, images).mean(dim=1), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(model.norm.running_var, hidden(model, images).var(dim=1), rtol=1e-4, atol=1e-6)


def test_batches_are_averaged_and_limited():
    model, batches = ToyNet(), toy_batches(4)
    assert recalibrate(model, iter(batches), limit=3) == 3
    means = torch.stack([hidden(model, images).mean(dim=1) for images, _ in batches[:3]])
    torch.testing.assert_close(model.norm.running_mean, means.mean(dim=0), rtol=1e-4, atol=1e-6)
    assert model.norm.num_batches_tracked == 3


def test_deeper_layers_see_recalibrated_inputs_only_through_their_own_batch():
    """In train mode a BatchNorm normalises by the batch, so two layers need one pass, and a second one
    changes nothing.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.9), nn.Linear(8, 8), nn.BatchNorm1d(8)
    )
    batches = [(torch.randn(32, 4), torch.zeros(32)) for _ in range(3)]
    recalibrate(model, batches)
    first = {name: buffer.clone() for name, buffer in model.named_buffers()}
    recalibrate(model, batches)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, first[name])


def test_modes_momenta_and_weights_come_back():
    model = ToyNet().train()
    model.head.eval()
    model.norm.momentum = 0.3
    before = [p.clone() for p in model.parameters()]
    recalibrate(model, toy_batches())
    assert model.training
    assert model.norm.training
    assert not model.head.training
    assert model.norm.momentum == 0.3
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(model.parameters(), before, strict=True))
    assert not ToyNet().requires_grad_(False).norm.weight.requires_grad


def test_without_batches_nothing_changes():
    model = ToyNet()
    model.norm.running_mean.fill_(7)
    assert recalibrate(model, []) == 0
    assert recalibrate(model, toy_batches(), limit=0) == 0
    assert recalibrate(model, toy_batches(3, 1)) == 0  # single samples
    assert (model.norm.running_mean == 7).all()


def test_single_samples_are_passed_over():
    batches = toy_batches(2)
    model, other = ToyNet(), ToyNet()
    other.load_state_dict(model.state_dict())
    recalibrate(model, [(batches[0][0][:1], batches[0][1][:1]), *batches])
    recalibrate(other, batches)
    assert torch.equal(model.norm.running_mean, other.norm.running_mean)


def test_models_without_batchnorm_draw_no_batch():
    def never():
        raise AssertionError("a batch was drawn")
        yield

    assert (
        recalibrate(
            nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.BatchNorm1d(2, track_running_stats=False)),
            never(),
        )
        == 0
    )


def test_modes_come_back_after_an_error():
    model = ToyNet().train()
    try:
        recalibrate(model, [(torch.randn(4, 3, 5, 5), torch.zeros(4))])
    except RuntimeError:
        assert model.norm.training
        assert model.norm.momentum == 0.1
    else:
        raise AssertionError("the model took images of three channels")
