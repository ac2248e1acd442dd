"""Pairs of an encoder and a decoder, and whether halves fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spaces.calling import Example, call, mode
from spaces.errors import InputError

HALVES = ("encoder", "decoder")
Latent = Tensor | tuple[Tensor, ...]


class Pair(nn.Module):
    """An encoder and a decoder in a row: ``decoder(encoder(*inputs))``. A tuple from the encoder becomes
    several arguments.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    @staticmethod
    def between(code: Latent) -> Latent:
        """Return what the decoder gets of an encoder's output in eval mode."""
        return code

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Map inputs ``(batch, ...)`` to whatever the decoder gives."""
        return decode(self.decoder, self.encoder(*inputs, **named))


class VariationalPair(Pair):
    """The encoder gives mean and log-variance; the decoder gets the mean, in training a sample.

    They come as two tensors ``(batch, latent, ...)``, or side by side in one, ``(batch, 2 x latent, ...)``.
    Latent units can be pruned as units only where there are two: tracing does not see through the division of
    one. Source: Kingma and Welling 2013 (arXiv 1312.6114): the reparametrisation trick. [P] Samples come from
    torch's generator.
    """

    @staticmethod
    def between(code: Latent) -> Latent:
        return VariationalPair.moments(code)[0]

    @staticmethod
    def moments(code: Latent) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, ``(batch, latent, ...)`` each.

        Raises:
            InputError: an encoder's output that holds no such two.
        """
        if isinstance(code, tuple) and len(code) == 2 and code[0].shape == code[1].shape:
            return code
        if isinstance(code, tuple) or code.ndim < 2 or code.shape[1] % 2:
            raise InputError(
                f"pair: a variational encoder gives {shapes(code)}; expected mean and log-variance, two "
                f"alike or (batch, 2 x latent, ...)"
            )
        mean, log_variance = code.chunk(2, 1)
        return mean, log_variance

    @staticmethod
    def draw(mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return a sample of the latent distribution, of the shape of `mean`, differentiable."""
        return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        mean, log_variance = self.moments(self.encoder(*inputs, **named))
        out: Tensor = self.decoder(self.draw(mean, log_variance) if self.training else mean)
        return out


def decode(decoder: nn.Module, latent: Latent) -> Any:
    """Call a decoder on what it gets; a tuple is several arguments."""
    return decoder(*latent) if isinstance(latent, tuple) else decoder(latent)


def between(model: nn.Module | None, code: Latent) -> Latent:
    """Return what the decoder of a pair gets of an encoder's output in eval mode; modules that are no
    :class:`Pair` hand it on.
    """
    return model.between(code) if isinstance(model, Pair) else code


def check_pair(model: nn.Module, example: Example) -> None:
    """Raise :class:`InputError` where a module is no pair, or where its halves do not fit each other; run on
    `example` in eval mode.
    """
    halves = [getattr(model, half, None) for half in HALVES]
    if not all(isinstance(half, nn.Module) for half in halves):
        children = ", ".join(name for name, _ in model.named_children()) or "none"
        raise InputError(
            f"space: {type(model).__name__} is no pair; expected children 'encoder' and 'decoder', there "
            f"are {children}"
        )
    encoder, decoder = halves
    with mode(model, False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        latent = between(model, _run(encoder, example, "encoder", f"the example {shapes(example)}"))
        arguments = latent if isinstance(latent, tuple) else (latent,)
        outputs = _run(decoder, arguments, "decoder", f"what the encoder gives, {shapes(latent)}")
        whole = call(model, example)
    if isinstance(outputs, Tensor) and not (
        outputs.shape == whole.shape and torch.allclose(outputs, whole, atol=1e-4, equal_nan=True)
    ):
        raise InputError(
            f"space: {type(model).__name__}.forward is not decoder(encoder(*inputs)); expected that, as in "
            f"spaces.Pair"
        )


def shapes(values: Any) -> str:
    """Return the shapes of one tensor or of several, for people."""
    if isinstance(values, Tensor):
        return str(tuple(values.shape))
    if isinstance(values, Mapping):
        return " and ".join(f"{name} {shapes(value)}" for name, value in values.items())
    return (
        " and ".join(shapes(value) for value in values)
        if isinstance(values, tuple | list)
        else type(values).__name__
    )


def _run(half: Any, arguments: Example, name: str, given: str) -> Any:
    """Run a half; what it cannot take is told with the layer that stumbled."""
    entered: list[str] = []
    handles = [
        module.register_forward_pre_hook(
            lambda module, inputs, path=path: entered.append(
                f"{path or name} = {module} got {shapes(inputs)}"
            )
        )
        for path, module in half.named_modules(prefix=name)
        if not any(True for _ in module.children())
    ]
    try:
        return call(half, arguments)
    except InputError:
        raise
    except Exception as error:
        at = (
            f"; {' '.join(entered[-1].split())}"
            if entered
            else f": {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        )
        raise InputError(f"pair: the {name} does not take {given}{at}") from error
    finally:
        for handle in handles:
            handle.remove()
