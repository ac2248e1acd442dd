"""One model in this process: ``python -m benchmarks.strangers.one NAME --tool TOOL`` prints JSON."""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.strangers.catalogue import CATALOGUE, Inputs
from search import load
from search.finish.export import ONNX, export, export_onnx
from spaces import ChannelSpace, InputError
from spaces.calling import Example, call
from spaces.structures import mapped

Outcome = dict[str, Any]
"""``state``: works, wrong, refused or error; ``reason`` where it does not work; figures."""

_PRECISE, _ROUNDED, _SINGLE, _FRESH = 1e-9, 1e-5, 1e-3, 1e-4
_ONNX = 3  # every third model is also written as ONNX
_SHARES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def made(name: str) -> tuple[nn.Module, Inputs]:
    """Return a model in eval mode, with norm statistics as training would leave them and no weights at zero,
    and its inputs; the same ones in every process.
    """
    torch.manual_seed(0)
    stranger = CATALOGUE[name]
    model, inputs = stranger.make().eval(), stranger.inputs()
    for parameter in model.parameters():
        if parameter.ndim > 1 and bool((parameter == parameter.flatten()[0]).all()):  # nothing comes through
            nn.init.normal_(parameter, parameter.mean().item(), 0.05)
    for module in model.modules():
        if isinstance(getattr(module, "running_var", None), Tensor):
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if "norm" in type(module).__name__.lower():
            for parameter in module.parameters(recurse=False):
                nn.init.normal_(parameter, parameter.mean().item(), 0.1)
    return model, inputs


def tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors of real numbers among what a model gives."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def size(model: nn.Module) -> int:
    """Return how many parameters a model has."""
    return sum(parameter.numel() for parameter in model.parameters())


def secateur(name: str) -> Outcome:
    """Halve every group; compare, train a step, write, read in a fresh process."""
    model, inputs = made(name)
    start = time.process_time()
    try:
        space = ChannelSpace(model, inputs)
    except InputError as error:
        return {"state": "refused", "reason": str(error), "seconds": time.process_time() - start}
    seconds = time.process_time() - start
    genome = _half(space)
    compact = space.build(genome)
    found = {"seconds": seconds, "groups": len(space.segments), "left": size(compact) / size(model)}
    reason = (
        ("" if found["left"] < 1 else "it is not smaller")
        or _differs(space, genome)
        or _step(compact, model, inputs)
        or _fresh(name, space, genome, space.build(genome), inputs)
    )
    if [*CATALOGUE].index(name) % _ONNX == 0:
        found["onnx"] = _onnx(compact, space.example)
    return {"state": "wrong" if reason else "works", "reason": reason} | found


def _onnx(compact: nn.Module, example: Example) -> str:
    """Return "equal", or why there is no ONNX file that computes the same in onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        return str(export_onnx(compact.eval(), example, Path(folder) / ONNX).get("missing", "equal"))


def _half(space: ChannelSpace) -> np.ndarray:
    rng, genome = np.random.default_rng(0), space.base.copy()
    for part in space.slices.values():
        width = part.stop - part.start
        genome[part.start + rng.permutation(width)[: width // 2]] = 0
    return space.repair(genome[None])[0]


def _differs(space: ChannelSpace, genome: np.ndarray) -> str:
    """Hold it against the full model with zeroed channels, in double precision where its code allows that."""
    try:
        difference, limit = space.difference(genome, precise=True), _PRECISE
    except Exception:
        difference, limit = space.difference(genome), _SINGLE
    if difference > limit and _in_between(space):
        limit = _ROUNDED
    return "" if difference <= limit else f"it differs by {difference:.1e}"


class _Single(TorchDispatchMode):
    """Notes whether anything is computed in single precision."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.seen |= any(isinstance(x, Tensor) and x.dtype == torch.float32 for x in tree_leaves(found))
        return found


def _in_between(space: ChannelSpace) -> bool:
    """Whether a model in double precision computes something in single precision, as its code says."""
    precise = copy.deepcopy(space.model).double()
    inputs = mapped(lambda x: x.double() if x.is_floating_point() else x, space.example)
    with torch.no_grad(), _Single() as watch:
        call(precise, inputs)
    return watch.seen


def _step(compact: nn.Module, base: nn.Module, inputs: Inputs) -> str:
    """Take one step against the gradient in eval mode, by the mean square of all outputs; as long as some
    share of the weights' own length, since random weights may give outputs of any size.
    """

    def loss(model: nn.Module) -> Tensor:
        return torch.stack([output.square().mean() for output in tensors(call(model, inputs))]).mean()

    def reached(model: nn.Module) -> set[str]:
        loss(model).backward()
        return {key for key, value in model.named_parameters() if value.grad is not None}

    untouched = copy.deepcopy(compact)  # some models keep what they computed
    expected, before = reached(copy.deepcopy(base)), float(loss(compact))
    gone = (
        expected - reached(compact) - {key for key in expected if key not in dict(compact.named_parameters())}
    )
    if gone:
        return f"no gradient reaches {sorted(gone)[0]}"
    gradients = [parameter for parameter in compact.parameters() if parameter.grad is not None]
    if not all(parameter.grad.isfinite().all() for parameter in gradients if parameter.grad is not None):
        return "a gradient is not finite"
    length = _length([parameter.detach() for parameter in gradients])
    slope = _length([parameter.grad for parameter in gradients if parameter.grad is not None])
    for share in _SHARES:
        again = copy.deepcopy(untouched)
        with torch.no_grad():
            for own, parameter in zip(again.parameters(), compact.parameters(), strict=True):
                if parameter.grad is not None:
                    own -= share * length / slope * parameter.grad
            if float(loss(again)) < before:
                return ""
    return "a step does not lower the loss"


def _length(values: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all entries, in double precision."""
    return float(torch.stack([value.double().norm() for value in values]).norm())


def _fresh(name: str, space: ChannelSpace, genome: np.ndarray, compact: nn.Module, inputs: Inputs) -> str:
    """Write it, and have another process read it and say what it computes."""
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder), 0, genome, compact, space, space.example, base=space.model, onnx=False)
        with torch.no_grad():
            expected = tensors(call(compact.eval(), inputs))
        order = [sys.executable, "-m", "benchmarks.strangers.one", name, "--read", folder]
        run = subprocess.run(order, capture_output=True, text=True, check=False)
        if run.returncode:
            return f"it cannot be read: {run.stderr.strip().splitlines()[-1]}"
        found = load_file(Path(folder) / "outputs.safetensors")
        for place, value in enumerate(expected):
            scale = max(1.0, float(value.abs().nan_to_num(0, 0, 0).max())) if value.numel() else 1.0
            if not torch.allclose(found[str(place)], value, atol=_FRESH * scale, rtol=0, equal_nan=True):
                return "it computes something else in a fresh process"
    return ""


def read(name: str, folder: Path) -> None:
    """Read a model that was written, and write what it gives."""
    model, inputs = made(name)
    again = load(folder, model=model)
    with torch.no_grad():
        outputs = tensors(call(again, inputs))
    save_file(
        {str(place): value.contiguous().clone() for place, value in enumerate(outputs)},
        folder / "outputs.safetensors",
    )


def torch_pruning(name: str) -> Outcome:
    """Halve all layers but the last by Torch-Pruning."""
    library = importlib.import_module("torch_pruning")

    def prune(model: nn.Module, inputs: Inputs) -> nn.Module:
        kinds = nn.Linear | nn.modules.conv._ConvNd
        layers = [module for module in model.modules() if isinstance(module, kinds)]
        library.pruner.BasePruner(
            model,
            inputs,
            importance=library.importance.RandomImportance(),
            pruning_ratio=0.5,
            ignored_layers=layers[-1:],
        ).step()
        return model

    return _shrunk(name, prune)


def torch_kirigami(name: str) -> Outcome:
    """Take one channel of every axis away by torch-kirigami, or else the first that it can: its own search
    asks for every channel by itself, which takes minutes for a ResNet.
    """
    library = importlib.import_module("torch_kirigami")
    pruning = importlib.import_module("torch_kirigami.pruning")

    def prune(model: nn.Module, inputs: Inputs) -> nn.Module:
        given = {"kwargs": dict(inputs)} if isinstance(inputs, Mapping) else {"args": tuple(inputs)}
        pruner = pruning.Pruner(model, graph=library.DependencyGraph.build(model, **given))
        firsts = {candidate.axis: candidate.remove for candidate in pruner.discover_candidates().candidates}
        whole = tuple(selection for remove in firsts.values() for selection in remove)
        for remove in (whole, *firsts.values()):
            try:
                pruned: nn.Module = pruner.apply(pruner.plan_remove(remove))[0]
                return pruned
            except pruning.PlanningError as error:
                reason = error
        raise reason

    return _shrunk(name, prune)


def _shrunk(name: str, prune: Callable[[nn.Module, Inputs], nn.Module]) -> Outcome:
    """Say whether another tool makes a model smaller; of outputs, only shapes are looked at."""
    model, inputs = made(name)
    before, shapes = size(model), [value.shape for value in tensors(call(model, inputs))]
    start = time.process_time()
    pruned = prune(model, inputs)
    seconds = time.process_time() - start
    same = [value.shape for value in tensors(call(pruned, inputs))] == shapes
    left = size(pruned) / before
    reason = "outputs have another shape" if not same else "" if left < 1 else "it is not smaller"
    return {"state": "wrong" if reason else "works", "reason": reason, "seconds": seconds, "left": left}


TOOLS: dict[str, Callable[[str], Outcome]] = {
    "secateur": secateur,
    "torch_pruning": torch_pruning,
    "torch_kirigami": torch_kirigami,
}


def attempt(name: str, tool: str) -> Outcome:
    """Return what a tool makes of a model in this process."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    try:
        return TOOLS[tool](name)
    except Exception as error:
        text = str(error).strip().splitlines()
        return {"state": "error", "reason": f"{type(error).__name__}: {text[0] if text else ''}"}


def within(cpu_seconds: int, name: str, tool: str, file: str) -> None:
    """Write what a tool makes of a model, in a process of its own, which ends where it takes longer.

    It is here since a forkserver cannot import the ``__main__`` of a package.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    Path(file).write_text(json.dumps(attempt(name, tool)))


def main() -> None:
    """Try one tool on one model, or read what another process has written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers.one")
    parser.add_argument("name", choices=CATALOGUE, metavar="NAME")
    parser.add_argument("--tool", choices=TOOLS, default="secateur")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="read this one")
    given = parser.parse_args()
    if given.read:
        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        read(given.name, given.read)
    else:
        print(json.dumps(attempt(given.name, given.tool)))


if __name__ == "__main__":
    main()
