"""A Gaussian process over genomes: what earlier results say of those that were not evaluated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spaces.lazy import LazyModule

linalg: Any = LazyModule("scipy.linalg")
optimize: Any = LazyModule("scipy.optimize")

_JITTER, _LEAST = 1e-8, 1e-12
_SCALE_RANGE, _VARIANCE_RANGE, _NOISE_RANGE = (-3.0, 5.0), (-3.0, 3.0), (-7.0, 0.0)


class GaussianProcess:
    """Regression with a Matérn 5/2 kernel (Rasmussen and Williams 2006 [P]) with a length scale for every
    locus.

    The distance of two alleles of an ordered locus is that of their positions, 1 from the first to the last;
    any two alleles of another locus are 1 apart. Scales, variance and noise maximise the posterior: their
    logarithms are normal, those of the scales around the same value, so that few results cannot let a locus
    vanish (as in Hvarfner et al. 2024 [P], the value grows with the root of the number of loci).

    scikit-learn's regressor has no distance for categories, no priors and no prediction of what is to be
    asked beside what was told, so this is our own.

    Args:
        choices: alleles of every locus, ``(length,)``.
        ordered: whether its alleles have an order, bool ``(length,)``.
        spread: variance of the logarithms of the scales.
        steps: of the optimiser, each time the hyper-parameters are fitted.

    Attributes:
        theta: logarithms of the scales, of the function's standard deviation and of the noise's, in this
            order, ``(length + 2,)``.
    """

    def __init__(
        self, choices: np.ndarray, ordered: np.ndarray, spread: float = 0.1, steps: int = 15
    ) -> None:
        self._choices, self._ordered = choices.astype(int), ordered
        self._centre = math.log(0.5) + 0.5 * math.log(len(choices))
        self.spread, self.steps = spread, steps
        self.theta = np.r_[np.full(len(choices), self._centre), 0.0, -3.0]
        # which locus a column of the embedding belongs to
        self._locus = np.repeat(np.arange(len(choices)), np.where(ordered, 1, self._choices))

    @property
    def variance(self) -> float:
        """Of the function, before anything is known."""
        return math.exp(2 * float(self.theta[-2]))

    @property
    def noise(self) -> float:
        """Variance of what neighbours do not tell of a genome."""
        return math.exp(2 * float(self.theta[-1]))

    def embed(self, genomes: np.ndarray) -> np.ndarray:
        """Return points ``(n, d)`` of genomes ``(n, length)``, whose squared distances are sums over loci."""
        columns = [
            genomes[:, [locus]] / (choices - 1)
            if ordered
            else np.eye(choices)[genomes[:, locus]] / math.sqrt(2)
            for locus, (choices, ordered) in enumerate(zip(self._choices, self._ordered, strict=True))
        ]
        return np.concatenate(columns, axis=1)

    def fit(self, points: np.ndarray, values: np.ndarray) -> None:
        """Find the hyper-parameters for values ``(n,)`` of points ``(n, d)``, from those of the last time."""
        squares = np.stack(
            [
                _squared(part, part)
                for part in (points[:, self._locus == k] for k in range(len(self._choices)))
            ]
        )
        bounds = [_SCALE_RANGE] * len(self._choices) + [_VARIANCE_RANGE, _NOISE_RANGE]
        found = optimize.minimize(
            self._loss,
            self.theta,
            args=(squares, values),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": self.steps},
        )
        self.theta = found.x

    def condition(self, points: np.ndarray, values: np.ndarray, pending: np.ndarray) -> None:
        """Learn values ``(n,)`` of points ``(n, d)``.

        Args:
            points: what was told.
            values: its values.
            pending: points ``(p, d)`` whose values will come: nothing is gained by asking beside them
                (Desautels et al. 2014 [P]).
        """
        self.points = np.concatenate([points, pending])
        covariance = self.covariance(self.points, self.points)
        covariance.flat[:: len(covariance) + 1] += self.noise + _JITTER
        self.root = linalg.cholesky(covariance, lower=True, check_finite=False)
        told = len(points)
        self.weights = linalg.cho_solve((self.root[:told, :told], True), values, check_finite=False)

    def predict(self, points: np.ndarray) -> Prediction:
        """Predict what evaluations at points ``(m, d)`` would give."""
        return Prediction(self, points)

    def covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the prior covariance ``(n, m)`` of points ``(n, d)`` and ``(m, d)``."""
        scales = np.exp(-self.theta[self._locus])
        distance = np.sqrt(5 * _squared(a * scales, b * scales))
        return self.variance * (1 + distance + distance**2 / 3) * np.exp(-distance)

    def _loss(self, theta: np.ndarray, squares: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the negative logarithm of the posterior density of hyper-parameters, and its gradient."""
        n, loci = len(values), len(squares)
        weights, variance, noise = np.exp(-2 * theta[:loci]), math.exp(2 * theta[-2]), math.exp(2 * theta[-1])
        distance = np.sqrt(5 * np.tensordot(weights, squares, 1))
        decay = np.exp(-distance)
        covariance = variance * (1 + distance + distance**2 / 3) * decay
        total = covariance.copy()
        total.flat[:: n + 1] += noise + _JITTER
        root, failed = linalg.lapack.dpotrf(total, lower=1)
        if failed:
            return 1e10, np.zeros_like(theta)
        inverse, _ = linalg.lapack.dpotri(root, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        alpha = inverse @ values
        centres = np.r_[np.full(loci, self._centre), 0.0, -4.0]
        spreads = np.r_[np.full(loci, self.spread), 1.0, 1.0]
        loss = (
            0.5 * values @ alpha
            + np.log(np.diag(root)).sum()
            + 0.5 * ((theta - centres) ** 2 / spreads).sum()
        )
        slope = inverse - np.outer(alpha, alpha)  # twice the derivative by the covariance
        by_distance = slope * (-5 / 6 * variance * (1 + distance) * decay)
        gradient = np.r_[
            -weights * (squares.reshape(loci, -1) @ by_distance.ravel()),
            (slope * covariance).sum(),
            np.trace(slope) * noise,
        ]
        return float(loss), gradient + (theta - centres) / spreads


class Prediction:
    """Of a conditioned process, at some points.

    Attributes:
        means: ``(m,)``.
        variances: ``(m,)``, the noise included.
    """

    def __init__(self, process: GaussianProcess, points: np.ndarray) -> None:
        self._process, self._points = process, points
        covariance = process.covariance(points, process.points)
        self.means = covariance[:, : len(process.weights)] @ process.weights
        self._shared = linalg.solve_triangular(process.root, covariance.T, lower=True, check_finite=False)
        explained = np.einsum("nm,nm->m", self._shared, self._shared)
        self.variances = np.maximum(process.variance - explained, _LEAST) + process.noise

    def believe(self, row: int) -> None:
        """Let one of the points be known to have its expected value: the variances of its neighbours fall."""
        process, points = self._process, self._points
        common = process.covariance(points[[row]], points)[0] - self._shared[:, row] @ self._shared
        fall = common / math.sqrt(self.variances[row] + _JITTER)
        self._shared = np.vstack([self._shared, fall])
        self.variances = np.maximum(self.variances - fall**2, _LEAST + process.noise)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared distances of rows, ``(n, m)``."""
    return np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T, 0.0)
