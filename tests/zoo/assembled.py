"""Convolutional models whose difficulty is in how parts are put together: pieces, shapes, modules used twice,
raw parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.convolutional import head


class SuperResolution(nn.Module):
    """PixelShuffle, and its reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.a, self.b, self.c = (
            nn.Conv2d(12, 16, 3, padding=1),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.Conv2d(6, 3, 3, padding=1),
        )
        self.unfold = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.unfold(self.b(F.relu(self.a(self.fold(x)))))))


class Pieces(nn.Module):
    """Split, chunk, items and joins in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(4, 6, 1), nn.Conv2d(18, 10, 1)
        self.e = nn.Conv2d(10, 8, 1)
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three = torch.chunk(self.a(x), 3, dim=1)
        left = self.b(x)[:, : self.b.out_channels // 2]
        right = self.b(x)[:, self.b.out_channels // 2 :]
        y = torch.cat([three, self.c(left * torch.sigmoid(right)), one, two], 1)
        return self.head(self.e(F.relu(self.d(y))))


class Unflattened(nn.Module):
    """Flatten with a factor, and back to channels and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.encode, self.back = nn.Linear(6 * 16, 12), nn.Linear(12, 5 * 16)
        self.unflatten = nn.Unflatten(1, (5, 4, 4))
        self.up = nn.ConvTranspose2d(5, 3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        code = F.relu(self.encode(F.relu(self.conv(x)).flatten(1)))
        return self.up(F.relu(self.unflatten(self.back(code))))


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class C2f(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.c = outputs // 2
        self.cv1, self.cv2 = Conv(inputs, 2 * self.c), Conv(4 * self.c, outputs)
        self.m = nn.ModuleList(
            nn.Sequential(Conv(self.c, self.c, 3), Conv(self.c, self.c, 3)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.c, self.c), 1))
        for m in self.m:
            y.append(y[-1] + m(y[-1]))
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(width, width // 2), Conv(2 * width, width)
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        y = self.pool(x)
        z = self.pool(y)
        return self.cv2(torch.cat((x, y, z, self.pool(z)), 1))


class Yolo(nn.Module):
    """C2f and SPPF blocks, outputs of two scales, boxes and classes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.c2f, self.down, self.sppf = (
            Conv(3, 8, 3),
            C2f(8, 8),
            nn.Conv2d(8, 12, 3, 2, 1),
            SPPF(12),
        )
        self.lateral = C2f(20, 8)
        self.boxes, self.classes = (
            nn.ModuleList([nn.Conv2d(8, 4, 1), nn.Conv2d(12, 4, 1)]),
            nn.ModuleList([nn.Conv2d(8, 3, 1), nn.Conv2d(12, 3, 1)]),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        fine = self.c2f(self.stem(x))
        coarse = self.sppf(self.down(fine))
        fine = self.lateral(torch.cat([F.interpolate(coarse, scale_factor=2, mode="nearest"), fine], 1))
        return tuple(
            torch.cat([self.boxes[i](y), self.classes[i](y)], 1).flatten(2)
            for i, y in enumerate((fine, coarse))
        )


class ConvGRU(nn.Module):
    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.z, self.r, self.q = (nn.Conv2d(hidden + inputs, hidden, 3, padding=1) for _ in range(3))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([h, x], 1)
        z, r = torch.sigmoid(self.z(both)), torch.sigmoid(self.r(both))
        q = torch.tanh(self.q(torch.cat([r * h, x], 1)))
        return (1 - z) * h + z * q


class Refinement(nn.Module):
    """Stereo as RAFT does it: one encoder for two images, a shared ConvGRU refines a detached estimate."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1))
        self.context = nn.Conv2d(3, 14, 3, padding=1)
        self.motion = nn.Conv2d(7, 6, 3, padding=1)
        self.gru = ConvGRU(8, 12)
        self.flow = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 1, 3, padding=1))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        correlation = self.features(left) * self.features(right)
        hidden, context = torch.split(self.context(left), [8, 6], dim=1)
        hidden, context = torch.tanh(hidden), torch.relu(context)
        disparity = torch.zeros_like(left[:, :1])
        for _ in range(2):
            disparity = disparity.detach()
            motion = F.relu(self.motion(torch.cat([correlation, disparity], 1)))
            hidden = self.gru(hidden, torch.cat([context, motion], 1))
            disparity = disparity + self.flow(hidden)
        return disparity


class Autoencoder(nn.Module):
    """Down to a code and up again, one-dimensional."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(2, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv1d(8, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48, 6),
        )
        self.decoder = nn.Sequential(
            nn.Linear(6, 48),
            nn.ReLU(),
            nn.Unflatten(1, (12, 4)),
            nn.ConvTranspose1d(12, 8, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose1d(8, 2, 2, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Twice(nn.Module):
    """Modules used twice and under two names, detach, frozen parameters, a block without gradients, a buffer
    of the layer's width.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.shared
        self.frozen = nn.Conv2d(8, 6, 1).requires_grad_(False)
        self.register_buffer("scale", torch.rand(6, 1, 1) + 0.5)
        self.head = head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.shared(x)) + self.again(x)
        with torch.no_grad():
            y = torch.tanh(x)
        x = x + y + torch.sigmoid(x).detach()
        return self.head(F.relu(self.frozen(x)) * self.scale)


class Functional(nn.Module):
    """Convolutions and a product on raw parameters, a weight that is computed of two."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.bias = nn.Parameter(torch.randn(8))
        self.second = nn.Parameter(torch.randn(6, 8, 1, 1) * 0.3)
        self.gain = nn.Parameter(torch.rand(6, 1, 1, 1) + 0.5)
        self.out = nn.Parameter(torch.randn(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.first, self.bias, padding=1))
        x = F.relu(F.conv2d(x, self.second * self.gain))
        return x.mean((2, 3)) @ self.out


class WeightNormed(nn.Module):
    """Weights by parametrisation: norms of their rows."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Linear(6, 12))
        self.b = nn.utils.parametrizations.weight_norm(nn.Linear(12, 10))
        self.c = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


class Bfloat(nn.Module):
    """Weights and activations in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
        )
        self.head = head(8)
        self.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x.to(torch.bfloat16))).float()
