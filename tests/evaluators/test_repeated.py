"""Several seeds a candidate: means of what each seed gives alone; stopped, resumed and exported as one."""

from __future__ import annotations

from statistics import fmean, stdev

import numpy as np
import optuna
import pytest
import torch
import yaml
from torch import nn

from evaluators import Cost, Digits, Evaluators, InheritedTraining, Repeated, Report, Training, TrialTraining
from evaluators.base import Candidate, Evaluator
from evaluators.repeated import _seed
from evaluators.testing import EvaluatorContract
from search import Finish, Search, Tuning
from search.executors.work import evaluate
from search.record.ledger import Ledger
from secateur.cli import main
from spaces import ChannelSpace, InputError, TrialSpace
from spaces.models import DenseNet, ResidualNet

DATA = Digits(train_samples=96)
SPACE = {
    "model.width": {"low": 8, "high": 16},
    "training.learning_rate": {"low": 1e-3, "high": 0.1, "log": True},
}


def space():
    return TrialSpace(SPACE, model=DenseNet)


def told(evaluator, candidate, over=None):
    """What the worker hears of a candidate."""
    over = over or space()
    evaluator.bind(over, DATA)
    *events, end = list(evaluate(over, evaluator, candidate))
    return [event.report for event in events[1:]], end.evaluation


def candidate(seed=5, id=0):
    return Candidate(id, space().encode({"model.width": 12, "training.learning_rate": 0.02}), seed=seed)


class TestContract(EvaluatorContract):
    def evaluator(self):
        return Repeated(TrialTraining(epochs=2), 2)

    def space(self):
        return space()

    def data(self):
        return Digits(train_samples=64)


class TestContractOfSeveral(TestContract):
    def evaluator(self):
        return Repeated(Evaluators([Cost(), Training(epochs=1)]), 2)


@pytest.mark.parametrize("keep_best", [True, False])
def test_it_reports_the_means_of_what_every_seed_gives_alone(keep_best):
    def single(seed):
        return told(TrialTraining(epochs=3, keep_best=keep_best), candidate(seed))

    alone = [single(5), *(single(_seed(5, place)) for place in (1, 2))]
    reports, end = told(Repeated(TrialTraining(epochs=3, keep_best=keep_best), 3), candidate(5))
    for name, value in alone[0][1].metrics.items():
        values = [evaluation.metrics[name] for _, evaluation in alone]
        assert end.metrics[name] == pytest.approx(fmean(values)), name
        assert end.metrics[f"{name}_deviation"] == pytest.approx(stdev(values)), name
        assert value == values[0]
    assert [report.step for report in reports][:3] == [1, 2, 3] and max(r.step for r in reports) == 3
    for step in range(3):
        losses = [course[step].metrics["loss"] for course, _ in alone]
        assert reports[step].metrics["loss"] == pytest.approx(fmean(losses))
    assert end.metrics["loss_deviation"] > 0


def test_the_model_that_was_built_is_that_of_the_first_seed():
    made, plain = Repeated(TrialTraining(epochs=2), 3), TrialTraining(epochs=2)
    weights = []
    for evaluator in (made, plain):
        evaluator.bind(space(), DATA)
        torch.manual_seed(5)
        model = space().build(candidate().genome)
        for _ in evaluator.evaluate(model, candidate(5)):
            pass
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_a_pruned_network_is_tuned_over_seeds_from_the_same_weights():
    torch.manual_seed(0)
    channels = ChannelSpace(ResidualNet((4, 6)), DATA.example())
    genome = channels.base
    _, end = told(Repeated(Training(epochs=1), 2), Candidate(0, genome, seed=3), channels)
    assert end.state == "complete" and 0 < end.metrics["loss_deviation"] < 1


class Drifting(Evaluator):
    """Reports what torch draws; the last seed may end early or not be finite."""

    metrics = ("value",)

    def __init__(self, lengths=(3, 3), bad=None):
        self.lengths, self.bad, self.places = lengths, bad, {}

    def evaluate(self, model, candidate):
        place = self.places.setdefault(candidate.seed, len(self.places))
        for step in range(1, self.lengths[place] + 1):
            nan = self.bad == (place, step)
            value = float("nan") if nan else 10.0 * place + step
            yield Report({"value": value}, step, {"seed": np.array([place])})


class Nothing(TrialSpace):
    def build(self, genome):
        return nn.Identity()


def drift(**settings):
    over = Nothing({"a": {"low": 0, "high": 1}})
    return told(Repeated(Drifting(**settings), 2), Candidate(0, over.encode({"a": 1}), seed=1), over)


def test_a_seed_that_ends_early_counts_with_its_last_report():
    reports, end = drift(lengths=(2, 4))
    assert [report.metrics["value"] for report in reports] == [6.0, 7.0, 7.5, 8.0]
    assert [report.step for report in reports] == [1, 2, 3, 4] and end.arrays["seed"] == [0]


def test_one_seed_that_is_not_finite_makes_a_mean_that_is_not():
    reports, end = drift(bad=(1, 2))
    assert np.isnan([report.metrics["value"] for report in reports]).tolist() == [False, True, False]
    assert np.isnan(reports[1].metrics["value_deviation"]) and end.state == "complete"


def search(folder, seeds=3, pruner=None, epochs=3):
    return Search(
        data=DATA,
        space=space(),
        evaluators=[Cost(), Repeated(TrialTraining(epochs=epochs), seeds)],
        objectives=["loss"],
        strategy=Tuning("random", pruner),
        directory=folder,
        finish=Finish(1, onnx=False),
        study=False,
        lag=2,
        chunk=1,
    )


def curves(folder):
    ledger = Ledger.reader(folder / "ledger.db")
    return [
        (e.candidate.id, e.state, e.metrics, [r.metrics for r in ledger.reports(e.candidate.id)])
        for _, e in ledger.evaluations()
    ]


def test_a_search_over_seeds_is_resumed_from_the_checkpoints_of_all_and_exports_the_first(
    tmp_path, monkeypatch
):
    search(tmp_path / "whole").run(evaluations=3)
    from evaluators.training.fitting import Fitting

    count, epoch = [0], Fitting.epoch

    def dying(self):
        if count[0] == 13:  # in the second epoch of the second trial
            raise KeyboardInterrupt
        count[0] += 1
        return epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "epoch", dying)
        search(tmp_path / "parts").run(evaluations=3)
    trained = [0]

    def counting(self):
        trained[0] += 1
        return epoch(self)

    monkeypatch.setattr(Fitting, "epoch", counting)
    result = search(tmp_path / "parts").run(evaluations=3)
    assert trained[0] == 27 - 13, "nothing that any seed had done is done again, nor for the export"
    assert curves(tmp_path / "parts") == curves(tmp_path / "whole")
    assert result.finals[-1].test["test_loss"] > 0 and result.complaint == ""


def test_a_pruner_stops_all_seeds_at_once(tmp_path):
    search(tmp_path, 2, optuna.pruners.ThresholdPruner(upper=0.0)).run(evaluations=2)
    for _, state, metrics, reports in curves(tmp_path):
        assert state == "pruned" and metrics["loss_deviation"] > 0
        assert len([report for report in reports if "loss" in report]) == 1


INNER = {"class_path": "TrialTraining", "init_args": {"epochs": 1}}
NAMED = {"class_path": "Repeated", "init_args": {"evaluator": INNER, "seeds": 2}}


@pytest.mark.parametrize(
    ("evaluators", "seeds"),
    [([NAMED], 1), ([{"class_path": "Cost"}, INNER], 2)],
    ids=["evaluator", "search.seeds"],
)
def test_a_config_names_it(tmp_path, capsys, evaluators, seeds):
    path = tmp_path / "seeds.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "model": {"class_path": "DenseNet"},
                "data": {"class_path": "Digits", "init_args": {"train_samples": 64}},
                "space": {"class_path": "TrialSpace", "init_args": {"parameters": SPACE}},
                "evaluators": evaluators,
                "objectives": ["loss"],
                "strategy": {"class_path": "Tuning", "init_args": {"sampler": "random"}},
                "executor": "inline",
                "study": {"view": False},
                "finish": {"members": 0},
                "search": {"lag": 1, "chunk": 1, "seeds": seeds, "budget": {"evaluations": 1}},
            }
        )
    )
    assert main([str(path), "--runs", str(tmp_path / "runs")]) == 0, capsys.readouterr().err
    ledger = Ledger.reader(tmp_path / "runs" / "seeds" / "ledger.db")
    place = f"evaluators.{len(evaluators) - 1}"
    assert ledger.identity[f"{place}.seeds"] == "2" and ledger.identity[f"{place}.evaluator.epochs"] == "1"
    (evaluation,) = [evaluation for _, evaluation in ledger.evaluations()]
    assert evaluation.metrics["loss_deviation"] > 0


@pytest.mark.parametrize(
    ("evaluators", "seeds", "message"),
    [
        ([{"class_path": "Cost"}], 3, "search.seeds 3: no evaluator trains"),
        ([INNER], 0, "search.seeds 0: expected at least 1"),
    ],
)
def test_seeds_of_nothing_are_refused(tmp_path, capsys, evaluators, seeds, message):
    path = tmp_path / "seeds.yaml"
    found = {"data": {"class_path": "Digits"}, "evaluators": evaluators, "search": {"seeds": seeds}}
    path.write_text(yaml.safe_dump(found | {"model": {"class_path": "DenseNet"}, "objectives": ["params"]}))
    assert main([str(path), "--runs", str(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_what_cannot_be_repeated_is_refused():
    with pytest.raises(InputError, match="evaluator Repeated: seeds 1; expected at least 2"):
        Repeated(TrialTraining(), 1)
    with pytest.raises(InputError, match="InheritedTraining hands weights down"):
        Repeated(InheritedTraining())
