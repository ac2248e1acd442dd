"""A study is read out of an experiment's state without running what is not allowed."""

import sys

import optuna
import pytest
from optuna import pruners, samplers
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import cloudpickle
from ray.tune.search import Searcher

from search.pruners import NonDominationPruner, TICPruner
from search.raytune.searcher import StudySearch
from spaces.errors import InputError

RAN = []
FILE = Searcher.CKPT_FILE_TMPL.format("x")


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def mark(*arguments):
    RAN.append(arguments)


class Own(samplers.RandomSampler):
    """A sampler of the user's."""


def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 1)
    trial.set_user_attr("note", [1, {"a": None}])
    return x + trial.suggest_int("n", 1, 3) + (trial.suggest_categorical("c", ["a", "b"]) == "a")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        (samplers.TPESampler(seed=0, n_startup_trials=1, multivariate=True), pruners.MedianPruner()),
        (samplers.RandomSampler(seed=1), pruners.HyperbandPruner()),
        (samplers.NSGAIISampler(population_size=2), NonDominationPruner()),
        (samplers.GPSampler(n_startup_trials=9), TICPruner()),
        (samplers.GridSampler({"x": [0.5], "n": [1, 2], "c": ["a"]}), pruners.NopPruner()),
    ],
    ids=lambda part: type(part).__name__,
)
def test_studies_of_optunas_samplers_and_all_pruners_are_read(tmp_path, sampler, pruner):
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=2)
    search = StudySearch(study, {"x": optuna.distributions.FloatDistribution(0, 1)}, metric="loss")
    search.save(str(tmp_path / FILE))
    again = StudySearch.study_of(tmp_path)
    assert again.trials == study.trials and type(again.sampler) is type(sampler)
    again.optimize(objective, n_trials=1)
    assert len(again.trials) == 3 and len(study.trials) == 2


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_search_finds_its_study_in_a_database_or_journal_and_ends_what_ray_had_not_noted(tmp_path, kind):
    file = str(tmp_path / "study")
    storage = JournalStorage(JournalFileBackend(file)) if kind == "journal" else f"sqlite:///{file}"
    study = optuna.create_study(storage=storage, sampler=samplers.RandomSampler(seed=0))
    study.ask()  # of another process: not ours to end
    search = StudySearch(study, {"x": optuna.distributions.FloatDistribution(0, 1)}, metric="loss")
    search.save(str(tmp_path / FILE))
    kept = cloudpickle.dumps(search)  # as Ray keeps it
    lost = search.suggest("late")
    again = cloudpickle.loads(kept)
    again.restore(str(tmp_path / FILE))
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "FAIL", "WAITING"]
    assert "enqueued again" in study.trials[1].user_attrs["reason"]
    assert again.suggest("new") == lost and len(study.trials) == 3


def state(tmp_path, value):
    (tmp_path / FILE).write_bytes(cloudpickle.dumps({"study": value}))
    return tmp_path


@pytest.mark.parametrize(
    "value",
    [
        Call(mark, 1),
        Call(eval, "RAN.append(1)"),
        Call(__import__, "this"),
        Call(getattr, optuna.study.Study, "optimize"),
        Call(optuna.storages.RDBStorage, "sqlite://"),
        Call(optuna.create_study),
        Call(optuna.study.load_study),
        lambda: RAN.append(1),
    ],
    ids=[
        *("own", "eval", "import", "getattr", "storage", "create_study", "load_study"),
        "function by value",
    ],
)
def test_nothing_else_is_called(tmp_path, value):
    RAN.clear()
    with pytest.raises(
        InputError, match=r"the state of the search names .*study_of\(path, allow=\["
    ) as error:
        StudySearch.study_of(state(tmp_path, value))
    assert RAN == [] and "\n" not in str(error.value)


def test_a_sampler_of_the_users_own_is_allowed_by_name_or_itself(tmp_path, monkeypatch):
    study = optuna.create_study(sampler=Own(seed=0))
    monkeypatch.setitem(sys.modules, "own_samplers", sys.modules[__name__])
    monkeypatch.setattr(Own, "__module__", "own_samplers")
    StudySearch(study, metric="loss").save(str(tmp_path / FILE))
    with pytest.raises(InputError, match=r'allow=\["own_samplers.Own"\]'):
        StudySearch.study_of(tmp_path)
    for allow in (["own_samplers.Own"], [Own]):
        assert type(StudySearch.study_of(tmp_path, allow).sampler) is Own


def test_a_damaged_state_is_one_line(tmp_path):
    (tmp_path / FILE).write_bytes(b"\x80\x05nonsense")
    with pytest.raises(InputError, match="not the state of a search"):
        StudySearch.study_of(tmp_path)
    with pytest.raises(InputError, match="no in-memory study"):
        StudySearch.study_of(state(tmp_path, "a word"))
