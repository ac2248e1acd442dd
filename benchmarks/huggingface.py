"""Models of Hugging Face's transformers that are pruned, saved, and loaded in another process.

Fourteen architectures with tiny configs, random weights and uneven norms. Each is pruned at random twice.
With ``uniform: true`` a plain config has to describe what is left: a process that knows no Secateur loads the
folder by ``from_pretrained`` and has to compute the same. Without, the widths stand in ``secateur.json``: a
process that knows nothing of the search loads the folder by ``load_pretrained``, and plain transformers has
to refuse it, also with ``ignore_mismatched_sizes``. Equal: within 1e-6 of the largest output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import nn

from benchmarks import harness
from benchmarks.architectures import ARCHITECTURES, Inputs, architecture
from spaces import ChannelSpace
from spaces.outputs import outputs_of, tensors_in
from spaces.pretrained.saving import save_pretrained

EQUAL = 1e-6
QUICK = ("BERT", "Llama", "ResNet", "CLIP")
_READ = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import load_file

def differences(load):
    found = {}
    for name in sys.argv[1:]:
        folder = Path(name)
        inputs, expected = load_file(folder / "inputs"), load_file(folder / "expected")
        model = load(folder / "model").eval()
        for config in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
            config.use_cache = False
        with torch.no_grad():
            tensors = []
            def walk(value):
                if isinstance(value, torch.Tensor):
                    tensors.append(value)
                elif isinstance(value, dict):
                    [walk(item) for item in value.values()]
                elif isinstance(value, (list, tuple)):
                    [walk(item) for item in value]
            walk(model(**inputs))
        found[name] = max(
            float((a - b).abs().max() / max(1, b.abs().max())) if a.shape == b.shape else float("inf")
            for a, b in zip(tensors, (expected[str(i)] for i in range(len(expected))), strict=True)
        )
    return found
"""
_PLAIN = """
import transformers

def load(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    return getattr(transformers, config["architectures"][0]).from_pretrained(folder, **settings)

print(json.dumps(differences(load)))
"""
_OURS = """
from secateur import load_pretrained
print(json.dumps(differences(load_pretrained)))
"""
_REFUSED = """
import transformers
refused = {}
for name in sys.argv[1:]:
    config = json.loads((Path(name) / "model" / "config.json").read_text())
    kinds = [getattr(transformers, config["architectures"][0]), transformers.AutoModel]
    refused[name] = 0
    for kind in kinds:
        for settings in ({}, {"ignore_mismatched_sizes": True}):
            try:
                kind.from_pretrained(Path(name) / "model", **settings)
            except Exception:
                refused[name] += 1
print(json.dumps({name: count == 4 for name, count in refused.items()}))
"""


def prune(name: str, uniform: bool, folder: Path) -> dict[str, Any]:
    """Prune an architecture at random and write it with inputs and outputs into a folder; return what was
    kept.
    """
    model, inputs = architecture(name)
    space = ChannelSpace(model, inputs, uniform=uniform)
    genome = space.sample(1, np.random.default_rng(1))[0]
    if genome.all():  # nothing would be shown
        genome = space.repair(space.base & (np.arange(space.length) % 2)[None].astype(np.uint8))[0]
    compact = space.build(genome).eval()
    folder.mkdir(parents=True)
    reason = save_pretrained(folder / "model", space, genome, compact)
    _keep(folder, compact, inputs)
    sizes = [sum(parameter.numel() for parameter in m.parameters()) for m in (compact, model)]
    return {"plain": not reason, "kept": sizes[0] / sizes[1], "groups": len(space.segments)}


def _keep(folder: Path, compact: nn.Module, inputs: Inputs) -> None:
    tensors = tensors_in(outputs_of(compact, inputs))
    save_file({key: value.contiguous() for key, value in inputs.items()}, folder / "inputs")
    save_file(
        {str(i): tensor.detach().contiguous().clone() for i, tensor in enumerate(tensors)},
        folder / "expected",
    )


def in_fresh_process(script: str, folders: Sequence[Path], isolated: bool) -> dict[str, Any]:
    """Run a script over folders in a new process, which does not find our packages where it is isolated."""
    where = ["-I"] if isolated else []
    command = [sys.executable, *where, "-c", textwrap.dedent(_READ + script), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def round_trips(names: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Return what became of every architecture."""
    rows: dict[str, dict[str, Any]] = {}
    uniform = {name: folder / name / "uniform" for name in names}
    free = {name: folder / name / "free" for name in names}
    for name in names:
        tied, own = prune(name, True, uniform[name]), prune(name, False, free[name])
        rows[name] = {
            "groups_uniform": tied["groups"],
            "kept_uniform": tied["kept"],
            "plain": tied["plain"],
            "groups": own["groups"],
            "kept": own["kept"],
            "plain_without": own["plain"],
        }
    plain = in_fresh_process(_PLAIN, [uniform[name] for name in names if rows[name]["plain"]], True)
    ours = in_fresh_process(_OURS, [free[name] for name in names], False)
    refused = in_fresh_process(_REFUSED, [free[n] for n in names if not rows[n]["plain_without"]], True)
    for name, row in rows.items():
        row["difference_uniform"] = plain.get(str(uniform[name]), float("inf"))
        row["difference"] = ours[str(free[name])]
        row["refused"] = row.pop("plain_without") or refused[str(free[name])]
        row["works"] = (
            row["plain"]
            and row["refused"]
            and max(row["difference_uniform"], row["difference"]) <= EQUAL
            and max(row["kept_uniform"], row["kept"]) < 1
        )
    return rows


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    names = QUICK if quick else tuple(ARCHITECTURES)
    with tempfile.TemporaryDirectory() as folder:
        rows = round_trips(names, Path(folder))
    figures = {"huggingface_round_trip": sum(row["works"] for row in rows.values()), "architectures": rows}
    return figures, {"architectures": len(names), "equal": EQUAL}


if __name__ == "__main__":
    harness.main("huggingface", measure)
