"""Reading a study out of the state of a searcher, a pickle, without running what is not allowed."""

from __future__ import annotations

import io
import pickle
from typing import Any

from optuna import Study

from spaces.allowed import Allowed
from spaces.errors import InputError

_ROOMS = (
    "optuna.distributions",
    "optuna.pruners",
    "optuna.samplers",
    "optuna.search_space",
    "optuna.storages._in_memory",
    "optuna.study",
    "optuna.trial",
    "search.pruners",
    "search.raytune.domains",
)
"""Modules, with all below them, whose classes a study is made of: they only hold values."""

_PARTS = frozenset(
    [
        "collections.OrderedDict",
        "collections.defaultdict",
        "datetime.datetime",
        "datetime.timedelta",
        "datetime.timezone",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.numeric._frombuffer",
        "numpy.random._mt19937.MT19937",
        "numpy.random._pcg64.PCG64",
        "numpy.random._pickle.__bit_generator_ctor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        "numpy.random.bit_generator.SeedSequence",
        "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
        "optuna._gp.prior.default_log_prior",
        "optuna.samplers._tpe.sampler.default_gamma",
        "optuna.samplers._tpe.sampler.default_weights",
        "optuna.samplers._tpe.sampler.hyperopt_default_gamma",
    ]
)
"""What else samplers and trials hold."""


class _Reader(pickle.Unpickler):
    """Finds the classes of a study, and what is allowed; nothing else."""

    def __init__(self, content: bytes, allowed: Allowed) -> None:
        super().__init__(io.BytesIO(content))
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path in _PARTS:
            return super().find_class(module, name)
        if _is_within(module) and name.isidentifier():
            found = super().find_class(module, name)
            if isinstance(found, type) and _is_within(found.__module__):
                return found
        return self._allowed.find("the state of the search", path, object)


def _is_within(module: str) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in _ROOMS)


def read_study(content: bytes, allowed: Allowed) -> Study | None:
    """Return the study that a searcher's state holds; None where it holds none.

    Args:
        content: of the file.
        allowed: what may be named in it beside the classes of Optuna, and ours, that studies are made of.

    Raises:
        InputError: it names something else, or is damaged.
    """
    try:
        state = _Reader(content, allowed).load()
        study = state["study"]
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{allowed.place}: not the state of a search ({type(error).__name__}: {reason}); expected one "
            f"that StudySearch wrote"
        ) from None
    return study if isinstance(study, Study) else None
