"""Factors of kinds are found again, and what cannot be told apart is not guessed."""

import numpy as np
import pytest

from evaluators.cost.predicted.fit import REST, Fit


def parts(n=24):
    rng = np.random.default_rng(0)
    return {
        "Conv": rng.uniform(1, 4, n),
        "MatMul": rng.uniform(1, 2, n),
        "Add": rng.uniform(0, 0.02, n),
        REST: np.full(n, 0.01),
    }


def test_factors_and_error_of_an_exact_sum():
    kinds = parts()
    measured = 0.8 * kinds["Conv"] + 1.2 * kinds["MatMul"]
    fit = Fit(kinds)
    factors, error = fit.factors(measured), fit.error(measured)
    assert factors["Conv"] == pytest.approx(0.8, rel=0.05)
    assert factors["MatMul"] == pytest.approx(1.2, rel=0.1)
    assert error.median < 0.02 and error.p90 < 0.05


def test_no_factor_is_negative():
    kinds = parts()
    assert min(Fit(kinds).factors(3 * kinds["Conv"] - 0.5 * kinds["MatMul"]).values()) == 0


def test_the_error_is_that_of_networks_not_seen():
    kinds = parts()
    noise = np.random.default_rng(1).uniform(0.5, 2, 24)
    error = Fit(kinds).error((kinds["Conv"] + kinds["MatMul"]) * noise)
    assert error.median > 0.15
