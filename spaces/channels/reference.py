"""The masked reference: an interpreter of the full graph in which every consumer sees zeros where channels are removed.

It is used to verify only, never to score: it shares neither the slices nor the modules' code with the compact model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from spaces.channels.trace import Trace, tensors_by_name


class Reference(fx.Interpreter):
    """The full model under one genome.

    Args:
        trace: of the model in eval mode.
        loci: node name -> locus of every position along each axis where it varies (-1: always kept), for all nodes that have channels.
    """

    def __init__(
        self, trace: Trace, model: nn.Module, loci: Mapping[str, np.ndarray], genome: np.ndarray, state: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__(trace.graph, garbage_collect_values=True)
        self._trace = trace
        self._state: Mapping[str, Tensor] = tensors_by_name(model) | dict(state or {})
        keep = np.append(genome.astype(np.float32), np.float32(1))
        self._masks = {name: torch.from_numpy(keep[array]) for name, array in loci.items() if not keep[array].all()}

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the model gives for the arguments of one forward call."""
        given = iter(inputs)
        arguments: list[Any] = []
        for node in self._trace.graph.graph.find_nodes(op="placeholder"):
            if node.name in self._trace.state:
                # in-place operations of the graph must not reach the model's own buffers
                arguments.append(self._state[self._trace.state[node.name]].detach().clone())
            else:
                arguments.append(self._trace.constants[node.name] if node.name in self._trace.constants else next(given))
        with torch.no_grad():
            outputs = self.run(*arguments)
        return outputs[0] if isinstance(outputs, tuple | list) and len(outputs) == 1 else outputs

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        mask = self._masks.get(n.name)
        return value if mask is None else value * mask.to(value.dtype)
