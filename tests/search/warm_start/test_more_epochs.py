"""More epochs for finished trials: they are trained on from their checkpoints, or it is said that none is."""

import io
import shutil

import pytest
from rich.console import Console

from evaluators import Digits, TrialTraining
from search import Finish, FromRun, Search, Tuning
from search.progress import Progress
from search.record.ledger import Ledger
from spaces import InputError, TrialSpace
from spaces.models import DenseNet

DATA = Digits(train_samples=64)
RATE = {"low": 1e-3, "high": 0.1, "log": True}
SPACE = {"model.width": {"low": 8, "high": 16}, "training.learning_rate": RATE}
CONSTANT = {"schedule": "constant", "keep_best": False}


def search(folder, epochs, before=None, parameters=SPACE, seed=3, **settings):
    heard = io.StringIO()
    made = Search(
        data=DATA,
        space=TrialSpace(parameters, model=DenseNet),
        evaluators=[TrialTraining(epochs=epochs, **(CONSTANT | settings))],
        objectives=["loss"],
        strategy=Tuning("random", initialisation=before and FromRun(str(before))),
        directory=folder,
        finish=Finish(0),
        study=False,
        progress=Progress(Console(file=heard, soft_wrap=True)),
        seed=seed,
        lag=2,
        chunk=1,
    )
    made.heard = heard
    return made


def curves(folder):
    ledger = Ledger.reader(folder / "ledger.db")
    return {
        e.candidate.genome.tobytes(): [(r.step, r.metrics) for r in ledger.reports(e.candidate.id)]
        for _, e in ledger.evaluations()
    }


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short") / "run"
    search(folder, 2).run(evaluations=3)
    return folder


@pytest.fixture
def first(short, tmp_path):
    return shutil.copytree(short, tmp_path / "first")


@pytest.fixture
def epochs_trained(monkeypatch):
    """Count the epochs that are really trained."""
    from evaluators.training.fitting import Fitting

    count, epoch = [0], Fitting.epoch

    def counted(self):
        count[0] += 1
        return epoch(self)

    monkeypatch.setattr(Fitting, "epoch", counted)
    return count


@pytest.mark.parametrize("wider", [False, True], ids=["same space", "wider space"])
def test_with_a_constant_rate_it_is_the_training_of_so_many_epochs(first, tmp_path, epochs_trained, wider):
    parameters = SPACE | ({"model.width": {"low": 4, "high": 32}} if wider else {})
    made = search(tmp_path / "longer", 5, first, parameters, seed=9)
    result = made.run(evaluations=3)
    assert epochs_trained[0] == 3 * 3, "two of five epochs had been paid for"
    assert "3 finished trials are trained on, from 2 to 5 epochs" in made.heard.getvalue()
    search(tmp_path / "whole", 5).run(evaluations=3)
    assert curves(tmp_path / "longer") == curves(tmp_path / "whole")
    assert result.counts["complete"] == 3 and "results came from" not in made.heard.getvalue()


def test_it_goes_on_once_more_and_without_the_first_run(first, tmp_path, epochs_trained):
    search(tmp_path / "longer", 4, first).run(evaluations=2)
    shutil.rmtree(first)
    search(tmp_path / "longer", 4, first).run(evaluations=3)
    search(tmp_path / "longest", 6, tmp_path / "longer").run(evaluations=3)
    assert epochs_trained[0] == 3 * 2 + 3 * 2
    search(tmp_path / "whole", 6).run(evaluations=3)
    assert curves(tmp_path / "longest") == curves(tmp_path / "whole")


def test_a_cycle_goes_on_where_the_longer_one_stands(tmp_path, recwarn):
    settings = {"schedule": "one-cycle", "keep_best": True}
    search(tmp_path / "first", 2, **settings).run(evaluations=2)
    search(tmp_path / "longer", 6, tmp_path / "first", **settings).run(evaluations=2)
    before, after = curves(tmp_path / "first"), curves(tmp_path / "longer")
    for genome, reports in after.items():
        assert reports[:2] == [report for report in before[genome] if report[0] <= 2]
        assert [step for step, _ in reports][:6] == [1, 2, 3, 4, 5, 6]
        assert reports[5][1]["train_loss"] < reports[1][1]["train_loss"]
    assert not [warning for warning in recwarn if "lr_scheduler" in str(warning.message)]


def test_where_a_checkpoint_is_gone_that_is_said_and_the_trial_begins_anew(first, tmp_path, epochs_trained):
    (first / "state" / "trials" / "1.pt").unlink()
    (first / "state" / "trials" / "2.pt").write_bytes(b"damaged")
    made = search(tmp_path / "longer", 4, first)
    made.run(evaluations=3)
    told = (
        "2 finished trials are trained on, from 2 to 4 epochs; 1 have no checkpoint any more and are trained"
    )
    assert told in made.heard.getvalue()
    assert epochs_trained[0] == 2 + 4 + 4, "what is damaged counts as none"


def test_a_search_in_memory_has_nowhere_to_go_on_from(first, epochs_trained):
    made = search(None, 3, first)
    made.run(evaluations=3)
    assert "0 finished trials are trained on" in made.heard.getvalue() and epochs_trained[0] == 9


@pytest.mark.parametrize(
    ("epochs", "changed"),
    [(1, {}), (4, {"batch_size": 32})],
    ids=["fewer epochs", "another setting"],
)
def test_anything_else_that_differs_is_evaluated_anew(first, tmp_path, epochs_trained, epochs, changed):
    made = search(tmp_path / "other", epochs, first, **changed)
    made.run(evaluations=2)
    assert "which are evaluated anew: evaluators.0." in made.heard.getvalue()
    assert epochs_trained[0] == 2 * epochs


def test_the_run_itself_keeps_its_epochs_and_says_how_to_go_on(first):
    with pytest.raises(InputError, match=r"evaluators.0.epochs \(was 2, is 4\).*warm_start"):
        search(first, 4).run(evaluations=3)
