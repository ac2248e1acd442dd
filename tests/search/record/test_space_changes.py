"""A run that is called again over another space is refused by what changed, name by name."""

import pytest

from search import Finish, Search, Tuning
from search.record.ledger import Ledger
from search.testing.trial_toys import Curves
from spaces import Choice, ChoiceSpace, InputError, TrialSpace
from spaces.models import DenseNet

RATE = {"low": 1e-3, "high": 0.1, "log": True}
SPACE = {"rate": RATE, "width": {"low": 4, "high": 32}, "kind": {"choices": ["plain", "momentum"]}}
SPACE |= {"momentum": {"low": 0.0, "high": 0.5, "step": 0.1, "when": {"kind": "momentum"}}}


class Flat(Curves):
    def evaluate(self, model, candidate):
        from evaluators.base import Report

        yield Report(dict.fromkeys(self.metrics, 1.0), 1)


def run(folder, space):
    search = Search(
        space=space if not isinstance(space, dict) else TrialSpace(space),
        evaluators=[Flat()],
        objectives=["loss"],
        strategy=Tuning("random"),
        directory=folder,
        study=False,
        finish=Finish(0),
        lag=2,
        chunk=1,
    )
    return search.run(evaluations=2)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    folder = tmp_path_factory.mktemp("before") / "run"
    run(folder, SPACE)
    return folder


def without(name):
    return {key: value for key, value in SPACE.items() if key != name}


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (SPACE | {"width": {"low": 4, "high": 64}}, "space: width, high was 32, is 64;"),
        (SPACE | {"width": {"low": 2, "high": 64}}, "space: width, low was 4, is 2 and high was 32, is 64;"),
        (SPACE | {"rate": RATE | {"log": False}}, "space: rate, log was true, is false;"),
        (SPACE | {"width": {"low": 4, "high": 32, "step": 4}}, "space: width, step was 1, is 4;"),
        (
            SPACE | {"kind": {"choices": ["plain", "momentum", "adam"]}},
            "space: kind, choices were [plain, momentum], are [plain, momentum, adam];",
        ),
        (
            SPACE | {"kind": {"choices": ["momentum", "plain"]}},
            "space: kind, choices were [plain, momentum], are",
        ),
        (SPACE | {"depth": {"low": 1, "high": 3}}, "space: depth is new;"),
        (without("width"), "space: width is gone;"),
        (
            without("width") | {"size": {"low": 4, "high": 32}, "rate": RATE | {"low": 1e-4}},
            "space: width is gone, space: size is new, space: rate, low was 0.001, is 0.0001;",
        ),
        (
            SPACE | {"width": {"low": 4.5, "high": 32.0}},
            "space: width, was whole numbers 4 to 32, is numbers 4.5 to 32;",
        ),
        (
            SPACE | {"width": {"choices": [4, 32]}},
            "space: width, was whole numbers 4 to 32, is choices [4, 32];",
        ),
        (
            SPACE | {"momentum": {"low": 0.0, "high": 0.5, "step": 0.1}},
            'space: when of momentum was {"kind": ["momentum"]}, is null;',
        ),
        (
            {"width": SPACE["width"], **without("width")},
            "space: the order of the parameters was rate, width, kind, momentum, is width, rate,",
        ),
    ],
)
def test_a_parameter_that_changed_is_named(before, space, named):
    kept = (before / "ledger.db").read_bytes()
    with pytest.raises(InputError) as refusal:
        run(before, space)
    assert named in str(refusal.value) and "give this run another name" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (before / "ledger.db").read_bytes() == kept and Ledger.reader(before / "ledger.db").counts()


def test_the_same_space_goes_on(before):
    assert run(before, dict(SPACE)).counts["evaluations"] == 2


def test_the_model_of_trials_and_its_arguments_are_named(tmp_path):
    space = {"model.width": {"low": 4, "high": 8}}
    path = "spaces.models.DenseNet"
    run(tmp_path, TrialSpace(space, model={"class_path": path, "init_args": {"inputs": 64}}))
    with pytest.raises(InputError, match="space: init_args of inputs was 64, is 32;"):
        run(tmp_path, TrialSpace(space, model={"class_path": path, "init_args": {"inputs": 32}}))
    with pytest.raises(InputError, match=r"space: model was DenseNet, is tests\..*wide, space: init_args"):
        run(tmp_path, TrialSpace({"model.width": {"low": 4, "high": 8}}, model=wide))


def wide(width: int = 4) -> DenseNet:
    return DenseNet(width=width)


def net(widths, **more):
    class Net(ChoiceSpace):
        width = Choice(widths)
        locals().update(more)

        def build_from(self, **values):
            return DenseNet()

    return Net()


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (net([4, 8, 16]), "space: width, values were [4, 8], are [4, 8, 16];"),
        (net([4, 16]), "space: width, values were [4, 8], are [4, 16];"),
        (net([4, 8], depth=Choice([1, 2])), "space: depth is new;"),
    ],
    ids=["longer", "other", "new"],
)
def test_a_choice_that_changed_is_named_in_any_space(tmp_path, space, named):
    from search import RandomSearch

    def go(space):
        return Search(
            space=space,
            evaluators=[Flat()],
            objectives=["loss"],
            strategy=RandomSearch(),
            directory=tmp_path / "run",
            study=False,
            finish=Finish(0),
            lag=2,
            chunk=1,
        ).run(evaluations=2)

    go(net([4, 8]))
    with pytest.raises(InputError) as refusal:
        go(space)
    assert named in str(refusal.value)
