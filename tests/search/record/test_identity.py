"""A run is known by public names, constructor arguments and what its model computes; format 1
still resumes.
"""

import contextlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import evaluators
import operators.criteria
import operators.crossover
import operators.mutation
import operators.schedules
import operators.selection
import operators.stability
import search as engine
from evaluators import Cost, Evaluator, Quality
from evaluators.data import Digits
from evaluators.inherited import channel_worth
from evaluators.inherited.channel_worth import Worth
from operators.criteria import Criterion
from operators.crossover import Crossover
from operators.mutation import BitFlip, Mutation
from operators.schedules import Schedule
from operators.selection import Selection
from operators.stability import Rule
from search import Coevolution, Evolution, Finish, Search, Strategy
from search.config.assembly import assemble
from search.config.settings import Settings
from search.record.identity import arguments, describe, source_digest, take_former_defaults
from search.record.identity_format1 import former_structure, identify
from spaces import ChannelSpace, models
from spaces.errors import InputError

ROOT = Path(__file__).parents[3]
FORMAT1 = json.loads((ROOT / "tests/fixtures/identities.json").read_text())


class Power(nn.Module):
    """A model whose structure and weights do not tell what it computes."""

    def __init__(self, power=1.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
        self.power = power

    def forward(self, x):
        # how it is computed
        return self._raised(self.layers(x))

    def _raised(self, x):
        return x * self.power


class Edited(Power):
    def forward(self, x):
        return torch.tanh(self.layers(x))


class Renamed(Power):
    """Layers and weights of `Power` under other names."""

    def __init__(self):
        super().__init__()
        self.stack = self.layers
        del self.layers

    def forward(self, x):
        """The same."""
        return self.stack(x) * self.power


def model(kind, **settings):
    torch.manual_seed(0)
    return kind(**settings)


def search(kind=Power, directory=None, strategy=None, **settings):
    parts = {"evaluators": [Cost(), Quality()], "study": False, "finish": Finish(members=0), "criteria": []}
    return Search(
        model(kind, **settings),
        Digits(),
        strategy=strategy or Evolution(population=4),
        lag=2,
        chunk=1,
        directory=directory,
        **parts,
    )


def program(kind, **settings):
    return ChannelSpace(model(kind, **settings), Digits().example()).program


# -- format 1 ------------------------------------------------------------------------------------------------


class Traced:
    """Stands for a space: neither its fingerprint nor its program is compared here."""

    fingerprint, program = "-" * 16, "-"


def identity(config, *changes):
    made = assemble(
        Settings.parse([str(ROOT / "configs" / f"{config}.yaml"), "--executor", "inline", *changes])
    )
    take_former_defaults("strategy", made.strategy, FORMAT1[config])
    return made.preparation.identity(Traced()) | identify("strategy", made.strategy) | made._order


@pytest.mark.parametrize("config", sorted(FORMAT1))
def test_every_configuration_is_still_the_run_that_format_1_wrote(config):
    assert identity(config).differences(FORMAT1[config]) == []


@pytest.mark.parametrize(
    ("config", "change", "key"),
    [
        ("digits_channels", ["--strategy.init_args.population", "24"], "strategy.population"),
        ("digits_channels", ["--seed", "1"], "seed"),
        ("digits_channels", ["--model.init_args.blocks", "2"], "model"),
        ("digits_gradual", ["--strategy.init_args.mutation.init_args.power", "0.5"], "mutation.power"),
        ("tiny", ["--training.epochs", "7"], "weights"),
        ("digits_autoencoder", ["--strategy.init_args.smallest", "0.1"], "strategy.smallest"),
    ],
)
def test_what_was_changed_since_format_1_is_named(config, change, key):
    told = identity(config, *change).differences(FORMAT1[config])
    assert any(key in text for text in told), told
    assert all(key in text or text.startswith("weights") for text in told), told


@pytest.mark.parametrize(
    ("config", "argument", "value"),
    [
        ("digits_gradual", "learning_rate", 1e-3),
        ("digits_gradual", "steps", 7),
        ("digits_tuning", "epochs", 9),
        ("digits_halving", "bias_share", 0.5),
    ],
)
def test_an_evaluator_of_format_1_with_another_setting_is_another(config, argument, value):
    evaluators = yaml.safe_load((ROOT / "configs" / f"{config}.yaml").read_text())["evaluators"]
    evaluators[-1]["init_args"][argument] = value
    told = identity(config, "--evaluators", json.dumps(evaluators)).differences(FORMAT1[config])
    assert told, "the change was not seen"
    assert any(argument in text for text in told), told


def test_a_structure_has_the_names_of_then_for_our_classes_alone():
    ours = models.DenseNet(width=2)
    assert former_structure(nn.Sequential(ours)).count("Dense(") == 1
    users = type("DenseNet", (nn.Linear,), {"__module__": "mine"})(2, 2)
    assert former_structure(users) == repr(users)


# -- constructor arguments -----------------------------------------------------------------------------------


def parts():
    """Every public part of ours that is part of an identity and can be made without arguments."""
    kinds = (
        Evaluator,
        Worth,
        Criterion,
        Mutation,
        Crossover,
        Selection,
        Schedule,
        Rule,
        Strategy,
        Coevolution,
    )
    modules = [evaluators, channel_worth, operators.criteria, operators.mutation, operators.crossover]
    modules += [operators.selection, operators.schedules, operators.stability, engine]
    for module in modules:
        for name in getattr(module, "__all__", None) or vars(module):
            kind = getattr(module, name)
            if inspect.isclass(kind) and issubclass(kind, kinds) and not inspect.isabstract(kind):
                with contextlib.suppress(TypeError):  # it cannot be made without arguments
                    yield kind, kind()


def test_every_part_tells_what_it_was_constructed_with():
    made = list(parts())
    assert len(made) > 40
    for kind, part in made:
        assert set(inspect.signature(kind).parameters) == set(arguments(part)), kind


def test_private_attributes_are_no_part_of_an_identity():
    strategy = Evolution(population=4)
    before = describe("strategy", strategy)
    strategy._cache = {"anything": 1}
    assert describe("strategy", strategy) == before
    assert before["strategy"] == "Evolution" and before["strategy.population"] == "4"


def test_what_a_user_keeps_under_another_name_is_seen():
    class Keeping(BitFlip):
        def __init__(self, rate: float = 0.5, colour: str = "red"):
            super().__init__(rate=rate)
            self.paint = colour

    Keeping.__module__ = "mine"
    assert describe("m", Keeping()) != describe("m", Keeping(colour="blue"))
    Keeping.__module__ = "operators.mutation.mine"
    with pytest.raises(TypeError, match="Keeping keeps colour under no attribute"):
        arguments(Keeping())


# -- what the model computes ---------------------------------------------------------------------------------


def test_a_program_is_what_is_computed_and_not_how_it_is_called():
    before = program(Power)
    assert program(Renamed) == before
    assert program(Edited) != before
    assert program(Power, power=2.0) != before, "a constant is part of it"


def test_an_edited_forward_is_another_run(tmp_path):
    search(directory=tmp_path / "run").run(evaluations=2)
    search(directory=tmp_path / "run").run(evaluations=3)
    edited = type("Power", (Edited,), {"__module__": Power.__module__})
    with pytest.raises(InputError, match="belongs to another run, what differs is model"):
        search(edited, directory=tmp_path / "run").run(evaluations=4)


def test_where_nothing_is_traced_the_source_of_forward_tells():
    before = source_digest(model(Power))
    assert source_digest(model(Power, power=2.0)) == before
    assert source_digest(model(Edited)) != before
    assert source_digest(nn.Linear(2, 2)) == "-", "torch's own are not the user's"


def test_programs_and_sources_are_equal_in_every_process():
    code = (
        "from tests.search.record.test_identity import *; print(program(Power), source_digest(model(Power)), "
        "identify('s', Evolution(population=4)).lines['strategy' if 0 else 's'])"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    here = (program(Power), source_digest(model(Power)), identify("s", Evolution(population=4)).lines["s"])
    assert tuple(told.stdout.split()) == here
