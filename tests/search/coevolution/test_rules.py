"""Solution concepts, replacement and the settings of a coevolution."""

from __future__ import annotations

import numpy as np
import pytest

from operators.mutation import BitFlip
from operators.schedules import Fixed
from search.coevolution import Always, BestCase, Coevolution, Edges, IfBetter, IfNotDominated, MeanCase, WorstCase
from spaces.errors import InputError

LOSSES = np.array([[1.0, 5.0, 3.0], [2.0, 2.0, 2.0], [9.0, 0.5, 4.0]])


def test_concepts_score_encoders_by_rows_and_decoders_by_columns() -> None:
    encoders, decoders = BestCase()(LOSSES)
    assert encoders.tolist() == [1.0, 2.0, 0.5]
    assert decoders.tolist() == [1.0, 0.5, 2.0]
    encoders, decoders = MeanCase()(LOSSES)
    assert encoders.tolist() == [3.0, 2.0, 4.5]
    assert decoders.tolist() == [4.0, 2.5, 3.0]
    encoders, decoders = WorstCase()(LOSSES)
    assert encoders.tolist() == [5.0, 2.0, 9.0]
    assert decoders.tolist() == [9.0, 5.0, 4.0]


@pytest.mark.parametrize("concept", [BestCase(), MeanCase(), WorstCase()])
def test_losses_that_are_not_finite_are_worse_than_any(concept) -> None:
    losses = LOSSES.copy()
    losses[0] = np.nan
    encoders, decoders = concept(losses)
    assert encoders.argmax() == 0
    assert np.isfinite(encoders).all() and np.isfinite(decoders).all()


def test_replacement() -> None:
    old, worse, smaller = {"loss": 1.0, "alive": 10.0}, {"loss": 1.2, "alive": 10.0}, {"loss": 1.2, "alive": 5.0}
    assert Always().replaces(old, worse)
    assert not IfBetter().replaces(old, worse) and not IfBetter().replaces(old, old)
    assert IfBetter(tolerance=0.3).replaces(old, worse) and not IfBetter(tolerance=0.1).replaces(old, worse)
    assert IfNotDominated().replaces(old, smaller) and not IfNotDominated().replaces(old, worse)
    assert IfNotDominated().replaces(old, {"loss": 0.9, "alive": 20.0}) and IfNotDominated().replaces(old, old)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "strategy: steps 0; expected at least 1"),
        ({"tournament": 0}, "tournament 0"),
        ({"cases_split": "dev"}, "cases_split 'dev'; expected one of train, calibration, search, test"),
        ({"learning_rate_bounds": (1.0, 0.1)}, "learning_rate_bounds"),
        ({"pruning": [BitFlip()]}, "pruning without a schedule"),
        ({"schedule": Fixed(0.5)}, "a schedule without pruning"),
        ({"topology": Edges(3, [[0, 1]])}, "not connected"),
        ({"radius": 0}, "radius 0"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        Coevolution(**settings)
    assert "\n" not in str(refusal.value)
