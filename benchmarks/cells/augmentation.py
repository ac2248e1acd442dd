"""The network of the digits task: it sees every image a little aside and with new noise at every step of training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.cells import CellStack


class AugmentedStack(CellStack):
    """A stack of cells that shifts its images and adds noise while it is trained.

    Without it a supernet knows its few hundred images by heart after twenty epochs, and then convolutions, which have learned them, count
    less on held-out images than skips and poolings, which cannot: the collapse of DARTS, for which Zela et al. (2020) name augmentation as
    a remedy. Search and retraining see the same.

    Args:
        shift: largest, in pixels, of either axis; what comes in is `background`.
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
