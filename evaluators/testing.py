"""Contract suites: what any data and any evaluator must do. Inherit one and say how to make yours:

    class TestMyData(DataContract):
        def data(self): return MyData()
        def model(self): return MyModel()

    class TestMyEvaluator(EvaluatorContract):
        def evaluator(self): return MyEvaluator()
        def space(self): return MySpace()
        def data(self): return MyData()

pytest collects the checks by their names; nothing here needs pytest.
"""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import SPLITS, Data, Split
from spaces.base import Space
from spaces.calling import call, forward
from spaces.structures import rows, samples, tensors


class DataContract:
    """Checks of a :class:`Data`. Set `repeats` where equal samples are really in the data, so that splits may
    share some.
    """

    repeats: bool = False

    def data(self) -> Data:
        """Return the data; equal ones at every call."""
        raise AssertionError(f"{type(self).__name__}: define data(self) and return the data to check")

    def model(self) -> nn.Module:
        """Return any model whose outputs fit the data."""
        raise AssertionError(
            f"{type(self).__name__}: define model(self) and return a model that fits the data"
        )

    def test_it_is_valid_by_its_own_account(self) -> None:
        self.data().validate()

    def test_every_split_has_samples(self) -> None:
        data = self.data()
        for split in SPLITS:
            assert len(_samples(data, split)) > 0, f"split {split!r} is empty"

    def test_batches_hold_at_most_the_size_asked_for(self) -> None:
        for split in SPLITS:
            for inputs, targets in self.data().batches(split, 7):
                count = samples(targets)
                assert {len(part) for part in tensors(inputs)} == {count}, (
                    "inputs and targets of a batch differ in length"
                )
                assert 1 <= count <= 7

    def test_the_batch_size_does_not_change_the_samples(self) -> None:
        data = self.data()
        for split in SPLITS:
            assert _samples(data, split, 5) == _samples(data, split, 64)

    def test_size_is_the_number_of_samples(self) -> None:
        data = self.data()
        for split in SPLITS:
            assert data.size(split) == len(_samples(data, split))

    def test_splits_are_disjoint(self) -> None:
        data = self.data()
        seen: dict[bytes, Split] = {}
        for split in SPLITS:
            for sample in set(_samples(data, split)):
                assert self.repeats or sample not in seen, (
                    f"splits {seen[sample]!r} and {split!r} share a sample"
                )
                seen[sample] = split

    def test_without_a_generator_the_order_is_fixed(self) -> None:
        data = self.data()
        assert _samples(data, "train") == _samples(data, "train")

    def test_data_made_again_are_the_same(self) -> None:
        one, other = self.data(), self.data()
        assert one.fingerprint == other.fingerprint
        for split in SPLITS:
            assert _samples(one, split) == _samples(other, split)

    def test_a_generator_shuffles_and_its_seed_decides(self) -> None:
        data = self.data()
        plain = _samples(data, "train")
        one, same, other = (
            _samples(data, "train", generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert one == same, "equal seeds gave different orders"
        assert Counter(one) == Counter(plain), "shuffling changed the samples"
        assert len(set(plain)) < 4 or one != other, "different seeds gave one order"

    def test_shuffling_leaves_no_trace(self) -> None:
        data = self.data()
        before = _samples(data, "train")
        _samples(data, "train", generator=torch.Generator().manual_seed(1))
        assert _samples(data, "train") == before

    def test_torch_numbers_are_not_drawn_without_a_generator(self) -> None:
        data = self.data()
        before = torch.get_rng_state()
        _samples(data, "search")
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_example_is_a_batch_of_two_that_a_model_takes(self) -> None:
        example = self.data().example()
        assert isinstance(example, tuple | dict) and all(len(x) == 2 for x in tensors(example))
        call(self.model().eval(), example)

    def test_loss_is_one_number_a_sample_and_teaches(self) -> None:
        data, model = self.data(), self.model()
        inputs, targets = next(iter(data.batches("train", 6)))
        losses = data.loss(forward(model, inputs), targets)
        assert losses.shape == (samples(targets),)
        assert torch.isfinite(losses).all()
        losses.mean().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()), (
            "no gradient reaches the model"
        )

    def test_loss_of_a_sample_does_not_depend_on_its_neighbours(self) -> None:
        data, model = self.data(), self.model().eval()
        inputs, targets = next(iter(data.batches("search", 6)))
        with torch.no_grad():
            outputs = forward(model, inputs)
            together = data.loss(outputs, targets)
            losses = []
            for i in range(samples(targets)):
                one = slice(i, i + 1)
                # of nested outputs, whose lists are scales or layers, the model is asked again
                given = outputs[one] if isinstance(outputs, Tensor) else forward(model, rows(inputs, one))
                losses.append(data.loss(given, rows(targets, one)))
            alone = torch.cat(losses)
        assert torch.allclose(together, alone, atol=1e-5)

    def test_metrics_are_one_finite_number_a_sample_under_their_names(self) -> None:
        data, model = self.data(), self.model().eval()
        inputs, targets = next(iter(data.batches("search", 6)))
        with torch.no_grad():
            metrics = data.metrics(forward(model, inputs), targets)
        assert tuple(metrics) == tuple(data.metric_names)
        for name, values in metrics.items():
            assert values.shape == (samples(targets),), f"metric {name!r} has shape {tuple(values.shape)}"
            assert torch.isfinite(values).all(), f"metric {name!r} is not finite"

    def test_loss_is_no_metric_name(self) -> None:
        assert not {"loss", "train_loss"} & set(self.data().metric_names), "loss is added by the evaluators"

    def test_it_pickles(self) -> None:
        data = self.data()
        copy = pickle.loads(pickle.dumps(data))
        assert copy.fingerprint == data.fingerprint
        assert _samples(copy, "search") == _samples(data, "search")


class EvaluatorContract:
    """Checks of an :class:`Evaluator` bound to a space and data. Set `deterministic` to False for
    measurements such as latency.
    """

    deterministic: bool = True

    def evaluator(self) -> Evaluator:
        """Return the evaluator, not bound yet; equal ones at every call."""
        raise AssertionError(
            f"{type(self).__name__}: define evaluator(self) and return the evaluator to check"
        )

    def space(self) -> Space:
        """Return a small space whose models the evaluator takes."""
        raise AssertionError(f"{type(self).__name__}: define space(self) and return a small space")

    def data(self) -> Data | None:
        """Return small data, or None for an evaluator that needs none."""
        return None

    def test_metrics_have_one_name_each(self) -> None:
        evaluator, _ = self._bound()
        names = (*evaluator.screened, *evaluator.metrics)
        assert names, "an evaluator without a metric"
        assert len(set(names)) == len(names), f"a name is given twice: {names}"

    def test_screening_gives_what_it_says_one_number_a_genome(self) -> None:
        evaluator, genomes = self._bound()
        screened = evaluator.screen(genomes)
        assert set(screened) == set(evaluator.screened)
        for name, values in screened.items():
            assert values.shape == (len(genomes),), f"{name!r} has shape {values.shape}"
            assert np.isfinite(values).all(), f"{name!r} is not finite"

    def test_screening_takes_no_genome_and_one(self) -> None:
        evaluator, genomes = self._bound()
        for n in (0, 1):
            assert all(values.shape == (n,) for values in evaluator.screen(genomes[:n]).values())

    def test_screening_does_not_depend_on_the_other_genomes(self) -> None:
        evaluator, genomes = self._bound()
        together = evaluator.screen(genomes)
        for i in range(len(genomes)):
            for name, values in evaluator.screen(genomes[i : i + 1]).items():
                assert values[0] == together[name][i]

    def test_screening_leaves_the_genomes_and_torchs_numbers_alone(self) -> None:
        evaluator, genomes = self._bound()
        before, state = genomes.copy(), torch.get_rng_state()
        evaluator.screen(genomes)
        assert (genomes == before).all()
        assert torch.equal(torch.get_rng_state(), state)

    def test_there_is_a_report_and_the_last_has_all_metrics(self) -> None:
        evaluator, genomes = self._bound()
        reports = self._evaluate(evaluator, genomes[0])
        assert reports, "no report"
        assert set(reports[-1].metrics) == set(evaluator.metrics)

    def test_metrics_are_finite_floats_and_arrays_are_numpys(self) -> None:
        evaluator, genomes = self._bound()
        for report in self._evaluate(evaluator, genomes[0]):
            for name, value in report.metrics.items():
                assert isinstance(value, float) and math.isfinite(value), f"{name!r} is {value!r}"
            assert all(isinstance(array, np.ndarray) for array in report.arrays.values())

    def test_steps_never_go_back(self) -> None:
        evaluator, genomes = self._bound()
        steps = [report.step for report in self._evaluate(evaluator, genomes[0])]
        assert steps == sorted(steps)

    def test_a_report_does_not_change_when_the_next_one_comes(self) -> None:
        evaluator, genomes = self._bound()
        reports, copies = [], []
        for report in self._reports(evaluator, genomes[0]):
            reports.append(report)
            copies.append(dict(report.metrics))
        assert [report.metrics for report in reports] == copies

    def test_equal_seeds_give_equal_results(self) -> None:
        one, other = self._bound(), self._bound()
        self._same(self._evaluate(one[0], one[1][0]), self._evaluate(other[0], other[1][0]))

    def test_the_result_does_not_depend_on_earlier_candidates(self) -> None:
        (fresh, genomes), (used, _) = self._bound(), self._bound()
        self._evaluate(used, genomes[1])
        self._same(self._evaluate(fresh, genomes[0]), self._evaluate(used, genomes[0]))

    def test_it_travels_to_a_worker(self) -> None:
        evaluator, genomes = self._bound()
        copy = pickle.loads(pickle.dumps(evaluator))
        assert (copy.screened, copy.metrics) == (evaluator.screened, evaluator.metrics)
        self._same(self._evaluate(evaluator, genomes[0]), self._evaluate(copy, genomes[0]))
        self._evaluate(evaluator, genomes[1])
        pickle.dumps(evaluator)  # after work, too

    def test_the_space_builds_the_same_models_afterwards(self) -> None:
        evaluator, genomes = self._bound()
        before = _state(self._build(evaluator.space, genomes[1]))
        self._evaluate(evaluator, genomes[0])
        after = _state(self._build(evaluator.space, genomes[1]))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before), (
            "evaluating one model changed another"
        )

    def test_the_model_comes_back_in_its_modes(self) -> None:
        evaluator, genomes = self._bound()
        for training in (True, False):
            model = self._build(evaluator.space, genomes[0]).train(training)
            list(evaluator.evaluate(model, Candidate(0, genomes[0])))
            assert all(module.training is training for module in model.modules())

    def test_threads_and_gradient_mode_stay(self) -> None:
        evaluator, genomes = self._bound()
        before = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
        self._evaluate(evaluator, genomes[0])
        assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()) == before

    def _bound(self) -> tuple[Evaluator, np.ndarray]:
        """Return a bound evaluator and three valid genomes."""
        evaluator, space = self.evaluator(), self.space()
        evaluator.bind(space, self.data())
        return evaluator, space.sample(3, np.random.default_rng(0))

    def _build(self, space: Space, genome: np.ndarray) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return space.build(genome)

    def _reports(self, evaluator: Evaluator, genome: np.ndarray) -> Iterable[Report]:
        """Evaluate as a worker does: under the candidate's seed, with a model of its own."""
        candidate = Candidate(0, genome, seed=7)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(candidate.seed)
            yield from evaluator.evaluate(evaluator.space.build(genome), candidate)

    def _evaluate(self, evaluator: Evaluator, genome: np.ndarray) -> list[Report]:
        return list(self._reports(evaluator, genome))

    def _same(self, one: list[Report], other: list[Report]) -> None:
        assert [r.step for r in one] == [r.step for r in other]
        compare: Callable[[Report], dict] = (
            (lambda r: r.metrics) if self.deterministic else (lambda r: dict.fromkeys(r.metrics))
        )
        assert [compare(r) for r in one] == [compare(r) for r in other]
        for a, b in zip(one, other, strict=True):
            assert a.arrays.keys() == b.arrays.keys()
            if self.deterministic:
                assert all(
                    np.array_equal(a.arrays[k], b.arrays[k], equal_nan=a.arrays[k].dtype.kind == "f")
                    for k in a.arrays
                )


def _samples(
    data: Data, split: Split, size: int = 32, generator: torch.Generator | None = None
) -> list[bytes]:
    """Return the bytes of every sample, inputs and target, in order."""
    found: list[bytes] = []
    for inputs, targets in data.batches(split, size, generator):
        found += [
            b"|".join(_bytes(part) for part in tensors(rows((inputs, targets), slice(i, i + 1))))
            for i in range(samples(targets))
        ]
    return found


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
