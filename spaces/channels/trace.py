"""Tracing: a model becomes a graph of ATen operations, with the user's own names and lines."""

from __future__ import annotations

import inspect
import io
import re
import sys
import traceback
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_map

from spaces.calling import Example, arguments_of, mode
from spaces.channels.attention import plain
from spaces.channels.references import restored
from spaces.errors import InputError
from spaces.outputs import flattened, uncached
from spaces.structures import tensors

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in [^\n]+\n\s*(?P<code>[^\n]+)')
_TORCH = str(Path(torch.__file__).parent)
_CALL = re.compile(r"@\d+")
_BLOCKS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Operations with a body, and at which argument that stands."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A traced model.

    Attributes:
        graph: undecomposed ATen graph; its placeholders are state (parameters, buffers, constants), then the
            user's inputs. It gives the list of the model's :func:`spaces.outputs.leaves`.
        state: placeholder name -> qualified name of the parameter or buffer (tied ones under their first
            name).
        constants: placeholder name -> tensor that belongs to no module.
        values: node name -> tensor on the meta device (or tuple of them, or number) of the example's shapes.
        batch: number of samples of the example.
        names: of the arguments that the example gives by name, in its order.
    """

    graph: fx.GraphModule
    state: dict[str, str]
    constants: dict[str, Tensor]
    values: dict[str, Any]
    batch: int
    names: tuple[str, ...] = ()

    @property
    def half(self) -> bool:
        """Whether anything is computed in half precision."""
        return any(
            isinstance(v, Tensor) and v.dtype in (torch.float16, torch.bfloat16) for v in self.values.values()
        ) or any("autocast" in node.meta for node in self.graph.graph.nodes)

    @property
    def casts(self) -> bool:
        """Whether some operation names single precision."""
        return any(
            given is torch.float32
            for node in self.graph.graph.nodes
            for given in (*node.args, *node.kwargs.values())
        )


def trace(model: nn.Module, example: Example, training: bool) -> Trace:
    """Trace `model` on `example` (arguments of one forward call, in order or by name, a batch of at least 2)
    in eval or training mode.

    The model comes back as it was. Raises :class:`InputError` with the line of the user's code that cannot be
    traced.
    """
    with uncached(model), mode(model, training), restored(model), plain(model), flattened(model):
        program = _export(model, example)
    graph = inline(program.graph_module)
    _mend_paths(graph, model)
    batch = next((len(x) for x in tensors(example) if x.ndim), 1)
    first = canonical_names(model)
    state, constants = {}, {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
            state[spec.arg.name] = first.get(spec.target, spec.target)
        elif spec.kind is not InputKind.USER_INPUT and spec.target is not None:
            constants[spec.arg.name] = program.constants[spec.target]
    values = {node.name: _of_example(node.meta.get("val")) for node in graph.graph.nodes}
    return Trace(graph, state, constants, values, batch, tuple(arguments_of(example)[1]))


def _mend_paths(graph: fx.GraphModule, model: nn.Module) -> None:
    """Complete the paths of modules that torch notes from the caller on (of a module that is held in a tuple
    and registered twice), and leave out modules that are not registered.
    """
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for node in graph.graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        if all(_CALL.sub("", str(path)) in known for path, _ in stack.values()):
            continue
        mended: dict[Any, tuple[str, Any]] = {}
        for key, (path, kind) in stack.items():
            callers = [f"{caller}." for caller, _ in reversed(mended.values()) if caller]
            for start in ("", *callers):
                if _CALL.sub("", f"{start}{path}") in known:
                    mended[key] = f"{start}{path}", kind
                    break
        node.meta["nn_module_stack"] = mended


def differs_in_training(model: nn.Module) -> bool:
    """Whether some module may do other operations in training: where its file speaks of ``training``, or
    cannot be read. torch's do not.
    """
    files = {type(module).__module__ for module in model.modules()}
    for name in files:
        if name.startswith("torch.nn."):
            continue
        try:
            if "training" in inspect.getsource(sys.modules[name]):
                return True
        except (OSError, TypeError, KeyError):
            return True
    return False


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Map the name of every parameter and buffer to the first name of the same tensor: tied ones
    share one.
    """
    seen: dict[int, str] = {}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: seen.setdefault(id(tensor), name) for name, tensor in tensors}


def source_line(node: fx.Node) -> str:
    """Return the innermost line of the user's source that made a node, as ``file.py:12: code``, or an empty
    string.
    """
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    frames = [frame for frame in frames if not frame[0].startswith(_TORCH)] or frames
    return f"{Path(frames[-1][0]).name}:{frames[-1][1]}: {frames[-1][2].strip()}" if frames else ""


def module_path(node: fx.Node) -> str:
    """Return the qualified name of the innermost module whose code made a node, empty for the
    model itself.
    """
    stack = node.meta.get("nn_module_stack") or {}
    return _CALL.sub("", str([*stack.values()][-1][0])) if stack else ""


def first_call(node: fx.Node) -> str | None:
    """Return the same where it is the first call of that module, else None."""
    stack = node.meta.get("nn_module_stack") or {}
    return None if any(_CALL.search(str(path)) for path, _ in stack.values()) else module_path(node)


def is_within(node: fx.Node, path: str) -> bool:
    """Whether the code of the module at `path`, or of one inside it, made a node."""
    return not path or any(
        _CALL.sub("", str(p)) == path for p, _ in (node.meta.get("nn_module_stack") or {}).values()
    )


def inline(graph: fx.GraphModule) -> fx.GraphModule:
    """Put the bodies of ``no_grad`` and ``autocast`` blocks in place of the blocks; nodes of the latter keep
    their settings in ``meta``.
    """
    # again and again, since a body may hold blocks of its own
    while blocks := [n for n in graph.graph.nodes if n.op == "call_function" and str(n.target) in _BLOCKS]:
        for block in blocks:
            skipped = _BLOCKS[str(block.target)]
            body: Any = graph.get_submodule(block.args[skipped].target)
            operands = iter(block.args[skipped + 1 :])
            copies: dict[fx.Node, Any] = {}
            with graph.graph.inserting_before(block):
                for node in body.graph.nodes:
                    if node.op == "placeholder":
                        copies[node] = next(operands)
                    elif node.op == "get_attr":
                        graph.add_module(
                            name := f"{block.name}_{node.target}", body.get_submodule(node.target)
                        )
                        copies[node] = graph.graph.get_attr(name)
                    elif node.op != "output":
                        copies[node] = graph.graph.node_copy(node, copies.__getitem__)
                        if skipped > 1:
                            copies[node].meta["autocast"] = block.args[:skipped]
                    else:
                        outputs = fx.map_arg(node.args[0], copies.__getitem__)
            # a block gives a tuple, of which every user takes one item: the item takes the user's place
            for user in list(block.users):
                user.replace_all_uses_with(outputs[user.args[1]])
                graph.graph.erase_node(user)
            graph.graph.erase_node(block)
    graph.recompile()
    return graph


def _export(model: nn.Module, example: Example) -> ExportedProgram:
    places, names = arguments_of(example)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operation that hides what is in it
    try:
        with redirect_stderr(io.StringIO()):  # torch prints the whole graph there before it raises
            try:
                dynamic = _dynamic(model, places, names)
                return torch.export.export(model, places, names, dynamic_shapes=dynamic, strict=False)
            except Exception:  # a model that fixes its batch size is fine too; what else is wrong shows again
                return torch.export.export(model, places, names, strict=False)
    except Exception as error:
        _check_arguments(model, places, names)
        raise InputError(
            f"model {type(model).__name__}: torch.export cannot trace it{_culprit(error)}: "
            f"{_first_line(error)}; "
            "make that line independent of tensor values and try torch.export.export(model, example) on its "
            "own"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _check_arguments(model: nn.Module, places: tuple[Any, ...], names: dict[str, Any]) -> None:
    """Raise :class:`InputError` where these are not the arguments of ``forward``."""
    taken = inspect.signature(model.forward)
    try:
        taken.bind(*places, **names)
    except TypeError as error:
        given = ", ".join(names) or f"{len(places)} by place"
        raise InputError(
            f"data: the inputs ({given}) are not the arguments of {type(model).__name__}.forward "
            f"({', '.join(taken.parameters)}): {error}; expected one for each"
        ) from None


def _dynamic(model: nn.Module, places: tuple[Any, ...], names: dict[str, Any]) -> Any:
    """Return that the first axis of every tensor may be of any size, for each argument of ``forward``."""

    def axes(x: Any) -> Any:
        return {0: Dim.AUTO} if isinstance(x, Tensor) and x.ndim else None

    given = dict(inspect.signature(model.forward).bind(**names).arguments) if names else places
    return tree_map(axes, given)


def _culprit(error: BaseException) -> str:
    """Name the innermost frame that is neither torch's nor ours."""
    inside = (_TORCH, str(Path(__file__).parent))
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((*inside, "<"))
    ]
    user = [f for f in frames if f.name == "forward"] or frames
    return f" at {Path(user[-1].filename).name}:{user[-1].lineno}: {user[-1].line}" if user else ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _of_example(value: Any) -> Any:
    """Return what tracing noted of a node with the example's sizes in place of symbols; tensors without
    content.

    What depends on the content of tensors (``nonzero``, ``item``) counts as one.
    """
    if isinstance(value, Tensor):
        return torch.empty_strided(
            _of_example([*value.shape]), _of_example([*value.stride()]), dtype=value.dtype, device="meta"
        )
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return value.node.hint if value.node.has_hint() else 1
    return type(value)(map(_of_example, value)) if isinstance(value, tuple | list) else value


def tensors_by_name(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by qualified name, tied ones under each of their names."""
    return dict(
        [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    )
