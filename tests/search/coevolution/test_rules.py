"""Solution concepts, replacement and the settings of a coevolution."""

from __future__ import annotations

import numpy as np
import pytest

from operators.mutation import BitFlip, RandomPruning
from operators.schedules import Fixed
from search.coevolution import (
    Always,
    BestCase,
    Coevolution,
    Edges,
    IfBetter,
    IfNotDominated,
    MeanCase,
    WorstCase,
)
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
    old, worse, smaller = (
        {"loss": 1.0, "alive": 10.0},
        {"loss": 1.2, "alive": 10.0},
        {"loss": 1.2, "alive": 5.0},
    )
    assert Always().replaces(old, worse)
    assert not IfBetter().replaces(old, worse) and not IfBetter().replaces(old, old)
    assert IfBetter(tolerance=0.3).replaces(old, worse) and not IfBetter(tolerance=0.1).replaces(old, worse)
    assert IfNotDominated().replaces(old, smaller) and not IfNotDominated().replaces(old, worse)
    assert IfNotDominated().replaces(old, {"loss": 0.9, "alive": 20.0}) and IfNotDominated().replaces(
        old, old
    )


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
        ({"mates": "alone"}, "mates 'alone'; expected apart, whole, together"),
        ({"smallest": 1.5}, "smallest 1.5; expected a share above 0 and below 1, or null"),
        ({"untouched": 100}, "untouched 100; expected 0 to 99"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        Coevolution(**settings)
    assert "\n" not in str(refusal.value)


def test_events_lead_to_the_smallest_share_in_equal_ratios() -> None:
    rules = Coevolution(
        steps=12, untouched=2, smallest=0.25, schedule=Fixed(1.0), pruning=[RandomPruning(0.9)]
    )
    kept = 1.0
    shares = []
    for step in range(1, 13):
        if rules.probability(step):
            kept *= 1 - rules.amount(step, kept)
            shares.append(kept)
    assert len(shares) == 10
    assert shares[-1] == pytest.approx(0.25)
    assert np.allclose(np.array(shares[1:]) / shares[:-1], 0.25**0.1)


def test_who_is_smaller_already_loses_nothing() -> None:
    rules = Coevolution(steps=10, smallest=0.5, schedule=Fixed(1.0), pruning=[RandomPruning()])
    assert rules.amount(1, 0.4) == 0.0
    assert Coevolution(steps=10).amount(1, 0.4) is None
