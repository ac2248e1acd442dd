"""Domains of Ray Tune and their counterparts in Optuna."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune

from search.raytune.domains import parameters
from spaces.errors import InputError


def test_domains_of_tune_become_distributions_of_optuna():
    space = {
        "a": tune.uniform(0.5, 1.5),
        "b": {"c": tune.loguniform(1e-4, 1e-1), "d": tune.quniform(0, 1, 0.25)},
        "e": tune.randint(1, 10),
        "f": tune.qrandint(2, 10, 2),
        "g": tune.lograndint(1, 9),
        "h": tune.choice([None, True, 2, 0.5, "x"]),
        "i": tune.choice([[1, 2], [3]]),
        "constant": 3,
    }
    found = parameters(space)
    assert {name: p.distribution for name, p in found.items()} == {
        "a": FloatDistribution(0.5, 1.5),
        "b/c": FloatDistribution(1e-4, 1e-1, log=True),
        "b/d": FloatDistribution(0, 1, step=0.25),
        "e": IntDistribution(1, 9),
        "f": IntDistribution(2, 10, step=2),
        "g": IntDistribution(1, 8, log=True),
        "h": CategoricalDistribution([None, True, 2, 0.5, "x"]),
        "i": CategoricalDistribution(["[1, 2]", "[3]"]),
    }
    config: dict = {}
    found["b/c"].place(0.01, config)
    found["b/d"].place(0.5, config)
    found["i"].place("[1, 2]", config)
    assert config == {"b": {"c": 0.01, "d": 0.5}, "i": [1, 2]}


@pytest.mark.parametrize(
    "domain",
    [
        tune.randn(),
        tune.sample_from(lambda config: 1),
        tune.grid_search([1, 2]),
        tune.qloguniform(0.1, 1, 0.1),
        tune.qlograndint(1, 9, 2),
    ],
)
def test_domains_without_a_counterpart_are_named(domain):
    with pytest.raises(InputError, match=r"param_space\[net/x\]: .*tune.uniform"):
        parameters({"net": {"x": domain}})
