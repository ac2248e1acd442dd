"""A compact model holds no layer of the full one, however the full one refers to its layers a second time."""

from __future__ import annotations

import functools
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels.references import reached
from spaces.errors import InputError


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l, self.k = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.k(torch.relu(self.l(x)))


class Net(nn.Module):
    """Runs `p`, then `q`; `put` refers to them a second time, `take` gives them from there."""

    def __init__(self, put: Callable[[Any], Any], take: Callable[[Any], Any]) -> None:
        super().__init__()
        self.p, self.q = Part(), Part()
        self.head = nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3))
        self.held, self.take = put(self), take

    def forward(self, x: Tensor) -> Tensor:
        p, q = self.take(self.held)
        return self.head(q(p(x)))


@dataclass(frozen=True)
class Frozen:
    p: Any
    q: Any


class Slotted:
    __slots__ = ("p", "q")

    def __init__(self, p: Any, q: Any) -> None:
        self.p, self.q = p, q


class Runner:
    def __init__(self, module: nn.Module) -> None:
        self.module, self.again = module, self

    def run(self, x: Tensor) -> Tensor:
        return self.module(x)

    def __call__(self, x: Tensor) -> Tensor:
        return self.again.run(x)


class Locked:
    def __init__(self, module: nn.Module) -> None:
        self.module, self.lock = module, threading.Lock()

    def __call__(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.module(x)


class Registry(dict):
    pass


Pair = namedtuple("Pair", "p q")


def closure_over(p: nn.Module) -> Callable[[Tensor], Tensor]:
    def inner(x: Tensor, depth: int = 1) -> Tensor:
        return inner(x, depth - 1) if depth else p(x)

    return inner


def called(held: Any) -> list[Any]:
    return [each() for each in held]


def as_array(p: Any, q: Any) -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = [p, q]
    return array


KINDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tuple": (lambda n: (n.p, n.q), tuple),
    "list of tuples": (lambda n: [(n.p, n.q)], lambda h: h[0]),
    "dict of lists": (lambda n: {"a": [n.p, n.q]}, lambda h: h["a"]),
    "named tuple": (lambda n: Pair(n.p, n.q), tuple),
    "namespace": (lambda n: types.SimpleNamespace(p=n.p, q=n.q), lambda h: (h.p, h.q)),
    "frozen dataclass": (lambda n: Frozen(n.p, n.q), lambda h: (h.p, h.q)),
    "slots": (lambda n: Slotted(n.p, n.q), lambda h: (h.p, h.q)),
    "object that holds itself": (lambda n: (Runner(n.p), Runner(n.q)), tuple),
    "bound methods": (lambda n: [n.p.forward, n.q.__call__], tuple),
    "bound methods of objects": (lambda n: (Runner(n.p).run, Runner(n.q).run), tuple),
    "partials": (lambda n: [functools.partial(Part.forward, n.p), functools.partial(n.q)], tuple),
    "lambdas": (lambda n: (lambda x: n.p(x), lambda x: n.q(x)), tuple),
    "recursive closure": (lambda n: [closure_over(n.p), closure_over(n.q)], tuple),
    "default of a function": (lambda n: (lambda x, p=n.p: p(x), lambda x, *, q=n.q: q(x)), tuple),
    "the model itself": (lambda n: [n], lambda h: (h[0].p, h[0].q)),
    "deque": (lambda n: deque([n.p, n.q], maxlen=2), tuple),
    "ordered": (lambda n: OrderedDict(p=n.p, q=n.q), lambda h: (h["p"], h["q"])),
    "default dict": (lambda n: defaultdict(list, a=[n.p, n.q]), lambda h: h["a"]),
    "own dict": (lambda n: Registry(p=n.p, q=n.q), lambda h: (h["p"], h["q"])),
    "keys": (lambda n: {n.p: 0, n.q: 1}, lambda h: sorted(h, key=h.__getitem__)),
    "set": (lambda n: ({n.p}, frozenset([n.q])), lambda h: (*h[0], *h[1])),
    "weak references": (lambda n: (weakref.ref(n.p), weakref.ref(n.q)), called),
    "weak proxies": (lambda n: (weakref.proxy(n.p), weakref.proxy(n.q)), lambda h: [m.forward for m in h]),
    "weak methods": (lambda n: [*map(weakref.WeakMethod, (n.p.forward, n.q.forward))], called),
    "weak set": (lambda n: (weakref.WeakSet([n.p]), weakref.WeakSet([n.q])), lambda h: (*h[0], *h[1])),
    "weak values": (lambda n: weakref.WeakValueDictionary(p=n.p, q=n.q), lambda h: (h["p"], h["q"])),
    "weak keys": (
        lambda n: weakref.WeakKeyDictionary({n.p: 0, n.q: 1}),
        lambda h: sorted(h.keys(), key=h.__getitem__),
    ),
    "proxy of a dict": (lambda n: types.MappingProxyType({"p": n.p, "q": n.q}), lambda h: (h["p"], h["q"])),
    "array": (lambda n: as_array(n.p, n.q), tuple),
    "cached function": (lambda n: functools.lru_cache(lambda: (n.p, n.q)), lambda h: h()),
    "object with a lock": (lambda n: (Locked(n.p), Locked(n.q)), tuple),
    "method of a list": (lambda n: [n.p, n.q].copy, lambda h: h()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_reference_is_that_of_the_copy(kind: str) -> None:
    torch.manual_seed(0)
    put, take = KINDS[kind]
    model, x = Net(put, take).eval(), torch.randn(4, 8)
    space = ChannelSpace(model, x)
    assert [segment.name for segment in space.segments] == ["p.l", "p.k", "q.l", "q.k", "head.0"]
    compact = space.build(space.repair((np.arange(space.length) % 2)[None].astype(np.uint8))[0])
    compact(x).square().mean().backward()
    assert all(p.grad is not None for p in compact.parameters())
    assert all(p.grad is None for p in model.parameters())
    base = {id(item) for item in (*model.modules(), *model.parameters())}
    assert not [item for m in compact.modules() for item in reached(vars(m)) if id(item) in base]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def test_a_block_that_is_left_out_is_left_out_of_its_second_reference_too() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(5, 8), nn.Module(), nn.Linear(8, 3))
    model[1].blocks = nn.ModuleList([Residual(), Residual()])
    model[1].steps, model[1].first = tuple(model[1].blocks), model[1].blocks[0].inner[0]
    model[1].forward = types.MethodType(lambda self, x: self.steps[1](self.steps[0](x)), model[1])
    space = ChannelSpace(model, torch.randn(4, 5), depth=["1.blocks.*"])
    genome = space.base
    genome[space.slices["depth"]] = [0, 1]
    compact: Any = space.build(genome)
    assert compact[1].steps == tuple(compact[1].blocks) and not [*compact[1].blocks[0].parameters()]
    assert space.difference(genome, (torch.randn(3, 5),)) < 1e-5
    base = {id(item) for item in (*model.modules(), *model.parameters())}
    assert not [item for m in compact.modules() for item in reached(vars(m)) if id(item) in base]


class Fused(Part):
    def forward(self, x: Tensor) -> Tensor:
        return self.k(torch.tanh(self.l(x))).square()

    def simple(self, x: Tensor) -> Tensor:
        return self.k(torch.tanh(self.l(x)))


def patched(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As libraries do that move weights around a call."""

    @functools.wraps(original)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        return original(*args, **kwargs)

    return forward


@pytest.mark.parametrize("kind", ["method", "patched", "twice"])
def test_a_forward_of_the_object_runs_the_copy(kind: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), Fused(), nn.ReLU(), nn.Linear(8, 3))
    part: Any = model[1]
    part.forward = part.simple
    for _ in range(["method", "patched", "twice"].index(kind)):
        part.forward = types.MethodType(patched(part.forward), part)
    space = ChannelSpace(model, torch.randn(4, 8))
    assert len(space.segments) == 3
    compact = space.build(space.repair((np.arange(space.length) % 2)[None].astype(np.uint8))[0])
    compact(torch.randn(4, 8)).sum().backward()
    assert all(p.grad is not None for p in compact.parameters())
    assert all(p.grad is None for p in model.parameters())


class Numbered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) + 1

    def deployed(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(len(x), 2, 4).relu().flatten(1))


def test_a_method_in_the_place_of_forward_is_what_is_rewritten() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Numbered(), nn.ReLU(), nn.Linear(8, 3))
    model[0].forward = model[0].deployed
    space = ChannelSpace(model, torch.randn(4, 8))
    assert [segment.name for segment in space.segments] == ["0.a", "0.a#2", "0.b"]
    assert space.report()["rewritten"] == ["0"]


class Collecting(nn.Module):
    """Reads what a hook put away."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        self.head, self.last = nn.Linear(8, 3), None
        self.store: Any = [] if kind == "list" else types.SimpleNamespace(last=None)
        self.body.store = self.store
        store = self.store
        hooks = {
            "method": self.keep,
            "partial": functools.partial(Collecting.keep, self),
            "closure": lambda module, args, output: setattr(self, "last", output),
            "object": lambda module, args, output: setattr(store, "last", output),
            "list": lambda module, args, output: store.append(output),
            "of a layer": self.body.register_forward_hook,
        }
        if kind == "of a layer":
            self.body.keep = types.MethodType(
                lambda body, m, args, out: setattr(body, "last", out), self.body
            )
            self.body[2].register_forward_hook(self.body.keep)
        elif kind == "weak":
            self.handle = self.body[2].register_forward_pre_hook(self.before)
            me = weakref.proxy(self)
            self.body[2].register_forward_hook(lambda module, args, output: me.keep(module, args, output))
        else:
            self.body[2].register_forward_hook(hooks[kind])
        self.kind = kind

    def before(self, module: nn.Module, args: Any) -> None:
        self.last = None

    def keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.last = output

    def forward(self, x: Tensor) -> Tensor:
        self.body(x)
        if self.kind == "list":
            return self.head(torch.relu(self.store.pop()))
        holder: Any = {"object": self.store, "of a layer": self.body}.get(self.kind, self)
        return self.head(torch.relu(holder.last))


@pytest.mark.parametrize("kind", ["method", "partial", "closure", "object", "list", "of a layer", "weak"])
def test_hooks_put_away_what_the_copy_gives_in_the_copy(kind: str) -> None:
    torch.manual_seed(0)
    model, x = Collecting(kind), torch.randn(4, 8)
    space = ChannelSpace(model, x)
    assert [segment.name for segment in space.segments] == ["body.0", "body.2"]
    left = [
        model.last,
        vars(model.store).get("last") if kind != "list" else None,
        getattr(model.body, "last", None),
    ]
    assert left == [None] * 3 and (kind != "list" or model.store == []), (
        "the trace left something in the model"
    )
    compact = space.build(space.repair((np.arange(space.length) % 2)[None].astype(np.uint8))[0])
    compact(x).sum().backward()
    assert [model.last, getattr(model.body, "last", None)] == [None] * 2
    assert all(p.grad is not None for p in compact.parameters())
    if kind == "weak":
        compact.handle.remove()
        assert model.body[2]._forward_pre_hooks and not compact.body[2]._forward_pre_hooks


@pytest.mark.parametrize(
    ("put", "take"),
    [
        (lambda n: n._modules.values(), lambda h: [*h][:2]),
        (lambda n: {"g": (m for m in (n.p, n.q))}, lambda h: ()),
    ],
    ids=["view", "generator"],
)
def test_what_cannot_be_followed_is_refused_by_name(put: Any, take: Any) -> None:
    with pytest.raises(InputError, match=r"model Net: held \(\w+\) holds [pq].* expected") as refusal:
        ChannelSpace(Net(put, take), torch.randn(4, 8))
    assert "\n" not in str(refusal.value)


def test_state_of_the_users_objects_is_the_copys_own_and_large_ones_are_shared() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model.meter = types.SimpleNamespace(count=0, seen=[])
    model.data = types.SimpleNamespace(rows=[[n] for n in range(5000)])
    model.lock, model.mark = threading.Lock(), object()
    space = ChannelSpace(model, torch.randn(3, 4))
    compact: Any = space.build(space.base)
    compact.meter.seen.append(1)
    assert model.meter.seen == [] and compact.data is model.data
    assert compact.lock is model.lock and compact.mark is model.mark
