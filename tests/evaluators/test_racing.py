"""Racing: who is beaten is stopped early, hardly ever wrongly, and what is not has seen every sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators import Arrays, Candidate, Cost, Digits, Evaluators, Quality, Repeated
from evaluators.base import Evaluator, Report
from evaluators.racing import LOSSES, SEEN, PairedRace, Rivals, parts
from evaluators.testing import EvaluatorContract
from spaces.errors import InputError
from tests.evaluators.test_quality import DIGITS, only, residual_space


class TestRacingContract(EvaluatorContract):
    def evaluator(self):
        return Quality(batch_size=100, race=True)

    def space(self):
        return residual_space()

    def data(self):
        return DIGITS


@pytest.mark.parametrize(("count", "most"), [(1, 256), (40, 256), (1000, 64), (5000, 256)])
def test_parts_grow_and_cover_everything_once(count, most):
    found = list(parts(count, most))
    sizes = [part.stop - part.start for part in found]
    assert [part.start for part in found] == [0, *(part.stop for part in found[:-1])]
    assert found[-1].stop == count and max(sizes) <= most
    assert sizes[:-1] == sorted(sizes[:-1]) and sizes[0] == min(count, 16)


def course(losses, rivals, error, rng):
    """Return how many samples were seen until a candidate was beaten, None where it was not."""
    order, test, seen = rng.permutation(len(losses)), PairedRace(rivals, error), 0
    for part in parts(len(losses), 256):
        seen += part.stop - part.start
        if test.add(losses[order[part]], order[part]) is not None:
            return seen
    return None


@pytest.mark.parametrize("skewed", [False, True])
def test_of_candidates_that_are_level_with_their_rivals_no_more_are_beaten_than_the_error(skewed):
    rng, error, runs = np.random.default_rng(0), 0.25, 150
    beaten = 0
    for _ in range(runs):
        rivals = rng.lognormal(sigma=1.5, size=(2, 300)) if skewed else (rng.random((2, 300)) < 0.2) * 1.0
        losses = np.roll(
            rivals[0], rng.integers(300)
        )  # exactly as good as the first, who is made the better one
        rivals[1] *= rivals[0].mean() / max(rivals[1].mean(), 1e-9)
        beaten += course(losses, rivals, error, rng) is not None
    assert beaten / runs <= error


def test_who_is_worse_is_beaten_the_sooner_the_worse():
    rng = np.random.default_rng(1)
    rival = rng.random((1, 4000))
    noise = 0.1 * rng.normal(size=4000)
    seen = [course(np.maximum(rival[0] + noise + gap, 0), rival, 0.05, rng) for gap in (0.2, 0.05, 0.02)]
    assert None not in seen and seen == sorted(seen) and seen[0] < 100 and seen[-1] < 2000
    assert course(np.maximum(rival[0] + noise - 0.02, 0), rival, 0.05, rng) is None


def test_any_rival_may_win_and_is_named():
    rivals = np.stack([np.full(200, 0.9), np.full(200, 0.1)])
    test = PairedRace(rivals, 0.05)
    assert test.add(np.full(100, 0.5), np.arange(100)) == 1


@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_a_loss_out_of_range_ends_the_test(wrong):
    test = PairedRace(np.zeros((1, 100)), 0.05)
    losses = np.ones(50)
    losses[3] = wrong
    assert test.add(losses, np.arange(50)) is None
    assert test.add(np.ones(50), np.arange(50, 100)) is None


def test_without_rivals_nobody_is_beaten():
    assert PairedRace(np.zeros((0, 0)), 0.05).add(np.ones(10), np.arange(10)) is None


@pytest.fixture(scope="module")
def quality():
    quality = Quality(batch_size=64, race=True, record_activations=False)
    quality.bind(residual_space(), DIGITS)
    return quality


def raced(quality, rivals):
    space, base = quality.space, quality.space.base
    (report,) = quality.evaluate(space.build(base), Candidate(5, base, seed=3, rivals=rivals))
    return report


def test_alone_a_candidate_gets_the_figures_of_all_samples(quality):
    plain = Quality(batch_size=64)
    plain.bind(quality.space, DIGITS)
    report = only(quality, quality.space, quality.space.base)
    expected = only(plain, quality.space, quality.space.base).metrics
    count = DIGITS.size("search")
    assert report.metrics == pytest.approx(expected | {SEEN: count}, rel=1e-6)
    assert report.stop == "" and report.arrays == {}


def test_losses_of_all_samples_come_back_in_the_order_of_the_split(quality):
    report = raced(quality, Rivals("expected_error"))
    space, (images, labels) = quality.space, next(DIGITS.batches("search", 1000))
    model = space.build(space.base)
    list(quality.evaluate(model, Candidate(1, space.base)))  # recalibrated
    with torch.no_grad():
        right = model.eval()(images).softmax(1)[torch.arange(len(labels)), labels]
    np.testing.assert_allclose(report.arrays[LOSSES], 1 - right.numpy(), atol=1e-5)


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_who_is_beaten_is_stopped_with_what_was_seen(quality, metric):
    count, maximise = DIGITS.size("search"), metric == "accuracy"
    best = np.full((1, count), -1.0 if maximise else 0.0)
    report = raced(quality, Rivals(metric, maximise, (2,), best))
    assert report.metrics[SEEN] < count / 2
    assert report.stop == f"beaten by candidate 2 after {report.metrics[SEEN]:.0f} of {count} samples"
    assert set(report.metrics) == set(quality.metrics) and LOSSES not in report.arrays
    worst = replace(Rivals(metric, maximise, (2,)), losses=np.full((1, count), 0.0 if maximise else 99.0))
    assert raced(quality, worst).metrics[SEEN] == count


def test_with_a_margin_who_is_hardly_better_is_stopped_as_well(quality):
    space, base, count = quality.space, quality.space.base, DIGITS.size("search")
    report = raced(quality, Rivals("expected_error"))
    rival = Rivals("expected_error", False, (2,), report.arrays[LOSSES][None])
    seen = []
    for margin in (None, 0.6):
        other = Quality(race=True, race_margin=margin, record_activations=False)
        other.bind(space, DIGITS)
        (report,) = other.evaluate(space.build(base), Candidate(5, base, seed=3, rivals=rival))
        seen.append(report.metrics[SEEN])
    assert seen[1] < count == seen[0]


def order_of(outputs, targets):
    """No mean over samples: it knows their order."""
    return float((targets * torch.arange(len(targets))).sum())


def test_metrics_of_the_whole_split_see_it_in_its_order():
    rng = np.random.default_rng(0)
    data = Arrays(rng.normal(size=(400, 8)), rng.integers(0, 2, 400), split_metrics={"order": order_of})
    space = residual_space()
    metrics = []
    for race in (None, True):
        quality = Quality(race=race, record_activations=False, recalibration=None)
        quality.bind(space, data)
        (report,) = quality.evaluate(torch.nn.Linear(8, 2), Candidate(0, space.base, seed=4))
        metrics.append(report.metrics["order"])
    assert metrics[0] == metrics[1]
    assert "order" not in quality.raced


def test_a_split_that_does_not_fit_into_memory_is_refused():
    quality = Quality(race=True, cache_mib=0.01)
    quality.bind(residual_space(), DIGITS)
    with pytest.raises(InputError, match=r"more than 0\.01 MiB in memory; expected a larger cache_mib"):
        only(quality, quality.space, quality.space.base)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"race": True, "race_error": 0.0}, "race_error 0.0; expected more than 0 and less than 1"),
        ({"race_error": 0.1}, "race_error or race_margin without a race"),
        ({"race": True, "race_margin": 1.0}, "race_margin 1.0; expected at least 0 and less than 1"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Quality(**arguments)


def test_seeds_side_by_side_do_not_race():
    with pytest.raises(InputError, match="evaluator Repeated: candidates race"):
        Repeated(Quality(race=True), 2).bind(residual_space(), Digits())


class Never(Evaluator):
    metrics = ("never",)

    def evaluate(self, model, candidate):
        yield Report({"never": 1 / 0})


def test_evaluators_after_a_race_that_is_lost_do_not_begin(quality):
    several = Evaluators([Cost(), Quality(race=True), Never()])
    several.bind(quality.space, DIGITS)
    assert several.raced == quality.raced
    best = Rivals("loss", False, (2,), np.zeros((1, DIGITS.size("search"))))
    candidate = Candidate(0, quality.space.base, rivals=best)
    *_, report = several.evaluate(quality.space.build(candidate.genome), candidate)
    assert "beaten" in report.stop
