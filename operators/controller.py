"""A controller that learns which operator, and how much of it, an individual can take."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from operators.mutation.base import Mutation
from spaces.errors import InputError, require

Rule = Literal["matching", "ucb"]
RULES: tuple[Rule, ...] = ("matching", "ucb")


class Controller:
    """Chooses among mutations (arms) by their success so far, and adapts each one's ``amount``. [O]

    What a success is the caller says: that the loss after the following training is not worse than before by
    more than a tolerance while parameters fell, say. Old outcomes fade, since what an individual can take
    changes as it shrinks. The ways to choose are old ones [P]:

    - ``matching``: in proportion to the rate of success, (successes + 1) / (trials + 2), but each at least
      with the chance `floor` (probability matching, Goldberg 1990).
    - ``ucb``: the largest rate + sqrt(2 ln(all trials) / trials), untried ones first, ties at random (UCB1,
      Auer et al. 2002; with fading Garivier and Moulines 2008, arXiv 0805.3415).

    An arm's amount is multiplied by `factor` after a success and divided by its square after a failure,
    within `bounds`: it settles where two of three succeed. Mutations without an ``amount`` keep what they
    have.

    Args:
        mutations: the arms, at least one; they are never changed.
        rule: ``matching`` or ``ucb``.
        decay: what is left of all earlier outcomes with each new one; 1 never forgets.
        factor: of the amount, at least 1; 1 leaves it alone.
        bounds: smallest and largest amount.
        floor: smallest chance of an arm under ``matching``.

    Raises:
        InputError: a setting out of its range, named.
    """

    def __init__(
        self,
        mutations: Sequence[Mutation],
        rule: Rule = "matching",
        decay: float = 0.95,
        factor: float = 1.2,
        bounds: tuple[float, float] = (0.01, 0.5),
        floor: float = 0.05,
    ) -> None:
        arms = len(mutations)
        require(
            "controller",
            (arms >= 1, "no mutations; expected at least one"),
            (rule in RULES, f"rule {rule!r}; expected {' or '.join(RULES)}"),
            (0 < decay <= 1, f"decay {decay}; expected a number above 0 and at most 1"),
            (factor >= 1, f"factor {factor}; expected at least 1"),
            (
                len(bounds) == 2 and 0 < bounds[0] <= bounds[1] <= 1,
                f"bounds {bounds}; expected two numbers above 0 and at most 1 in order",
            ),
            (0 <= floor * arms <= 1, f"floor {floor}; expected at most one divided by the {arms} mutations"),
        )
        self.mutations, self.rule, self.decay, self.factor, self.floor = (
            tuple(mutations),
            rule,
            decay,
            factor,
            floor,
        )
        self.bounds = (bounds[0], bounds[1])
        self._successes, self._trials = [0.0] * arms, [0.0] * arms
        amounts = (bounds[1] if m.amount is None else m.amount for m in mutations)
        self._amounts = [float(np.clip(amount, *self.bounds)) for amount in amounts]

    @property
    def state(self) -> dict[str, list[float]]:
        """What it has learned, one number an arm each: ``successes``, ``trials``, ``amounts``. Plain: it fits
        into JSON.
        """
        return {
            "successes": list(self._successes),
            "trials": list(self._trials),
            "amounts": list(self._amounts),
        }

    def at(self, state: Mapping[str, Sequence[float]] | None) -> Controller:
        """Return a controller with these settings that has learned `state` (an individual's own); None or
        empty: nothing yet.

        Raises:
            InputError: a state of other arms.
        """
        other = copy.copy(self)
        if not state:
            fresh = Controller(self.mutations, self.rule, self.decay, self.factor, self.bounds, self.floor)
            other.__dict__.update(fresh.__dict__)
            return other
        lengths = {name: len(state.get(name, ())) for name in ("successes", "trials", "amounts")}
        if set(lengths.values()) != {len(self.mutations)}:
            raise InputError(
                f"controller: a state of {lengths} numbers; expected {len(self.mutations)} each, one a "
                f"mutation"
            )
        other._successes, other._trials, other._amounts = (
            [float(x) for x in state[name]] for name in ("successes", "trials", "amounts")
        )
        return other

    def choose(self, rng: np.random.Generator) -> int:
        """Return the number of an arm."""
        return int(rng.choice(len(self.mutations), p=self.chances()))

    def chances(self) -> np.ndarray:
        """Return how likely each arm is to be chosen, ``(arms,)``."""
        successes, trials = np.array(self._successes), np.array(self._trials)
        if self.rule == "matching":
            rates = (successes + 1) / (trials + 2)
            arms = len(rates)
            return self.floor + (1 - self.floor * arms) * rates / rates.sum()
        known = np.maximum(trials, 1e-12)
        worth = np.where(
            trials > 0, successes / known + np.sqrt(2 * np.log(max(trials.sum(), 1.0)) / known), np.inf
        )
        best = worth == worth.max()
        return best / best.sum()

    def mutation(self, arm: int) -> Mutation:
        """Return the arm's mutation with the amount that it has come to."""
        mutation = copy.copy(self.mutations[arm])
        if mutation.amount is not None:
            mutation.amount = self._amounts[arm]
        return mutation

    def told(self, arm: int, success: bool) -> None:
        """Learn what came of an arm."""
        self._successes = [self.decay * x for x in self._successes]
        self._trials = [self.decay * x for x in self._trials]
        self._successes[arm] += float(success)
        self._trials[arm] += 1.0
        self._amounts[arm] = float(
            np.clip(self._amounts[arm] * (self.factor if success else self.factor**-2), *self.bounds)
        )
