"""The contract of a selection."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from operators.selection import Selection
from operators.testing.toys import global_generators_untouched


class SelectionContract(ABC):
    """What strategies rely on."""

    @abstractmethod
    def selection(self) -> Selection:
        """Return the selection."""

    def chosen(
        self, values: np.ndarray, violation: np.ndarray | None = None, k: int = 5, seed: int = 0
    ) -> np.ndarray:
        """Return what survives."""
        return self.selection()(
            values, np.zeros(len(values)) if violation is None else violation, k, np.random.default_rng(seed)
        )

    def cloud(self, n: int = 40, objectives: int = 2) -> np.ndarray:
        """Return values without any order in them, ``(n, objectives)``."""
        return np.random.default_rng(11).random((n, objectives))

    @pytest.mark.parametrize("objectives", [1, 2, 3, 4])
    @pytest.mark.parametrize("k", [0, 1, 7, 39, 40, 100])
    def test_as_many_as_wanted_survive_and_none_twice(self, objectives: int, k: int) -> None:
        chosen = self.chosen(self.cloud(objectives=objectives), k=k)
        assert chosen.dtype == np.int64
        assert len(set(chosen.tolist())) == len(chosen) == min(k, 40)
        assert ((chosen >= 0) & (chosen < 40)).all()

    def test_nothing_to_choose_from(self) -> None:
        assert self.chosen(np.zeros((0, 2))).shape == (0,)

    def test_feasible_ones_survive_infeasible_ones(self) -> None:
        values, violation = self.cloud(10), np.zeros(10)
        values[:4], violation[:4] = 0.0, 1e-9  # better in everything, and infeasible
        assert set(self.chosen(values, violation, k=6).tolist()) == set(range(4, 10))

    def test_infeasible_ones_survive_by_violation(self) -> None:
        values, violation = self.cloud(6), np.array([0.0, 0.5, 0.1, np.inf, 0.3, 0.2])
        assert set(self.chosen(values, violation, k=4).tolist()) == {0, 2, 4, 5}

    def test_dominated_ones_go_first(self) -> None:
        front = np.stack([np.arange(6.0), 5 - np.arange(6.0)], axis=1)
        values = np.concatenate([front + 10, front])
        assert set(self.chosen(values, k=6).tolist()) == set(range(6, 12))

    def test_best_value_survives_with_one_objective(self) -> None:
        values = np.random.default_rng(0).permutation(20)[:, None].astype(float)
        assert sorted(values[self.chosen(values, k=3), 0]) == [0, 1, 2]

    @pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
    def test_what_failed_never_survives_what_did_not(self, bad: float) -> None:
        values, violation = self.cloud(12, 3), np.zeros(12)
        values[3], values[5, 1], violation[7], violation[8] = bad, bad, np.inf, np.nan
        assert not {3, 5, 7, 8} & set(self.chosen(values, violation, k=8).tolist())
        assert len(self.chosen(values, violation, k=10)) == 10

    def test_all_failed(self) -> None:
        assert len(self.chosen(np.full((9, 2), np.inf), np.full(9, np.inf), k=4)) == 4

    @pytest.mark.parametrize("objectives", [2, 3])
    def test_equal_and_constant_values(self, objectives: int) -> None:
        same = np.ones((20, objectives))
        assert len(set(self.chosen(same, k=9).tolist())) == 9
        same[:, 0] = np.arange(20) // 2
        assert len(set(self.chosen(same, k=9).tolist())) == 9

    def test_same_generator_same_choice(self) -> None:
        values = self.cloud(60, 3)
        assert self.chosen(values, k=20).tolist() == self.chosen(values, k=20).tolist()

    def test_values_stay_as_they_are(self) -> None:
        values, violation = self.cloud(), np.zeros(40)
        self.chosen(values, violation)
        assert (values == self.cloud()).all()
        assert (violation == 0).all()

    def test_global_generators_stay_as_they_are(self) -> None:
        with global_generators_untouched():
            self.chosen(self.cloud(60, 3), k=20)

    def test_pickles(self) -> None:
        copied = pickle.loads(pickle.dumps(self.selection()))
        assert (
            copied(self.cloud(), np.zeros(40), 5, np.random.default_rng(0)).tolist()
            == self.chosen(self.cloud()).tolist()
        )
