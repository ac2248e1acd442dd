"""Convolutional models of a few thousand parameters, one of each kind that people bring. Written as people write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def head(width: int, classes: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class Plain(nn.Module):
    """Convolutions in a row, max pooling, flatten into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ELU(True)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(12 * 16, 10), nn.Dropout(0.1), nn.LeakyReLU(), nn.Linear(10, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + identity)


class ResNet(nn.Module):
    """Bottlenecks with projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.layers = nn.Sequential(Bottleneck(8, 4, 16, 1), Bottleneck(16, 4, 16, 1), Bottleneck(16, 6, 24, 2))
        self.head = head(24)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.stem(x)))


class PaddedResNet(nn.Module):
    """A shortcut that pads channels with zeros (option A of the ResNet paper)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b = nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return self.head(F.relu(self.b(F.relu(self.a(x))) + shortcut))


class DenseNet(nn.Module):
    """Every layer sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.head = head(10)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return self.head(self.transition(torch.cat(features, 1)))


class Inception(nn.Module):
    """Parallel branches of different kernels, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 6, 1)
        self.three = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(8, 4, 1))
        self.norm = nn.BatchNorm2d(18)
        self.head = head(18)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(self.norm(torch.cat([self.one(x), self.three(x), self.pooled(x)], dim=1))))


class Double(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Skips by concatenation, upsampling by transposed convolution and by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = Double(3, 6), Double(6, 8), Double(8, 12)
        self.up2, self.dec2 = nn.ConvTranspose2d(12, 8, 2, 2), Double(16, 8)
        self.dec1 = Double(14, 6)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.middle(F.max_pool2d(b, 2))
        y = self.dec2(torch.cat([self.up2(c), b], 1))
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(self.dec1(torch.cat([a, y], 1)))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.expand = nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
        )
        self.squeeze, self.excite = nn.Conv2d(hidden, 4, 1), nn.Conv2d(4, hidden, 1)
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        y = self.project(y * gate)
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """Inverted residuals: depthwise convolutions, squeeze-excite gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(InvertedResidual(8, 12, 8, 1), InvertedResidual(8, 16, 12, 2), InvertedResidual(12, 16, 12, 1))
        self.head = head(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return x.transpose(1, 2).contiguous().view(batch, -1, height, width)


class ShuffleNet(nn.Module):
    """Grouped 1x1 convolutions with a channel shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.squeeze = nn.Conv2d(12, 12, 1, groups=3)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.expand = nn.Conv2d(12, 12, 1, groups=3)
        self.head = head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = channel_shuffle(F.relu(self.squeeze(x)), 3)
        return self.head(F.relu(x + self.expand(self.depthwise(y))))


class ShuffleNetV2(nn.Module):
    """One half passes, the other is worked on, then both are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1))
        self.last = nn.Conv2d(16, 12, 1)
        self.head = head(12)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, dim=1)
        return self.head(F.relu(self.last(channel_shuffle(torch.cat((a, self.branch(b)), 1), 2))))


class ResNeXt(nn.Module):
    """A grouped convolution with more than one channel a group; one that widens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped, self.bn = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16)
        self.widening = nn.Conv2d(16, 24, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(24, 16, 2, 2, groups=4)
        self.head = head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.up(F.relu(self.widening(F.relu(x + self.bn(self.grouped(x)))))))


class Permuted(nn.Module):
    """ConvNeXt's block: LayerNorm over channels-last, layer scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.pwconv2(F.gelu(self.pwconv1(self.norm(y))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, 2)
        self.blocks = nn.Sequential(Permuted(8), Permuted(8))
        self.down = nn.Conv2d(8, 12, 2, 2)
        self.last = Permuted(12)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.last(self.down(self.blocks(self.stem(x)))).mean([-2, -1])))


class Normalised(nn.Module):
    """GroupNorm in groups of several channels and of all, InstanceNorm, one norm without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(3, 12)
        self.b, self.norm_b = nn.Conv2d(12, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True)
        self.c, self.norm_c = nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(1, 8)
        self.d, self.norm_d = nn.Conv2d(8, 6, 3, padding=1), nn.GroupNorm(6, 6)
        self.e, self.norm_e = nn.Conv2d(6, 8, 3, padding=1), nn.GroupNorm(2, 8, affine=False)
        self.f, self.norm_f = nn.Conv2d(8, 6, 3, padding=1), nn.InstanceNorm2d(6)
        self.head = head(6)

    def forward(self, x: Tensor) -> Tensor:
        for name in "abcdef":
            x = F.relu(getattr(self, f"norm_{name}")(getattr(self, name)(x)))
        return self.head(x)


class SuperResolution(nn.Module):
    """PixelShuffle, and its reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.a, self.b, self.c = nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)
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
        self.m = nn.ModuleList(nn.Sequential(Conv(self.c, self.c, 3), Conv(self.c, self.c, 3)) for _ in range(2))

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
        self.stem, self.c2f, self.down, self.sppf = Conv(3, 8, 3), C2f(8, 8), nn.Conv2d(8, 12, 3, 2, 1), SPPF(12)
        self.lateral = C2f(20, 8)
        self.boxes, self.classes = (
            nn.ModuleList([nn.Conv2d(8, 4, 1), nn.Conv2d(12, 4, 1)]),
            nn.ModuleList([nn.Conv2d(8, 3, 1), nn.Conv2d(12, 3, 1)]),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        fine = self.c2f(self.stem(x))
        coarse = self.sppf(self.down(fine))
        fine = self.lateral(torch.cat([F.interpolate(coarse, scale_factor=2, mode="nearest"), fine], 1))
        return tuple(torch.cat([self.boxes[i](y), self.classes[i](y)], 1).flatten(2) for i, y in enumerate((fine, coarse)))


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
            nn.Conv1d(2, 8, 3, 2, 1), nn.ReLU(), nn.Conv1d(8, 12, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 6)
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
    """Modules used twice and under two names, detach, frozen parameters, a block without gradients, a buffer of the layer's width."""

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
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = head(8)
        self.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x.to(torch.bfloat16))).float()
