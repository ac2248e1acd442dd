"""The published figures of CIFAR-10 beside those of a run of yours:
``python -m benchmarks.cifar RUN_FOLDER [--json FILE]``.

The run is a finished one of configs/cifar10_resnet20.yaml or configs/cifar10_resnet56.yaml, or any other of
these networks. It claims nothing of ours: see docs/cifar.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from search.record.directory import RunDirectory
from search.record.finals import BASE, Final, load_finals
from search.record.ledger import Ledger
from spaces.errors import InputError

_NEAR = 0.03
"""Largest relative difference of a run's base model to a published one in MACs: shortcuts differ by less than
one percent.
"""


_ROUNDING = 5e-4
"""Published shares have three digits: so much more counts as the same."""


@dataclass(frozen=True)
class Published:
    """A result as published.

    Attributes:
        network: whose channels were pruned.
        macs: of the base model; what others call FLOPs, or two times as many.
        method: and its authors.
        base: accuracy of the base model, in percent.
        pruned: accuracy after pruning and fine-tuning, in percent.
        share: MACs that were left, of the base model's.
    """

    network: str
    macs: float
    method: str
    base: float
    pruned: float
    share: float


FASTNAS = "FastNAS (NVIDIA modelopt)"
DEPGRAPH = "Torch-Pruning (Fang et al. 2023)"
PUBLISHED = (
    Published("ResNet-20", 40.6e6, FASTNAS, 90.9, 90.3, 59.2 / 81.2),
    Published("ResNet-56", 125.5e6, DEPGRAPH, 93.53, 93.46, 1 / 2.11),
    Published("ResNet-56", 125.5e6, f"{DEPGRAPH}, sparse training", 93.53, 93.77, 1 / 2.13),
    Published("ResNet-56", 125.5e6, f"{DEPGRAPH}, sparse training", 93.53, 93.64, 1 / 2.57),
)


@dataclass(frozen=True)
class Row:
    """A published result, and what a run has at no more of the MACs; None where it has nothing.

    Attributes:
        published: the result.
        base: test accuracy of the run's base model, fine-tuned as its members are, in percent.
        pruned: test accuracy of the member, in percent.
        share: its MACs, of the base model's.
        candidate: its number.
    """

    published: Published
    base: float | None = None
    pruned: float | None = None
    share: float | None = None
    candidate: int | None = None


def beside(finals: Sequence[Final]) -> list[Row]:
    """Hold the finished members of a run against every published result of its network.

    Of the members whose MACs are within the published share, the one of the lowest loss on the search split
    counts: the test split chooses nothing.

    Raises:
        InputError: no fine-tuned base model, or one of which no figures are published here.
    """
    base = next((final for final in finals if final.id == BASE and not final.reason), None)
    if base is None or "test_accuracy" not in base.test:
        raise InputError(
            "run: no fine-tuned base model with a test accuracy; expected a finished run of classes, "
            "finish.base on"
        )
    whole = base.realised["macs"]
    network = [published for published in PUBLISHED if abs(whole / published.macs - 1) <= _NEAR]
    if not network:
        known = ", ".join(dict.fromkeys(f"{p.network} ({p.macs / 1e6:.1f} M)" for p in PUBLISHED))
        raise InputError(f"run: its base model has {whole / 1e6:.1f} M MACs; expected that of {known}")
    members = [final for final in finals if final.id != BASE and not final.reason]
    return [_row(published, base, members) for published in network]


def _row(published: Published, base: Final, members: Sequence[Final]) -> Row:
    """Return the best member that is small enough beside a published result."""
    whole, accuracy = base.realised["macs"], 100 * base.test["test_accuracy"]
    most = (published.share + _ROUNDING) * whole
    small = [final for final in members if final.realised["macs"] <= most]
    if not small:
        return Row(published, accuracy)
    best = min(small, key=lambda final: final.searched["loss"])
    return Row(published, accuracy, 100 * best.test["test_accuracy"], best.realised["macs"] / whole, best.id)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| network | published | base | pruned | MACs left | yours: base | pruned | MACs left | candidate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        p = row.published
        cells = [p.network, p.method, f"{p.base:g}", f"{p.pruned:g}", _percent(p.share)]
        cells.append("" if row.base is None else f"{row.base:.2f}")
        if row.pruned is None or row.share is None:
            cells += ["no member as small", "", ""]
        else:
            cells += [f"{row.pruned:.2f}", _percent(row.share), str(row.candidate)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def finished(folder: str) -> list[Final]:
    """Return the fine-tuned members of a run and its base model.

    Raises:
        InputError: no run there, or one that was not fine-tuned yet.
    """
    with contextlib.closing(Ledger.reader(RunDirectory.open(folder).ledger)) as ledger:
        finals = load_finals(ledger)
    if not finals:
        raise InputError(f"{folder}: nothing has been fine-tuned yet; expected a run that has ended")
    return finals


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0, or 2 with one line where there is none."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cifar", description="Published figures of CIFAR-10 beside those of a run."
    )
    parser.add_argument("run", metavar="RUN_FOLDER", help="of a finished run, as runs/cifar10-resnet56")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    given = parser.parse_args(arguments)
    try:
        rows = beside(finished(given.run))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
