"""Generated heart-like images: a segmentation task that needs no files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluators.data.arrays import Arrays
from evaluators.data.base import SPLITS, Split
from evaluators.data.segmentation import Segmentation
from spaces.errors import require

SAMPLES: dict[Split, int] = {"train": 240, "calibration": 48, "search": 120, "test": 120}
RIGHT, WALL, CAVITY = 1, 2, 3
"""The labels, numbered as in ACDC: right ventricle, myocardium, left ventricle's cavity."""


class Phantoms(Arrays):
    """Short-axis hearts: a ring of muscle around a cavity, a crescent at its side, and what looks alike and
    is none of them. [O]

    Images are float32 ``(1, size, size)`` of zero mean and unit variance each, labels int64 ``(size, size)``,
    0 .. 3. Both ventricles have blood of one brightness, and so do round vessels elsewhere, some with a wall
    of their own: a pixel is told by what surrounds it, in the large and in the small, so detail from a skip
    connection counts. Position, turn, form, brightness, a texture a tissue, a smooth bias field, blur and
    noise differ from image to image.

    Args:
        size: of a side in pixels, at least 16.
        samples: images in each split; those not named keep the default (240, 48, 120, 120).
        difficulty: 0 (clean and of high contrast, nothing that misleads) to 1 (noise as large as the
            contrast, strong bias).
        seed: of all images; every split has its own numbers, so another size of one leaves the others as they
            are.

    Raises:
        InputError: a size, a number of samples or a difficulty out of its range.
    """

    def __init__(
        self,
        size: int = 64,
        samples: Mapping[Split, int] | None = None,
        difficulty: float = 0.5,
        seed: int = 0,
    ) -> None:
        counts = {**SAMPLES, **(samples or {})}
        wrong = next(
            (f"{split}: {count}" for split, count in counts.items() if split not in SPLITS or count < 1), None
        )
        require(
            "data",
            (size >= 16, f"size {size}; expected at least 16 pixels"),
            (0 <= difficulty <= 1, f"difficulty {difficulty}; expected a number of 0 to 1"),
            (not wrong, f"samples {wrong}; expected at least 1 for any of {', '.join(SPLITS)}"),
        )
        streams = dict(zip(SPLITS, np.random.SeedSequence(seed).spawn(len(SPLITS)), strict=True))
        drawn = [
            draw_hearts(counts[split], size, difficulty, np.random.default_rng(streams[split]))
            for split in SPLITS
        ]
        images, labels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        edges = np.cumsum([0, *(counts[split] for split in SPLITS)])
        rows = {split: np.arange(a, b) for split, a, b in zip(SPLITS, edges, edges[1:], strict=False)}
        super().__init__(images, labels, rows, Segmentation(4), seed)  # type: ignore[arg-type]


def draw_hearts(
    n: int, size: int, difficulty: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` images ``(n, 1, size, size)``, float32, and their labels ``(n, size, size)``, int64."""
    from scipy.ndimage import gaussian_filter  # a tenth of a second that other data need not pay

    def between(low: float, high: float, *more: int) -> np.ndarray:
        return rng.uniform(low, high, (n, *more, 1, 1)).astype(np.float32)

    def smooth(sigma: float) -> np.ndarray:
        """Return fields of zero mean and unit variance, smooth over `sigma` pixels."""
        field = gaussian_filter(
            rng.normal(size=(n, size, size)).astype(np.float32), (0, sigma, sigma), mode="wrap"
        )
        return field / field.std(axis=(1, 2), keepdims=True)

    y, x = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 2, indexing="ij")
    centre = between(-0.25, 0.25, 2)
    x, y = x - centre[:, 0], y - centre[:, 1]
    turn, squeeze = between(0, 2 * np.pi), between(0.85, 1.0)
    along, across = (
        (x * np.cos(turn) + y * np.sin(turn)) / squeeze,
        (y * np.cos(turn) - x * np.sin(turn)) * squeeze,
    )
    radius, angle = np.hypot(along, across), np.arctan2(across, along)
    wave = sum(between(0, 0.07) * np.cos(k * angle + between(0, 2 * np.pi)) for k in (2, 3, 4))
    outer = between(0.34, 0.54)
    inner = (
        outer
        * between(0.55, 0.78)
        * (1 + sum(between(0, 0.09) * np.cos(k * angle + between(0, 2 * np.pi)) for k in (2, 3, 5)))
    )
    inner = np.minimum(
        inner, outer * (1 + wave) - 4 / size
    )  # the wall is a pixel thick everywhere, so the cavity touches nothing else
    heart, cavity = radius < outer * (1 + wave), radius < inner
    crescent = np.hypot(
        (along - outer * between(0.65, 0.95)) / between(0.75, 0.95),
        (across - outer * between(-0.2, 0.2)) / between(0.9, 1.25),
    )
    right = (crescent < outer) & ~heart
    labels = np.where(right, RIGHT, np.where(heart & ~cavity, WALL, np.where(heart & cavity, CAVITY, 0)))

    contrast = 1 - 0.4 * difficulty
    blood, muscle, ground = (
        0.5 + contrast * between(0.25, 0.5),
        0.5 - contrast * between(0.05, 0.25),
        between(0.2, 0.6),
    )
    image = ground + 0.16 * smooth(size / 10)
    for number in range(4):  # vessels: blood of the same brightness, walls of the same muscle, elsewhere
        apart, where, wide = between(0.85, 1.25), between(0, 2 * np.pi), between(0.08, 0.2)
        far = np.hypot(x - apart * np.cos(where), y - apart * np.sin(where))
        there = rng.random((n, 1, 1)) < difficulty * (1.0 if number < 2 else 0.6)
        image = np.where(there & (far < wide * (1.6 if number % 2 else 1.0)), muscle, image)
        image = np.where(there & (far < wide), blood, image)
    image = np.where((labels == RIGHT) | (labels == CAVITY), blood, np.where(labels == WALL, muscle, image))
    papillary = np.hypot(
        radius - inner * 0.7, outer * (np.abs(np.angle(np.exp(1j * (angle - turn)))) - between(0.5, 1.5))
    )
    image = np.where(
        (labels == CAVITY) & (papillary < outer * 0.16 * difficulty), muscle, image
    )  # belongs to the cavity, as in ACDC
    image = image + 0.08 * (1 + difficulty) * np.where(labels == WALL, smooth(1.0), smooth(2.0))
    image = gaussian_filter(image.astype(np.float32), (0, size / 80, size / 80))
    image = image * np.exp(0.5 * difficulty * smooth(size / 4)) + (0.03 + 0.16 * difficulty) * rng.normal(
        size=image.shape
    )
    image = image - image.mean(axis=(1, 2), keepdims=True)
    image = image / image.std(axis=(1, 2), keepdims=True)
    return image[:, None].astype(np.float32), labels.astype(np.int64)
