"""The networks of the tasks. They augment every batch while they are trained, since they would overfit the
few images otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.cells import CellStack, SkipUNet


class AugmentedStack(CellStack):
    """A stack of cells that shifts its images and adds noise while it is trained.

    Without it a supernet overfits its few hundred images within twenty epochs. Convolutions, which fit them,
    then count less on held-out images than skips and poolings, which have nothing to fit: the
    collapse of DARTS, for which Zela et al. (2020) name augmentation as a remedy. Search and retraining
    augment alike.

    Args:
        shift: largest shift along either axis, in pixels; the border is filled with `background`.
        noise: standard deviation.
        background: grey value.
        settings: of :class:`CellStack`.
    """

    hollow = True

    def __init__(self, shift: int, noise: float, background: float, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.shift, self.noise, self.background = shift, noise, background

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, 1, height, width)`` to logits ``(batch, classes)``."""
        return super().forward(self.augmented(x) if self.training else x)

    def augmented(self, x: Tensor) -> Tensor:
        """Return the images, each moved by its own shift, with torch's random numbers."""
        n, _, height, width = x.shape
        padded = F.pad(x, (self.shift,) * 4, value=self.background)
        down, aside = torch.randint(0, 2 * self.shift + 1, (2, n, 1, 1))
        rows, columns = torch.arange(height)[:, None] + down, torch.arange(width) + aside
        moved = padded[torch.arange(n)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
        return moved + self.noise * torch.randn_like(moved)


class AugmentedUNet(SkipUNet):
    """A U-Net that rotates and mirrors a batch while it is trained, and rotates and mirrors its outputs back,
    so that labels stay as they are.

    Without it the search of seed 101 ended with skips and poolings, worse than its own cell of epoch 20 (Dice
    .661 and .680).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, 1, size, size)`` to logits ``(batch, classes, size, size)``."""
        if not self.training:
            return super().forward(x)
        turns, mirrored = int(torch.randint(0, 4, ())), float(torch.rand(())) < 0.5
        turned = torch.rot90(x.flip(3) if mirrored else x, turns, (2, 3))
        back = torch.rot90(super().forward(turned), -turns, (2, 3))
        return back.flip(3) if mirrored else back
