"""Per-sample gradients of a model with true and with drawn labels: from layer hooks where these suffice, else
by torch.func.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map

from evaluators.tic.blocks import Block, DenseBlock, LayerBlock, LinearBlock, Rows, sum_of
from evaluators.tic.uses import LinearUse, Use, is_covered, own_parameters, use_of
from spaces.calling import Inputs, arguments_of, forward
from spaces.errors import InputError
from spaces.structures import mapped, rows

Path = Literal["hooks", "functional"]

_SAMPLES = 3
"""A batch on which hooks are checked against autograd, of a size that no other axis is likely to have."""
_AGREES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


Errors = Callable[[Tensor], Sequence[Tensor]]
"""From a model's outputs to gradients of the losses by them: those of the true labels, then one a drawn pass.
"""


class Gradients:
    """The matrices G ``(samples, d)`` and Phi ``(samples * passes, d)``, in blocks, a layer each; what is
    asked twice is computed once.
    """

    def __init__(self, blocks: Sequence[Block], samples: int, passes: int) -> None:
        self.blocks, self.samples, self.passes = tuple(blocks), samples, passes

    @cached_property
    def norms(self) -> Rows:
        """Squared norms of all rows, ``(m,)`` and ``(r,)``, in double precision."""
        if "products" in self.__dict__:
            return self.products[2], self.products[1].diagonal()
        return _doubles([block.norms() for block in self.blocks])

    @cached_property
    def products(self) -> tuple[Tensor, Tensor, Tensor]:
        """``G Phi^T`` of shape ``(m, r)``, ``Phi Phi^T`` of shape ``(r, r)``, and squared norms of G's rows,
        in double precision.
        """
        return _doubles([block.products() for block in self.blocks])


def _doubles(parts: Sequence[tuple[Tensor, ...]]) -> Any:
    """Add up what blocks gave, entry by entry."""
    return tuple(sum_of(tensors).double().cpu() for tensors in zip(*parts, strict=True))


def gradients(
    model: nn.Module, inputs: Inputs, errors: Errors, memory: int, path: Path | None = None
) -> Gradients:
    """Return per-sample gradients of a model in eval mode; to be called, and the result used, under
    ``torch.no_grad()``.

    Args:
        errors: of the outputs, each of the outputs' shape.
        memory: bytes that per-sample gradients may take at a time.
        path: ``hooks`` or ``functional`` (the reference); None: hooks, unless the model has parameters that
            they do not see.

    Raises:
        InputError: no parameter learns; an operation that torch.func cannot take apart, by its name.
    """
    if path == "hooks" or (path is None and _hooks_suffice(model, inputs, memory)):
        return _hooked(model, inputs, errors, memory)
    return _functional(model, inputs, errors, memory)


def _hooks_suffice(model: nn.Module, inputs: Inputs, memory: int) -> bool:
    """Whether hooks find what autograd finds, on a few samples; asked once a model."""
    known = _AGREES.get(model)
    if known is None:
        if not any(p.requires_grad for p in model.parameters()):
            raise InputError(
                f"TIC: no parameter of {type(model).__name__} requires a gradient; expected at least one"
            )
        covered = all(is_covered(layer) for layer in model.modules() if own_parameters(layer))
        known = _AGREES[model] = covered and _agrees(model, _first(inputs, _SAMPLES), memory)
    return known


def _agrees(model: nn.Module, inputs: Inputs, memory: int) -> bool:
    """Compare products of per-sample gradients, by errors that mean nothing but are all different."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        outputs = forward(model, inputs)
    errors = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    rows = []
    for sample in range(len(errors)):
        only = torch.zeros_like(errors)
        only[sample] = errors[sample]
        found = torch.autograd.grad(
            outputs, parameters, only, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        rows.append(torch.cat([g.flatten() for g in found]))
    expected = torch.stack(rows).double().cpu()
    expected = expected @ expected.T
    try:
        products = _hooked(model, inputs, lambda _: [errors, errors], memory).products[0]
    except (RuntimeError, IndexError):  # the samples are not in the first dimension of what a layer sees
        return False
    same = products.shape == expected.shape
    return same and torch.allclose(
        products, expected, rtol=1e-3, atol=1e-5 * float(expected.diagonal().mean())
    )


# -- by hooks ------------------------------------------------------------------------------------------------


def _hooked(model: nn.Module, inputs: Inputs, errors: Errors, memory: int) -> Gradients:
    # one forward pass, and one backward pass a kind of error: of every call of a layer they leave its inputs
    # and the gradients at its outputs, whose products are the gradients of its parameters, sample by sample
    with _recorded(model) as record, torch.enable_grad():
        outputs = forward(model, inputs)
    slopes = errors(outputs.detach())
    calls = _slopes(outputs, record, slopes)
    # a parameter that is used more than once (tied, or in a loop) belongs to the block of its first use, with
    # all its uses: its gradient is their sum
    uses: dict[nn.Parameter, list[tuple[Use, str, Tensor]]] = defaultdict(list)
    for use, found in calls:
        for name, parameter in use.parameters.items():
            uses[parameter].append((use, name, found))
    blocks: list[Block] = []
    done: set[nn.Parameter] = set()
    for use, found in calls:
        own = [p for p in use.parameters.values() if p not in done]
        done.update(own)
        if isinstance(use, LinearUse) and use.inputs.ndim == 2 and all(len(uses[p]) == 1 for p in own):
            blocks.append(LinearBlock(use, found, memory))
        elif own:
            blocks.append(LayerBlock([(p, uses[p]) for p in own], memory))
    return Gradients(blocks, len(outputs), len(slopes) - 1)


def _slopes(
    outputs: Tensor, record: Sequence[tuple[Use, Any, torch.Size]], slopes: Sequence[Tensor]
) -> list[tuple[Use, Tensor]]:
    """Return every recorded use with the gradients at its outputs, ``(passes, ...)``; zeros where the model's
    outputs do not depend on it.
    """
    edges = [edge for _, edge, _ in record]
    by_pass = [
        torch.autograd.grad(outputs, edges, slope, retain_graph=True, allow_unused=True) for slope in slopes
    ]
    return [
        (use, torch.stack([outputs.new_zeros(shape) if found[i] is None else found[i] for found in by_pass]))
        for i, (use, _, shape) in enumerate(record)
    ]


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[tuple[Use, Any, torch.Size]]]:
    """Record every call of a layer that learns: inputs, where the gradient of its outputs arrives, the
    outputs' shape.
    """
    record: list[tuple[Use, Any, torch.Size]] = []

    def hear(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # the edge, since an operation in place may follow and make the tensor another one
        record.append(
            (
                use_of(layer, args[0] if args else next(iter(kwargs.values()))),
                get_gradient_edge(output),
                output.shape,
            )
        )

    handles = [
        layer.register_forward_hook(hear, with_kwargs=True)
        for layer in model.modules()
        if own_parameters(layer)
    ]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


# -- by torch.func -------------------------------------------------------------------------------------------


def _functional(model: nn.Module, inputs: Inputs, errors: Errors, memory: int) -> Gradients:
    with torch.no_grad():
        slopes = errors(forward(model, inputs))
    tensors = {name: p.detach() for name, p in model.named_parameters()} | dict(model.named_buffers())
    learned = [name for name, p in model.named_parameters() if p.requires_grad]
    given = arguments_of(inputs)

    def rows_of(names: Sequence[str]) -> list[dict[str, Tensor]]:
        def alone(chosen: dict[str, Tensor], error: Tensor, sample: Any) -> Tensor:
            places, names = mapped(lambda argument: argument.unsqueeze(0), sample)
            outputs = functional_call(model, tensors | chosen, places, names)
            return (outputs * error.unsqueeze(0)).sum()

        chosen = {name: tensors[name] for name in names}
        each = vmap(grad(alone), in_dims=(None, 0, tree_map(_axis, given)))
        return [each(chosen, slope, given) for slope in slopes]

    blocks: list[Block] = []
    try:
        for names in _portions(learned, tensors, len(slopes) * len(slopes[0]), memory):
            found = rows_of(names)
            layers: dict[str, list[str]] = defaultdict(list)
            for name in names:
                layers[name.rpartition(".")[0]].append(name)
            for own in layers.values():
                flat = [torch.cat([part[name].flatten(1) for name in own], 1) for part in found]
                blocks.append(DenseBlock(flat[0], torch.cat(flat[1:])))
    except RuntimeError as error:
        raise InputError(
            f"TIC: {type(model).__name__} has an operation without per-sample gradients: {_line(error)}"
        ) from error
    return Gradients(blocks, len(slopes[0]), len(slopes) - 1)


def _portions(
    names: Sequence[str], tensors: dict[str, Tensor], rows: int, memory: int
) -> Iterator[list[str]]:
    """Split parameters into portions whose gradients fit the bound; a larger one comes alone."""
    portion: list[str] = []
    size = 0
    for name in names:
        more = 4 * rows * tensors[name].numel()
        if portion and size + more > memory:
            yield portion
            portion, size = [], 0
        portion.append(name)
        size += more
    yield portion


def _axis(leaf: Any) -> int | None:
    """Return the axis of the samples; what is no tensor has none."""
    return 0 if isinstance(leaf, Tensor) else None


def _first(inputs: Inputs, samples: int) -> Inputs:
    return rows(inputs, slice(samples))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
