"""The documentation runs: every Python block of docs/extending.md, with the contract suites that it names."""

import inspect
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators import Cost, Digits, Evaluators, PairTraining, Quality
from evaluators.data import Reconstruction
from evaluators.testing import EvaluatorContract
from operators.testing import CriterionContract
from search import Search
from search.coevolution import Coevolution
from search.executors import InlineExecutor
from search.loop import Budget, Loop
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from search.testing import BitSpace, Toy
from spaces import ChannelSpace, Pair, PairSpace
from spaces.models import Perceptron, ResidualNet

DOCS = Path(__file__).parent.parent / "docs"
BLOCKS = {
    section.splitlines()[0]: "\n".join(blocks)
    for section in (DOCS / "extending.md").read_text().split("\n## ")[1:]
    if (blocks := re.findall(r"```python\n(.*?)```", section, re.DOTALL))
}


def classes(title: str) -> dict:
    """Run a block as a module of its own, so that what it defines can be pickled."""
    module = types.ModuleType(f"block_{title.split()[-1]}")
    sys.modules[module.__name__] = module
    exec(compile(BLOCKS[title], f"docs/extending.md: {title}", "exec"), module.__dict__)
    return module.__dict__


def run_contract(case: object) -> None:
    """Run what pytest would collect of a class that a block defines."""
    ran = 0
    for name, method in inspect.getmembers(case, inspect.ismethod):
        if name.startswith("test_"):
            cases = [mark.args for mark in getattr(method, "pytestmark", []) if mark.name == "parametrize"]
            for value in cases[0][1] if cases else [None]:
                try:
                    method(value) if cases else method()
                except pytest.skip.Exception:
                    continue
                ran += 1
    assert ran > 5


def test_the_first_block_needs_no_tools_for_tests():
    first = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL)[0]
    assert "testing" not in first and "pytest" not in first


def test_every_block_is_short():
    parts = {
        "A mutation",
        "A pruning mutation",
        "A schedule",
        "A topology",
        "A criterion",
        "An evaluator",
        "A strategy",
        "A space",
    }
    assert set(BLOCKS) == parts
    for title, code in BLOCKS.items():
        body = code.split("\nclass Test")[0]
        assert len([line for line in body.splitlines() if line.strip()]) < 20, title


@pytest.mark.parametrize(
    ("title", "name"),
    [("A mutation", "TestFlipRun"), ("A pruning mutation", "TestUnheard"), ("A space", "TestMyNet")],
)
def test_the_contract_suites_of_the_blocks_pass(title, name):
    run_contract(classes(title)[name]())


def test_the_criterion_keeps_its_contract():
    made = classes("A criterion")["LargestWeight"]
    run_contract(type("Case", (CriterionContract,), {"criterion": lambda self: made()})())


def test_the_evaluator_keeps_its_contract():
    made = classes("An evaluator")["Margin"]

    class Case(EvaluatorContract):
        def evaluator(self):
            return made()

        def space(self):
            torch.manual_seed(0)
            return ChannelSpace(ResidualNet((4, 8)).eval(), torch.zeros(2, 1, 8, 8))

        def data(self):
            return Digits()

    run_contract(Case())


def test_the_strategy_finds_something():
    strategy = classes("A strategy")["Climber"]()
    space = BitSpace(12)
    toy = Toy(lambda genomes: {"zeros": (genomes == 0).sum(axis=1).astype(float)}, ["zeros"])
    toy.bind(space)
    ledger = Ledger(None, space)
    Loop(
        Problem(space, toy, (Objective("zeros"),)),
        strategy,
        InlineExecutor(),
        ledger,
        Budget(300),
        lag=4,
        chunk=4,
    ).run()
    values = [e.metrics["zeros"] for _, e in ledger.evaluations()]
    assert np.min(values) == 0


def test_a_custom_evaluator_serves_as_an_objective():
    margin = classes("An evaluator")["Margin"]()
    space = ChannelSpace(ResidualNet((4, 8)).eval(), torch.zeros(2, 1, 8, 8))
    evaluator = Evaluators([Cost(), Quality(), margin])
    evaluator.bind(space, Digits())
    assert "margin" in evaluator.metrics


def test_the_parts_of_a_coevolution_coevolve():
    """Cells of this graph prune by this mutation, at the steps of this schedule and at no other."""
    topology = classes("A topology")["SmallWorld"](cells=6, neighbours=2, share=0.5)
    rules = Coevolution(
        topology,
        steps=6,
        schedule=classes("A schedule")["Pulses"](p=1.0),
        pruning=[classes("A pruning mutation")["Unheard"]()],
    )
    steps = {}

    class Listener:
        def evaluated(self, evaluation, joined):
            steps[evaluation.candidate.id] = evaluation.candidate

    pair = Pair(Perceptron((64, 12, 4)), Perceptron((4, 12, 64)))
    search = Search(
        pair,
        Reconstruction(Digits(train_samples=60)),
        space=PairSpace,
        evaluators=[Cost(), PairTraining(batches=2)],
        objectives=["loss", "params"],
        strategy=rules,
        listeners=[Listener()],
    )
    assert search.run(evaluations=None).reason == "steps" and len(steps) == 6 * 7
    assert {id // 6 for id, candidate in steps.items() if "unheard" in candidate.operator} == {5}
    assert all(candidate.genome.all() == (id < 30) for id, candidate in steps.items())
    for id, candidate in steps.items():
        near = {(id // 6 - 1) * 6 + cell for cell in rules.neighbourhoods[id % 6]}
        assert set(candidate.parents) <= near
