"""What may stand on an edge of a cell: DARTS' eight operations, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from spaces.allowed import imported
from spaces.errors import InputError

NONE = "none"
"""The operation that gives nothing. It takes part in the mixture, and is never what an edge ends with."""

Make = Callable[[int, int, bool], nn.Module]
"""``make(channels, stride, affine)``: a module from ``(batch, channels, h, w)`` to
``(batch, channels, h / stride, w / stride)``.
"""


class SeparableConvolution(nn.Sequential):
    """ReLU, depthwise and pointwise convolution, BatchNorm, twice; the stride is in the first
    half. [P] DARTS
    """

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        layers: list[nn.Module] = []
        for step in (stride, 1):
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels, affine=affine),
            ]
        super().__init__(*layers)


class DilatedConvolution(nn.Sequential):
    """ReLU, depthwise convolution with dilation 2, pointwise convolution, BatchNorm. [P] DARTS"""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(
                channels, channels, kernel, stride, kernel - 1, dilation=2, groups=channels, bias=False
            ),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class FactorizedReduction(nn.Module):
    """ReLU, two pointwise convolutions of stride 2, the second a pixel aside, joined; BatchNorm. [P] DARTS

    An odd height or width is rounded up, as by the other operations of stride 2.
    """

    def __init__(self, inputs: int, channels: int, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, channels // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, channels - channels // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, inputs, h, w)`` to ``(batch, channels, ceil(h / 2), ceil(w / 2))``."""
        x = torch.relu(x)
        aside = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(aside)], 1))


def _max_pooling(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(3, stride, 1), nn.BatchNorm2d(channels, affine=affine))


def _average_pooling(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.AvgPool2d(3, stride, 1, count_include_pad=False), nn.BatchNorm2d(channels, affine=affine)
    )


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduction(channels, channels, affine)


def _separable(kernel: int, channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConvolution(channels, kernel, stride, affine)


def _dilated(kernel: int, channels: int, stride: int, affine: bool) -> nn.Module:
    return DilatedConvolution(channels, kernel, stride, affine)


OPERATIONS: dict[str, Make] = {
    "max_pool_3": _max_pooling,
    "avg_pool_3": _average_pooling,
    "skip": _skip,
    "sep_conv_3": partial(_separable, 3),
    "sep_conv_5": partial(_separable, 5),
    "dil_conv_3": partial(_dilated, 3),
    "dil_conv_5": partial(_dilated, 5),
}
"""DARTS' operations [P] (Liu et al. 2019) but for ``none``, which has no module. Poolings are followed by
BatchNorm, as there.
"""

DARTS: tuple[str, ...] = (NONE, *OPERATIONS)
"""The eight names, in DARTS' order."""


class Operations:
    """The operations of a search by their names, each tried once on small inputs.

    Args:
        names: of :data:`OPERATIONS`, ``none``, or a ``class_path`` (``my_file.MyOperation``) of a class or
            function that is called with ``(channels, stride, affine)`` and returns a module; it goes by the
            last part of its path. At least two but ``none``.
        strides: that edges may have.
        place: where it stands in the config, for messages.

    Raises:
        InputError: a name that is not known, a class that does not import or cannot be made, an operation
            that changes the resolution or the number of channels where it may not.
    """

    def __init__(
        self, names: Sequence[str], strides: Sequence[int] = (1,), place: str = "space: operations"
    ) -> None:
        self.paths = tuple(names)
        self.makers: dict[str, Make] = {}
        self.has_none = NONE in names
        for path in names:
            name = path.rpartition(".")[2]
            if name in self.makers or (path == NONE and names.count(NONE) > 1):
                raise InputError(f"{place}: {name!r} stands there twice; expected every operation once")
            if path != NONE:
                self.makers[name] = _make(path, place)
        if not 2 <= len(self.makers) <= 254:
            raise InputError(
                f"{place}: {len(self.makers)} operation(s) besides none; expected 2 to 254 of "
                f"{', '.join(OPERATIONS)}"
            )
        for name in self.makers:
            for stride in strides:
                self._try(name, stride, place)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them but ``none``, in the order given."""
        return tuple(self.makers)

    def make(self, name: str, channels: int, stride: int = 1, affine: bool = True) -> nn.Module:
        """Return a new module with weights from torch's generator."""
        return self.makers[name](channels, stride, affine)

    def _try(self, name: str, stride: int, place: str) -> None:
        """Run an operation: what it does to a shape is known then, not assumed."""
        x = torch.zeros(2, 4, 8, 8)
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                y = self.makers[name](4, stride, True)(x)
        except Exception as error:
            text = " ".join(str(error).split())
            raise InputError(
                f"{place}: {name} at stride {stride} on 4 channels: {type(error).__name__}: {text}"
            ) from None
        wanted = (2, 4, 8 // stride, 8 // stride)
        if not isinstance(y, Tensor) or tuple(y.shape) != wanted:
            found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise InputError(
                f"{place}: {name} makes {found} of (2, 4, 8, 8) on an edge of stride {stride}; expected "
                f"{wanted}"
            )


def _make(path: str, place: str) -> Make:
    if path in OPERATIONS:
        return OPERATIONS[path]
    if "." not in path:
        raise InputError(
            f"{place}: no operation {path!r}; expected a class_path, or one of {', '.join(DARTS)}"
        )
    return imported(path, place, nn.Module)
