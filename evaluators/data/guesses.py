"""What batches mean where nobody says so: which entries are targets, and what is learned from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from evaluators.data.task import Classification, Regression, Task
from evaluators.data.tokens import IGNORED, MultiLabel, TokenClassification
from spaces.calling import Inputs
from spaces.errors import InputError
from spaces.structures import tensors

TARGETS = ("labels", "label", "targets", "target", "y")
"""Names of targets, the first that is there counts."""
MOST_READ = 32
"""So many samples of a split are read for its fingerprint."""


def target_of(names: Collection[str]) -> str | None:
    """Return the name of the targets, None where none of the usual ones is there."""
    return next((name for name in TARGETS if name in names), None)


def named_inputs(
    batch: Mapping[str, Any], chosen: Sequence[str] | str | None, target: str | None
) -> tuple[Inputs, Any]:
    """Return the inputs and the targets of a batch by name.

    Args:
        chosen: names of the inputs, or that of the only argument; None: all tensors but the targets.
        target: name of the targets; None: the usual ones.

    Raises:
        InputError: there is none of that name.
    """
    found = target or target_of(batch)
    wanted = [chosen] if isinstance(chosen, str) else list(chosen or ())
    missing = next((name for name in [found, *wanted] if name not in batch), None)
    if found is None or missing is not None:
        raise InputError(
            f"data: a batch with {', '.join(map(str, batch))} has no {missing or 'targets'!r}; expected "
            f"target= and inputs= to name its entries"
        )
    if isinstance(chosen, str):
        return batch[chosen], batch[found]
    if chosen is None:
        wanted = [name for name in batch if name != found and tensors(batch[name])]
    return {name: batch[name] for name in wanted}, batch[found]


def chosen_names(model: nn.Module, batch: Mapping[str, Any]) -> Sequence[str] | str:
    """Return the entries of a batch that a model's ``forward`` has arguments for; where it has none of them,
    the only one there is, which goes to its first argument.

    Raises:
        InputError: several entries, and none of them is an argument.
    """
    names = [name for name in batch if name != target_of(batch) and tensors(batch[name])]
    parameters = inspect.signature(model.forward).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()) and len(names) > 1:
        return names
    taken = [name for name in names if name in parameters]
    if taken or len(names) == 1:
        return taken or names[0]
    raise InputError(
        f"data: none of {', '.join(names) or 'no tensors'} is an argument of {type(model).__name__}.forward "
        f"({', '.join(parameters)}); expected evaluators.data.Loaders(..., inputs=, target=)"
    )


def guessed_task(targets: Any) -> Task:
    """Return what targets look like: classes where they are integers, tokens' classes where some are to be
    ignored, else numbers.

    Raises:
        InputError: they are no tensor.
    """
    if not isinstance(targets, Tensor):
        raise InputError(
            f"data: targets are a {type(targets).__name__}, whose loss is not known; expected loss= and "
            f"metrics=, functions of outputs and targets"
        )
    if targets.is_floating_point():
        return Regression()
    return TokenClassification() if targets.ndim > 1 and (targets == IGNORED).any() else Classification()


TASKS: dict[str, Callable[[], Task]] = {
    "classification": Classification,
    "regression": Regression,
    "token-classification": TokenClassification,
    "causal-lm": lambda: TokenClassification(shift=True),
    "multi-label": MultiLabel,
}


def task_named(name: str) -> Task:
    """Return a task by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in TASKS:
        raise InputError(f"data: task {name!r}; expected {', '.join(TASKS)}, or a Task")
    return TASKS[name]()
