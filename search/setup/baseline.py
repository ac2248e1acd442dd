"""The base model: weights from a checkpoint, or trained once and kept."""

from __future__ import annotations

import hashlib
import math
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from evaluators.base import Report
from evaluators.data.base import Data
from evaluators.training.evaluator import Training
from evaluators.training.weights import pack_weights, unpack_weights
from search.record.identity import describe, source_digest, weights_digest
from search.record.identity_format1 import former_structure, former_training
from search.setup.shards import INDEX, Shards
from spaces.channels.trace import canonical_names
from spaces.errors import InputError
from spaces.files import write_bytes
from spaces.names import former_names, public_name
from spaces.seals import BrokenSealError, check_seal, seal
from spaces.weights import put_weights

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, ``torch.compile`` and Lightning write before the names of weights."""
_AVERAGED = "n_averaged"
"""What :class:`torch.optim.swa_utils.AveragedModel` writes beside the weights."""
_HOLDERS = ("state_dict", "model", "model_state_dict")
"""Under these names trainers keep weights, the later ones within the earlier."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_OTHERS = re.compile(r"Unsupported global: GLOBAL (\S+)")
"""How torch names what stands beside weights and would have to be executed."""


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load weights into `model`; nothing in the file is executed.

    Args:
        path: safetensors, or a file that ``torch.load(weights_only=True)`` reads: a state dict, or a mapping
            that holds one under ``state_dict``, ``model`` or ``model_state_dict``, or only one under any
            name. What wrappers write before all names (``module.``, ``_orig_mod.``, ``model.`` of Lightning,
            or whatever leaves the model's own names) is dropped. Counters of batches that are missing stay as
            they are. Or a folder of safetensors shards with ``model.safetensors.index.json`` (or the index
            itself), which are read one after the other.

    Raises:
        InputError: where the file cannot be read, or names the first key that does not fit.
    """
    folder = path.parent if path.name == INDEX else path
    if folder.is_dir():
        with _readable(folder):
            shards = Shards(folder)
            shapes = shards.shapes()
        start = _refuse_others(model, folder, shapes)
        for part in _parts(shards, folder):
            put_weights(model, {n.removeprefix(start): value for n, value in part.items()}, strict=False)
        return
    state = _read(path)
    if _AVERAGED not in model.state_dict():
        state.pop(_AVERAGED, None)
    start = _refuse_others(model, path, {name: tuple(value.shape) for name, value in state.items()})
    state = {name.removeprefix(start): value for name, value in state.items()}
    _refuse_kinds(model, path, state)
    put_weights(model, state, strict=False)  # strictness is what was looked at


def _refuse_others(model: nn.Module, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Raise :class:`InputError` where these are not the weights of a model; return what all names start with
    beside their own. A tied weight may stand there once.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    start = _start(shapes, own)
    shapes = {name.removeprefix(start): shape for name, shape in shapes.items()}
    first = canonical_names(model)
    known = {first.get(name, name) for name in shapes}
    kind = type(model).__name__
    for name, value in own.items():
        if name not in shapes and name.rpartition(".")[2] == "num_batches_tracked":
            continue  # older files have none, and torch goes without
        if first.get(name, name) not in known:
            raise InputError(
                f"checkpoint {path.name}: no {name!r}, but {', '.join(sorted(shapes)[:3]) or 'nothing'}; "
                f"expected the weights of {kind}, all {len(own)} of them"
            )
        if shapes.get(name, value.shape) != value.shape:
            raise InputError(
                f"checkpoint {path.name}: {name!r} has shape {shapes[name]}; expected "
                f"{tuple(value.shape)}, as in {kind}"
            )
    for name in shapes:
        if name not in own:
            raise InputError(
                f"checkpoint {path.name}: {name!r} is not of {kind}; expected its {len(own)} weights and no "
                f"others"
            )
    return start


def _refuse_kinds(model: nn.Module, path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise :class:`InputError` where weights cannot be copied: they are rounded to integers, sparse, or
    without values.
    """
    own = model.state_dict()
    for name, value in state.items():
        rounded = own[name].is_floating_point() and not value.is_floating_point()
        if rounded or value.is_meta or value.layout is not torch.strided:
            kind = "without values" if value.is_meta else f"of {value.dtype}, {value.layout}"
            raise InputError(f"checkpoint {path.name}: {name!r} is {kind}; expected dense {own[name].dtype}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        other = _OTHERS.search(str(error))
        text = f"{other[1]} beside the weights" if other else _COLOURS.sub("", str(error))
        reason = textwrap.shorten(text or type(error).__name__, 120, placeholder=" ...")
        raise InputError(
            f"checkpoint {path.name}: cannot be read ({reason}); expected safetensors, a folder of "
            f"safetensors shards, or weights that torch.load(weights_only=True) reads, as "
            f"torch.save(model.state_dict(), ...) writes them"
        ) from None


def _parts(shards: Shards, folder: Path) -> Iterator[dict[str, Tensor]]:
    parts = shards.parts()
    while True:
        with _readable(folder):
            part = next(parts, None)
        if part is None:
            return
        yield part


def _start(names: Collection[str], own: Collection[str]) -> str:
    """Return what wrappers wrote before all names: what is known, or what leaves the model's own names."""
    start = ""
    while prefix := next(
        (p for p in _PREFIXES if {*names} - {*own} and names and all(name.startswith(p) for name in names)),
        None,
    ):
        names, start = [name.removeprefix(prefix) for name in names], start + prefix
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    other = ".".join(part[0] for part in takewhile(lambda part: len({*part}) == 1, parts))
    needed = {name for name in own if not name.endswith(".num_batches_tracked")}
    found = {name.removeprefix(f"{other}.") for name in names}
    return f"{start}{other}." if other and needed <= found <= {*own} else start


def _read(path: Path) -> dict[str, Tensor]:
    with _readable(path):
        found = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    for key in _HOLDERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if isinstance(found, dict) and not _is_state(found):
        inner = [value for value in found.values() if _is_state(value)]
        found = inner[0] if len(inner) == 1 else found
    if not _is_state(found) and found != {}:
        raise InputError(
            f"checkpoint {path.name}: holds no weights by name{_told(found)}; expected a state dict, or one "
            f"under {', '.join(_HOLDERS)}"
        )
    return dict(found)


def _is_state(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(one, Tensor) for name, one in value.items())
    )


def _told(found: object) -> str:
    """Say what is there in the place of weights."""
    if not isinstance(found, dict):
        return f", but a {type(found).__name__}"
    others = sorted(found.items(), key=lambda item: isinstance(item[1], Tensor))[:4]
    return f", but {', '.join(f'{name} ({type(value).__name__})' for name, value in others)}"


class Baseline:
    """Trains a base model, once: what was trained before with the same start, data, settings and seed is
    loaded.

    Args:
        model: untrained; it is trained in place.
        data: to train it with.
        training: how.
        seed: of the order of the samples and whatever else is random.
        folders: where trained weights are looked for and kept; the first one that has them is believed.

    Attributes:
        key: name of the trained weights: a hash of all that they come from, known before they are.
        former_key: the name that they had in format 1.
        damaged: files that do not hold what was written, as far as :meth:`load` came upon them.
    """

    def __init__(
        self, model: nn.Module, data: Data, training: Training, seed: int, folders: Sequence[Path]
    ) -> None:
        self.model, self.data, self.training, self.seed = model, data, training, seed
        self.folders = tuple(folders)
        self.damaged: list[Path] = []
        common = {"start": weights_digest(model), "data": data.fingerprint, "seed": str(seed)}
        self.key = _key(
            describe("training", training)
            | common
            | {"model": public_name(type(model)), "structure": repr(model), "source": source_digest(model)}
        )
        with former_names():
            self.former_key = _key(
                former_training("training", training)
                | common
                | {"model": public_name(type(model)), "structure": former_structure(model)}
            )

    def load(self) -> bool:
        """Load the weights that were trained before; whether there were any that hold what was written."""
        for key in (self.key, self.former_key):
            for folder in self.folders:
                path = folder / f"{key}.safetensors"
                try:
                    content = path.read_bytes()
                except OSError:
                    continue  # not there: looked for elsewhere, or trained anew
                try:
                    check_seal(content)
                    put_weights(self.model, unpack_weights(np.frombuffer(content, np.uint8)))
                except (BrokenSealError, SafetensorError, RuntimeError):
                    if path not in self.damaged:
                        self.damaged.append(path)
                    continue
                return True
        return False

    def train(self, progress: Callable[[Report], None], device: str = "cpu") -> None:
        """Train the model and keep its weights; it is on the CPU afterwards.

        Args:
            progress: called after every epoch.
            device: where it is trained.

        Raises:
            InputError: where the training fails or diverges.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.model.to(device)
            try:
                for report in self.training.fitted(self.model, self.data):
                    progress(report)
            except (InputError, OSError):
                raise
            except Exception as error:
                raise InputError(
                    f"training: the base model cannot be trained: {type(error).__name__}: "
                    f"{' '.join(str(error).split())}"
                ) from error
            finally:
                self.model.to("cpu")  # it is traced, sliced and sent to the workers from there
        loss = report.metrics.get("train_loss", report.metrics["loss"])
        if not math.isfinite(loss):
            raise InputError(
                f"training: the loss became {loss} in epoch {report.step}; expected a lower learning_rate"
            )
        self.keep()

    def keep(self) -> None:
        """Write the weights into every folder that does not have them yet, or has them damaged."""
        packed = seal(pack_weights(self.model).tobytes())
        for folder in self.folders:
            path = folder / f"{self.key}.safetensors"
            if not path.exists() or path in self.damaged:
                write_bytes(path, packed)
        self.damaged.clear()


def _key(lines: Mapping[str, str]) -> str:
    text = "\n".join(f"{name}: {lines[name]}" for name in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
