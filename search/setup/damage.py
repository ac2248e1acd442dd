"""What a run goes on from is what it left: weights that candidates inherit, and those of the base model."""

from __future__ import annotations

from torch import nn

from evaluators.base import Evaluator
from search.record.identity import weights_digest
from search.record.ledger import Ledger
from spaces.errors import InputError

_BASE = -1
_WEIGHTS = "base_weights"
"""Name in the ledger of the hash of the base model's trained weights."""


def check_inherited(evaluator: Evaluator, ledger: Ledger) -> None:
    """See that the weights that candidates left to others hold what was written.

    What a candidate left that has no evaluation yet does not matter: it is evaluated again.

    Raises:
        InputError: naming the first file that does not.
    """
    for id, path in evaluator.damaged().items():
        if id == _BASE or ledger.evaluation(id, arrays=False) is not None:
            whose = "the base model" if id == _BASE else f"candidate {id}"
            raise InputError(
                f"{path}: damaged; expected the weights that {whose} left to others: restore the file, or "
                f"give this run another name"
            )


def check_weights(model: nn.Module, ledger: Ledger) -> None:
    """See that a trained base model has the weights that the run began with; a run that has none noted, such
    as a new one, notes them.

    Raises:
        InputError: it has others: they were lost, and training came out differently.
    """
    digest, noted = weights_digest(model), ledger.note(_WEIGHTS)
    if noted is None:
        ledger.save_note(_WEIGHTS, digest)
        ledger.commit()
    elif noted != digest:
        raise InputError(
            f"{ledger.path}: the base model's trained weights are others than this run began with; expected "
            f"its file in the folder state: restore it, or give this run another name"
        )
