"""What a run needs of its model and data besides goals, checked before any of it is paid for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from torch.nn.parameter import is_lazy

from evaluators.base import Evaluator
from evaluators.data.base import Data
from evaluators.data.given import data_of
from evaluators.randomness import Randomness
from evaluators.rehearsal import check_data, check_tensors, check_trainable
from spaces.base import Masked, Sliced, Space, Trained
from spaces.channels.wrappers import refuse_wrapped
from spaces.errors import InputError


@dataclass(frozen=True)
class Needs:
    """What is asked of model and data beyond what the evaluators say.

    Attributes:
        base: candidates come from the base model, which is evaluated first.
        finishing: members are measured on data after the search.
        tuning: and fine-tuned by gradients before, unless the search trains what it builds.
        training: the base model is trained first.
        scoring: the base model is scored with the loss.
        own_tuning: members are tuned by a function of the user's.
        quantising: samples of the calibration split say which values activations have.
    """

    base: bool = True
    finishing: bool = False
    tuning: bool = False
    training: bool = False
    scoring: bool = False
    own_tuning: bool = False
    quantising: bool = False


def check_model(model: object) -> None:
    """See that a base model is one, and no wrapper around one.

    Raises:
        InputError: what is expected in its place.
    """
    if model is None:
        return
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"model: {what}; expected an object of a torch.nn.Module, as Net()")
    refuse_wrapped(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            lacks = "has no shape before the first call" if is_lazy(tensor) else "is on the device meta"
            raise InputError(f"model: {name!r} {lacks}; expected weights with values")


def in_type_of(data: Any, model: nn.Module | None, space: object, seed: int) -> Data:
    """Return data, loaders and datasets wrapped, whose floats have the type of the parameters of what is
    searched, where these have one type and the data can be cast.

    Args:
        model: the base model; None: that of the space, or what it builds.
        space: the space, or a function that makes it.

    Raises:
        InputError: they are no data.
    """
    if model is None and isinstance(space, Sliced | Masked):
        model = space.model
    data = data_of(data, model)
    if type(data).cast is Data.cast:
        return data
    if model is None and isinstance(space, Space):
        with Randomness(seed):
            model = _model(space, False)
    types = {p.dtype for p in model.parameters() if p.is_floating_point()} if model is not None else set()
    return data.cast(types.pop()) if len(types) == 1 else data


def check_needs(needs: Needs, space: Space, evaluator: Evaluator, data: Data | None, seed: int) -> None:
    """See that loss, metrics and gradients are there for what will ask for them: a model of the space runs
    on the first samples. No random number outside is drawn, and the space stays as it is.

    Raises:
        InputError: of the first thing that does not fit.
    """
    if data is None:
        if needs.finishing:
            raise InputError(
                "data: missing; expected data to fine-tune and test members of the front with, or "
                "finish.members 0"
            )
        return
    if needs.quantising and next(iter(data.batches("calibration", 1)), None) is None:
        raise InputError(
            "finish.quantise: the calibration split is empty; expected samples that tell the ranges of "
            "activations, or null"
        )
    built_whole = isinstance(space, Trained)
    if built_whole and needs.own_tuning:
        raise InputError(
            f"finish.tune: {type(space).__name__} has its models trained by the evaluator; expected null"
        )
    tuning = needs.tuning and not built_whole
    trained = not built_whole and (needs.training or tuning or evaluator.trains)
    known = needs.base and space.base is not None and not built_whole
    if not (trained or evaluator.measures or needs.finishing or needs.scoring):
        return
    with Randomness(seed):
        model = _model(space, known)
        if model is None:
            return
        check_tensors(model)
        if trained and known:
            alone = tuning and not (needs.training or evaluator.trains)
            check_trainable(model, "; or finish.epochs 0, which exports without fine-tuning" * alone)
        check_data(model, data, known=known, trained=trained and known)


def _model(space: Space, known: bool) -> nn.Module | None:
    """Return the whole base model, else one drawn at random; None where it cannot be built, which is no fault
    of the others.
    """
    if known:
        assert space.base is not None
        return space.build(space.base)
    try:
        return space.build(space.sample(1, np.random.default_rng(0))[0])
    except Exception:
        return None
