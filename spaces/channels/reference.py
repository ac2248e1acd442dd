"""The masked reference: an interpreter of the full graph in which every consumer sees zeros where channels
are removed.

Normalisations and softmax over channels see the kept ones only. It is used to verify only, never to score: it
shares neither the slices nor the modules' code with the compact model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from spaces.channels.rules import operation_name
from spaces.channels.rules.recurrent import GATES
from spaces.channels.trace import Trace, tensors_by_name
from spaces.structures import leaves

Keeps = Sequence[Tensor | None]
"""For every axis of a value the bool mask ``(size,)`` of what is kept, None where all is."""


class Reference(fx.Interpreter):
    """The full model under one genome.

    Args:
        trace: of the model in eval mode.
        loci: node name -> for every axis the loci of its positions, ``(size,)`` or ``(levels, size)``, or
            None; of nodes with channels.
        weights: tensor name -> the same, for recurrent layers, which feed what they give to themselves.
        skips: what a block gives -> what takes its place, by node names, for blocks that are left out.
        lent: parameters are handed over as they are, not as copies: in-place operations of the graph reach
            them.
    """

    def __init__(
        self,
        trace: Trace,
        model: nn.Module,
        loci: Mapping[str, Sequence[np.ndarray | None]],
        genome: np.ndarray,
        state: Mapping[str, Tensor] | None = None,
        weights: Mapping[str, Sequence[np.ndarray | None]] | None = None,
        skips: Mapping[str, str] | None = None,
        lent: bool = False,
    ) -> None:
        super().__init__(trace.graph, garbage_collect_values=not skips)
        self._skips, self._lent = skips or {}, lent
        self._trace = trace
        self._state: Mapping[str, Tensor] = tensors_by_name(model) | dict(state or {})
        keep = np.append(genome.astype(bool), True)
        found = {name: _keeps(axes, keep) for name, axes in loci.items()}
        self._keeps = {name: keeps for name, keeps in found.items() if any(k is not None for k in keeps)}
        self._weights = {name: _keeps(axes, keep) for name, axes in (weights or {}).items()}

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the leaves of what the model gives for the arguments of one forward call, as the example
        gave them; one alone as it is.
        """
        given = iter(leaves((inputs, [named[name] for name in self._trace.names])))
        arguments: list[Any] = []
        for node in self._trace.graph.graph.find_nodes(op="placeholder"):
            if node.name in self._trace.state:
                # in-place operations of the graph must not reach the model's own buffers
                own = self._state[self._trace.state[node.name]]
                is_lent = self._lent and isinstance(own, nn.Parameter)
                arguments.append(own.detach() if is_lent else own.detach().clone())
            else:
                arguments.append(
                    self._trace.constants[node.name] if node.name in self._trace.constants else next(given)
                )
        with torch.no_grad():
            outputs = self.run(*arguments)
        return outputs[0] if len(outputs) == 1 else outputs

    def run_node(self, n: fx.Node) -> Any:
        settings = n.meta.get("autocast")
        with (
            torch.autocast(settings[0], settings[1], settings[2], settings[3]) if settings else nullcontext()
        ):
            value = self._run(n)
        if n.name in self._skips:
            value = next(v for node, v in self.env.items() if node.name == self._skips[n.name])
        keeps = self._keeps.get(n.name)
        return value if keeps is None else _masked(value, keeps)

    def _run(self, n: fx.Node) -> Any:
        name = operation_name(n.target) if n.op == "call_function" else ""
        if name.startswith("_assert_tensor_metadata"):  # of what is cast, which may be in double precision
            return None
        if name.split(".")[0] in GATES:
            return self._recurrent(n)
        kept = self._keeps.get(n.args[0].name) if name and n.args and isinstance(n.args[0], fx.Node) else None
        normalise = _NORMS.get(name.split(".")[0])
        if kept is None or normalise is None:
            return super().run_node(n)
        arguments, keywords = self.fetch_args_kwargs_from_env(n)
        result = normalise(kept, *arguments, **keywords)
        return super().run_node(n) if result is None else result

    def _recurrent(self, n: fx.Node) -> Any:
        """Run a recurrent layer whose removed units are not seen by the next step."""
        arguments, keywords = self.fetch_args_kwargs_from_env(n)
        weights = []
        for node, weight in zip(n.args[2], arguments[2], strict=True):  # type: ignore[arg-type]
            keeps = self._weights.get(self._trace.state.get(node.name, ""), ())
            columns = keeps[1] if len(keeps) > 1 else None
            weights.append(weight if columns is None else weight * columns.to(weight.dtype))
        return n.target(*arguments[:2], weights, *arguments[3:], **keywords)  # type: ignore[operator]


def _keeps(axes: Sequence[np.ndarray | None], keep: np.ndarray) -> list[Tensor | None]:
    found: list[Tensor | None] = []
    for loci in axes:
        kept = None if loci is None else keep[loci] if loci.ndim == 1 else keep[loci].all(axis=0)
        found.append(None if kept is None or kept.all() else torch.from_numpy(kept))
    return found


def _masked(value: Tensor, keeps: Keeps) -> Tensor:
    for dim, kept in enumerate(keeps):
        if kept is not None:
            value = torch.where(_along(kept, dim, value.ndim), value, torch.zeros((), dtype=value.dtype))
    return value


def _along(kept: Tensor, dim: int, ndim: int) -> Tensor:
    return kept.reshape([-1 if d == dim else 1 for d in range(ndim)])


def _layer_norm(
    keeps: Keeps, x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Tensor | None:
    kept = keeps[-1]
    if kept is None:
        return None
    k, n = kept.to(x.dtype), int(kept.sum())
    centred = (x - (x * k).sum(-1, keepdim=True) / n) * k
    y = centred / ((centred * centred).sum(-1, keepdim=True) / n + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _rms_norm(
    keeps: Keeps, x: Tensor, shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor | None:
    kept = keeps[-1]
    if kept is None:
        return None
    n = int(kept.sum())
    y = (
        x
        / (
            (x * x * kept.to(x.dtype)).sum(-1, keepdim=True) / n
            + (torch.finfo(x.dtype).eps if eps is None else eps)
        ).sqrt()
    )
    return y if weight is None else y * weight


def _group_norm(
    keeps: Keeps, x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Tensor | None:
    kept = keeps[1]
    if kept is None:
        return None
    positions = math.prod(x.shape[2:])
    y, k = x.reshape(len(x), groups, -1, positions), kept.to(x.dtype).reshape(1, groups, -1, 1)
    n = k.sum((2, 3), keepdim=True).clamp(min=1) * positions
    centred = (y - (y * k).sum((2, 3), keepdim=True) / n) * k
    y = (centred / ((centred * centred).sum((2, 3), keepdim=True) / n + eps).sqrt()).reshape(x.shape)
    y = y if weight is None else y * _along(weight, 1, x.ndim)
    return y if bias is None else y + _along(bias, 1, x.ndim)


def _mean(
    keeps: Keeps, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> Tensor | None:
    dims = _dims(x, dim)
    if all(keeps[d] is None for d in dims):
        return None
    x, count = _summed(keeps, x if dtype is None else x.to(dtype), dims)
    return x.sum(dims, keepdim) / count


def _variance(name: str) -> Callable[..., Any]:
    def apply(
        keeps: Keeps,
        x: Tensor,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        correction: float | None = None,
    ) -> Any:
        if isinstance(dim, bool):  # the variance of everything
            dim, unbiased = None, dim
        dims = _dims(x, dim)
        if all(keeps[d] is None for d in dims):
            return None
        total, count = _summed(keeps, x, dims)
        mean = total.sum(dims, True) / count
        squares = _summed(keeps, (x - mean) ** 2, dims)[0].sum(dims, keepdim)
        spread = squares / max(count - (float(unbiased) if correction is None else correction), 0.0)
        spread = spread.sqrt() if "std" in name else spread
        return (spread, mean.reshape(spread.shape)) if "mean" in name else spread

    return apply


def _dims(x: Tensor, dim: Any) -> list[int]:
    given = [dim] if isinstance(dim, int) else dim or range(x.ndim)
    return [d % x.ndim for d in given]


def _summed(keeps: Keeps, x: Tensor, dims: Sequence[int]) -> tuple[Tensor, int]:
    """Return a value with zeros for what is gone, and how many of its elements along `dims` are left."""
    kept = [keeps[d] for d in dims]
    count = math.prod(x.shape[d] if k is None else int(k.sum()) for d, k in zip(dims, kept, strict=True))
    return _masked(x, [k if d in dims else None for d, k in enumerate(keeps)]), count


def _softmax(name: str) -> Callable[..., Tensor | None]:
    def apply(keeps: Keeps, x: Tensor, dim: int, *rest: Any, **keywords: Any) -> Tensor | None:
        kept = keeps[dim]
        if kept is None:
            return None
        hidden = x.masked_fill(~_along(kept, dim % x.ndim, x.ndim), -math.inf)
        result = hidden.softmax(dim) if "log" not in name else hidden.log_softmax(dim)
        return result.masked_fill(result.isnan(), 0.0)

    return apply


_NORMS: dict[str, Callable[..., Tensor | None]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "mean": _mean,
    **{name: _variance(name) for name in ("var", "std", "var_mean", "std_mean")},
    **{name: _softmax(name) for name in ("softmax", "log_softmax", "_softmax", "_log_softmax")},
}
