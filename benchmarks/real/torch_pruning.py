"""Torch-Pruning's Taylor importance of groups over all layers (Fang et al. 2023, arXiv 2301.12900 [P])."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.real.arms import Arm, layers_of
from benchmarks.real.ground import Clock, Ground
from spaces.calling import forward
from spaces.errors import InputError

_TRIES = 10


class TorchPruningTaylor(Arm):
    """Its pruner with ``GroupTaylorImportance``: heads and feed-forward channels, the width stays. The share
    is found by halving, for the most that is within the limit.
    """

    name = "Torch-Pruning Taylor"

    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        if find_spec("torch_pruning") is None:
            raise InputError("real: torch-pruning is not installed; expected the environment of make real")
        low, high, best = 0.0, 1.0, None
        for _ in range(_TRIES):
            share = (low + high) / 2
            model = self._pruned(ground, share)
            if ground.macs_of(model) > ground.limit:
                low = share
            else:
                high, best = share, model
        assert best is not None
        return best

    def _pruned(self, ground: Ground, share: float) -> nn.Module:
        import torch_pruning as tp

        model = copy.deepcopy(ground.teacher)
        heads: dict[nn.Module, int] = {}
        kept = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.LayerNorm)]
        for layer in layers_of(model):
            own: Any = layer
            kept += [own.attention.output.dense, own.output.dense]
            inner = own.attention.self
            heads |= dict.fromkeys((inner.query, inner.key, inner.value), inner.num_attention_heads)
        importance = tp.importance.GroupTaylorImportance()
        pruner = tp.pruner.BasePruner(
            model,
            dict(ground.data.example()),  # type: ignore[call-overload]
            importance,
            global_pruning=True,
            pruning_ratio=share,
            head_pruning_ratio=share,
            max_pruning_ratio=0.95,
            round_to=16,
            ignored_layers=kept,
            num_heads=heads,
            prune_num_heads=True,
            prune_head_dims=False,
            root_module_types=[nn.Linear],
        )
        for inputs, targets in ground.data.batches("calibration", 64):
            ground.data.loss(forward(model, inputs), targets).mean().backward()
        pruner.step()
        model.zero_grad(set_to_none=True)
        return model.eval()
