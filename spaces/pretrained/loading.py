"""Models of Hugging Face's transformers from local folders: JSON and safetensors, nothing is downloaded and
nothing in a folder is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, util
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from torch import nn

from spaces.channels.shrinking import Setting, Slice, shrink
from spaces.errors import InputError
from spaces.weights import put_weights

FORMAT = 1
CONFIG, WIDTHS, WEIGHTS, FOLDER = "config.json", "secateur.json", "model.safetensors", "pretrained"
GUARD = "transformers_weights"
"""What transformers looks at before it loads weights: a name that is no file of safetensors is refused."""
TASKS = {
    "audio-classification": "AutoModelForAudioClassification",
    "causal-lm": "AutoModelForCausalLM",
    "ctc": "AutoModelForCTC",
    "depth-estimation": "AutoModelForDepthEstimation",
    "features": "AutoModel",
    "image-classification": "AutoModelForImageClassification",
    "masked-lm": "AutoModelForMaskedLM",
    "multiple-choice": "AutoModelForMultipleChoice",
    "object-detection": "AutoModelForObjectDetection",
    "question-answering": "AutoModelForQuestionAnswering",
    "semantic-segmentation": "AutoModelForSemanticSegmentation",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}
_ATTENTION = ("eager", "sdpa", None)
_REFUSED = (
    "auto_map",
    "custom_pipelines",
    "quantization_config",
    "use_pretrained_backbone",
    "use_timm_backbone",
)
"""Keys of a config that name code, or weights that lie elsewhere."""


class HuggingFace(nn.Module):
    """The model in a local folder, as ``from_pretrained`` of transformers gives it, in eval mode; or a pruned
    one that a search has exported. What is made is the model itself, without anything around it.

    Args:
        path: of the folder, with ``config.json`` and weights as safetensors.
        task: what the model is for, such as ``sequence-classification``; empty: what its config says.

    Raises:
        InputError: transformers is missing, the folder is not complete, or its config names code.
    """

    def __new__(cls, path: str, task: str = "") -> nn.Module:  # type: ignore[misc]
        if task and task not in TASKS:
            raise InputError(f"HuggingFace: task {task!r}; expected one of {', '.join(TASKS)}")
        folder = _folder(path)
        config = read_config(folder)
        if (folder / WIDTHS).exists():
            return _shrunk(folder, config)
        names = config.get("architectures") or []
        if not task and (not isinstance(names, list) or len(names) != 1):
            raise InputError(f"{folder / CONFIG}: names no architecture; expected a task: {', '.join(TASKS)}")
        kind = getattr(_transformers(), TASKS[task]) if task else _architecture(names[0], folder / CONFIG)
        return _loaded(kind, folder)

    def __init__(self, path: str, task: str = "") -> None: ...


def load_pretrained(path: str | Path) -> nn.Module:
    """Return a pruned model of transformers that a search has exported, in eval mode: one that a plain config
    describes as transformers makes it, any other by the widths in ``secateur.json``.

    Args:
        path: the folder with ``config.json``, or the one of an exported model above it.

    Raises:
        InputError: naming the first thing that is missing, damaged or not allowed.
    """
    return HuggingFace(str(path))


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config in a folder.

    Raises:
        InputError: there is none, or it names code or weights that lie elsewhere.
    """
    config = _json(folder / CONFIG, "a folder that save_pretrained of transformers has written")
    for key, value in _entries(config):
        if key in _REFUSED and value:
            raise InputError(
                f"{folder / CONFIG}: has {key}; expected a config without code and other weights"
            )
        if "attn_implementation" in key and value not in _ATTENTION:
            raise InputError(f"{folder / CONFIG}: {key} {value!r}; expected eager or sdpa")
    return config


def _shrunk(folder: Path, config: dict[str, Any]) -> nn.Module:
    """Make the base model without weights, cut it as the widths say, and give it its weights."""
    file = folder / WIDTHS
    widths = _json(file, "widths that a search has exported")
    if widths.get("format") != FORMAT:
        raise InputError(f"{file}: format {widths.get('format')!r}; this version reads format {FORMAT}")
    kind = _architecture(widths.get("class"), file)
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / WEIGHTS}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != widths.get("weights"):
        raise InputError(f"{folder / WEIGHTS}: is not the file that was exported; export the model again")
    weights = load_tensors(content)
    try:
        values = {key: value for key, value in config.items() if key != GUARD}
        base = _empty(kind, kind.config_class.from_dict(values))
        base.to(next(t.dtype for t in weights.values() if t.is_floating_point()))
        slices = [Slice(**row) for row in widths["slices"]]
        model: Any = shrink(base, slices, [Setting(**row) for row in widths["attributes"]], str(file))
        state = weights | {alias: weights[name] for alias, name in widths["tied"].items()}
        _check(model, state, file)
        put_weights(model, state, assign=True)
        model.tie_weights()
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: does not fit its config ({type(error).__name__}: {reason})") from error
    return model.eval()


def _empty(kind: Any, config: Any) -> Any:
    """Return a model whose parameters take no memory; buffers, which no file holds, are there."""
    from accelerate import init_empty_weights

    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
        model = kind(config)
    model.tie_weights()
    return model


def _check(model: nn.Module, state: Mapping[str, torch.Tensor], file: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{file}: tensor {name} is {found.get(name)} in the weights and {expected.get(name)} in the "
                f"model; export the model again"
            )


def _loaded(kind: Any, folder: Path) -> nn.Module:
    try:
        with quiet():
            model = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
    except Exception as error:
        raise InputError(f"{folder}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return model.eval()


def _architecture(name: object, file: Path) -> Any:
    """Return a model class of transformers."""
    transformers = _transformers()
    kind = getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else None
    own = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not own or not str(kind.__module__).startswith("transformers.models."):
        raise InputError(f"{file}: {name!r} is no model class of transformers {transformers.__version__}")
    return kind


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    below = folder / FOLDER
    return below if not (folder / CONFIG).exists() and (below / CONFIG).exists() else folder


def _json(file: Path, expected: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); expected {expected}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file}: is no JSON object; expected {expected}")
    return found


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a config and of all its parts."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        items = part.items() if isinstance(part, dict) else []
        yield from items
        waiting += [*(value for _, value in items), *(part if isinstance(part, list) else [])]


@contextmanager
def quiet() -> Iterator[None]:
    """Have transformers show no progress bars."""
    logging = _transformers().utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _transformers() -> Any:
    if util.find_spec("transformers") is None or util.find_spec("accelerate") is None:
        raise InputError(
            "transformers or accelerate is not installed; expected the extra: pip install "
            "secateur[transformers]"
        )
    return import_module("transformers")
