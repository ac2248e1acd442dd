"""What it costs to plan a model, verified: CPU seconds and memory, each model in a process of its own, and
what a second start costs, when the plan is in the cache.

    python -m benchmarks.planning --json FILE

One thread. Seconds are CPU seconds from the loaded model to the finished space; importing torch's exporter,
which any model of a process needs once, stands beside them. Memory is the largest resident set less that with
the model loaded, over the model's bytes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import harness
from spaces import ChannelSpace
from spaces.channels.remembered import VARIABLE

TOKENS = 16


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(*projection) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class ResNet18(nn.Module):
    """The 18 layers of He et al. 2016 for ImageNet, 11.7 M parameters. [P]"""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        widths = ((64, 64), (64, 128), (128, 256), (256, 512))
        self.stages = nn.Sequential(
            *(nn.Sequential(Block(a, b, 1 + (a < b)), Block(b, b, 1)) for a, b in widths)
        )
        self.head = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class Hidden(nn.Module):
    """A BERT of transformers; gives its hidden states."""

    def __init__(self, **config: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.bert = BertModel(BertConfig(**config), add_pooling_layer=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state


class Llama(nn.Module):
    """A Llama of transformers; gives its logits."""

    def __init__(self, **config: int) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        self.llama = LlamaForCausalLM(LlamaConfig(**config, use_cache=False))

    def forward(self, ids: Tensor) -> Tensor:
        return self.llama(input_ids=ids).logits


def bert(hidden: int, layers: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return a BERT of so many layers, 12 heads each, and two sentences."""
    model = Hidden(hidden_size=hidden, num_hidden_layers=layers, intermediate_size=4 * hidden)
    return model, (torch.randint(0, 30522, (2, TOKENS)), torch.ones(2, TOKENS, dtype=torch.long))


def llama() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return a Llama of 268 M parameters and two sentences."""
    sizes = {"hidden_size": 1024, "num_hidden_layers": 16, "intermediate_size": 2752}
    return Llama(**sizes, num_attention_heads=16), (torch.randint(0, 32000, (2, TOKENS)),)


MODELS: dict[str, tuple[Callable[[], tuple[nn.Module, tuple[Tensor, ...]]], float]] = {
    "resnet18": (lambda: (ResNet18(), (torch.randn(2, 3, 64, 64),)), 3),
    "minilm": (lambda: bert(384, 6), 8),
    "bert_base": (lambda: bert(768, 12), 40),
    "llama_268m": (llama, 120),
}
"""Name -> the model with its example, and the seconds that it may take."""
MEMORY = 5.0
"""Largest growth over the model's bytes."""


def planned(name: str) -> dict[str, Any]:
    """Plan a model in this process, and say what it cost."""
    torch.set_num_threads(1)
    began = time.process_time()
    import_module("torch.export._trace")  # what torch.export loads when it is first used
    loading = time.process_time() - began
    torch.manual_seed(0)
    model, example = MODELS[name][0]()
    size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    loaded, began, wall = psutil.Process().memory_info().rss, time.process_time(), time.monotonic()
    space = ChannelSpace(model.eval(), example)
    seconds, wall = time.process_time() - began, time.monotonic() - wall
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds_to_plan": seconds,
        "wall_seconds": wall,
        "exporter_seconds": loading,
        "memory_over_model": max(0.0, (largest - loaded) / size),
        "model_mb": size / 1e6,
        "groups": len(space.segments),
        "fingerprint": space.fingerprint[:16],
    }


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings; quick: of the two smaller models."""
    figures: dict[str, Any] = {}
    for name in [*MODELS][: 2 if quick else None]:
        with tempfile.TemporaryDirectory() as cache:
            first, second = (_in_own_process(name, cache) for _ in range(2))
        first["second_start_seconds"] = second["seconds_to_plan"]
        first["same_plan"] = first["fingerprint"] == second["fingerprint"]
        figures |= {f"{name}_{figure}": value for figure, value in first.items()}
    limits = {name: seconds for name, (_, seconds) in MODELS.items()}
    settings = {"tokens": TOKENS, "image": 64, "batch": 2}
    return figures, settings | {"limit_seconds": limits, "limit_memory_over_model": MEMORY}


def _in_own_process(name: str, cache: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.planning", "--model", name],
        env=os.environ | {VARIABLE: cache, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--model"]:
        print(json.dumps(planned(sys.argv[2])))
    else:
        harness.main("planning", measure)
