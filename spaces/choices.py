"""A space written as a class with attributes: every attribute is one choice, a method builds the model from
the values.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import nn

from spaces.base import Segment, Space
from spaces.errors import InputError, require
from spaces.names import public_name

Value = float | int | str
"""What a choice may hold (booleans are integers): all that JSON, a dashboard and a person can read."""


class Dimension:
    """One attribute of a :class:`ChoiceSpace`: a short list of values, of which a genome holds the position
    of one.

    Args:
        values: 2 to 256 different numbers, strings or booleans, in an order in which neighbours are alike
            where that makes sense.

    Raises:
        InputError: when a value is of another kind or occurs twice, or when there is no choice to make.
    """

    def __init__(self, values: Sequence[Value]) -> None:
        kind = type(self).__name__
        if not 2 <= len(values) <= 256:
            raise InputError(
                f"{kind}: {len(values)} value(s) given; 2 to 256 are accepted (write a constant into "
                f"build_from instead)"
            )
        values = tuple(values)
        for position, value in enumerate(values):
            if not isinstance(value, bool | int | float | str) or (
                isinstance(value, float) and not math.isfinite(value)
            ):
                raise InputError(
                    f"{kind}: value {value!r} is not accepted; use finite numbers, strings or booleans, and "
                    f"translate in build_from"
                )
            if value in values[:position]:
                raise InputError(f"{kind}: value {value!r} occurs twice; every value must be given once")
        self.values = values

    def position(self, value: Any) -> int:
        """Return which of the values this is, 0 up to ``len(values) - 1``; ValueError where it is none of
        them.
        """
        return self.values.index(value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.values)})"


class Choice(Dimension):
    """One of several values in a natural order: widths, kernel sizes, resolutions."""


class Categorical(Dimension):
    """One of several values without an order: names of activations, of operations, of optimisers."""


class Integer(Dimension):
    """The whole numbers ``low, low + step, ...`` up to `high` (included where a step meets it)."""

    def __init__(self, low: int, high: int, step: int = 1) -> None:
        if step < 1:
            raise InputError(f"Integer: step {step} is not accepted; it must be at least 1")
        super().__init__(range(low, high + 1, step))


class Float(Dimension):
    """A grid of floats from `low` to `high`, both included, evenly spaced or, with `log`, in even ratios.

    A genome is made of small integers, so a float is a grid. Levels carry twelve digits: the same on every
    processor.

    Args:
        levels: number of grid points, 2 to 256.
    """

    def __init__(self, low: float, high: float, levels: int = 32, log: bool = False) -> None:
        require(
            "Float",
            (
                low < high and not (log and low <= 0),
                f"low {low} and high {high} are not accepted; low must be less than "
                f"high{', and above 0 for log' if log else ''}",
            ),
            (2 <= levels <= 256, f"{levels} levels are not accepted; use 2 to 256"),
        )
        grid = np.geomspace(low, high, levels) if log else np.linspace(low, high, levels)
        super().__init__([float(low), *(float(f"{value:.12g}") for value in grid[1:-1]), float(high)])
        self.log = log

    def position(self, value: Any) -> int:
        """Return the nearest level (in ratio, with `log`); ValueError outside of low .. high."""
        grid = np.array(self.values, dtype=np.float64)
        if not isinstance(value, int | float) or not grid[0] <= value <= grid[-1]:
            raise ValueError(value)
        distance = np.log(grid / value) if self.log else grid - value
        return int(np.argmin(np.abs(distance)))


class ChoiceSpace(Space):
    """A space in one class: attributes are the choices, ``build_from`` makes the model of their values.

    Each attribute is a segment of one locus, in the order of definition; a subclass inherits them, may
    replace one and append others. All combinations are valid; where some are not, override :meth:`repair`.
    Values that belong to the task and not to the search (the number of classes) are arguments of a plain
    ``__init__``; they count for the fingerprint.

    >>> class MyNet(ChoiceSpace):
    ...     depth = Integer(1, 4)
    ...     width = Choice([16, 32, 64])
    ...     default = dict(depth=4, width=64)  # optional: what relative limits ("macs <= 50%") refer to
    ...
    ...     def build_from(self, depth, width):
    ...         return nn.Sequential(*[nn.LazyLinear(width) for _ in range(depth)])
    >>> MyNet().values(MyNet().encode(depth=2, width=32))
    {'depth': 2, 'width': 32}

    Raises:
        InputError: while the class is defined, when an attribute takes a name that spaces need or `default`
            does not fit; when it is instantiated, when there is no attribute or ``build_from`` does not take
            them all.
    """

    dimensions: ClassVar[dict[str, Dimension]] = {}
    default: ClassVar[dict[str, Value] | None] = None
    segments: tuple[Segment, ...] = ()
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, Dimension] = {}
        for owner in reversed(cls.__mro__):
            for name, attribute in vars(owner).items():
                if isinstance(attribute, Dimension):
                    if hasattr(ChoiceSpace, name):
                        raise InputError(
                            f"{cls.__name__}.{name}: every space has an attribute of this name; name the "
                            f"choice otherwise"
                        )
                    found[name] = attribute
                elif name in found:
                    del found[name]
        cls.dimensions = found
        cls.segments = tuple(Segment(name, 1, len(dimension.values)) for name, dimension in found.items())
        if cls.default is not None:
            cls._positions(cls.default, f"{cls.__name__}.default")

    def __new__(cls, *args: Any, **kwargs: Any) -> ChoiceSpace:
        space = super().__new__(cls)
        if not cls.dimensions:
            raise InputError(
                f"{cls.__name__}: no choices; give the class attributes such as `width = Choice([16, 32, "
                f"64])`"
            )
        try:
            inspect.signature(space.build_from).bind(**dict.fromkeys(cls.dimensions))
        except TypeError as error:
            raise InputError(
                f"{cls.__name__}.build_from: {error}; its arguments must be the choices "
                f"{', '.join(cls.dimensions)}"
            ) from None
        space._arguments = (args, kwargs)
        return space

    @abstractmethod
    def build_from(self, *args: Any, **values: Any) -> nn.Module:
        """Return a new model; the values come as keyword arguments, one for each attribute."""

    @property
    def fingerprint(self) -> str:
        """Of the class, its choices with their values, and the arguments that the space was made with.

        The code of ``build_from`` is not part of it: after a change of what it builds, rename the class or
        start a new run.
        """
        path, arguments = self._made()
        choices = [
            [name, type(dimension).__name__, dimension.values] for name, dimension in self.dimensions.items()
        ]
        return hashlib.blake2b(
            json.dumps([path, choices, arguments], sort_keys=True).encode(), digest_size=16
        ).hexdigest()

    @property
    def compatibility(self) -> str:
        """Of the class and its arguments. Empty where a subclass has a fingerprint of its own, which may know
        more than this.
        """
        if type(self).fingerprint is not ChoiceSpace.fingerprint:
            return ""
        return hashlib.blake2b(json.dumps(self._made(), sort_keys=True).encode(), digest_size=16).hexdigest()

    def _made(self) -> tuple[str, Any]:
        """Return the path of the class, and what JSON can hold of the arguments."""
        cls = type(self)
        args, kwargs = self._arguments
        given = inspect.signature(cls.__init__).bind(None, *args, **kwargs)
        given.apply_defaults()
        return public_name(cls), _plain(given.arguments)

    @property
    def alleles(self) -> dict[str, tuple[Value, ...]]:
        return {name: dimension.values for name, dimension in self.dimensions.items()}

    @property
    def base(self) -> np.ndarray | None:
        return None if self.default is None else self.encode(**self.default)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.repair(rng.integers(0, self.choices, size=(n, self.length)).astype(np.uint8))

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        return np.minimum(genomes, self._last)

    def build(self, genome: np.ndarray) -> nn.Module:
        return self.build_from(**self.values(genome))

    def describe(self, genome: np.ndarray) -> dict[str, Value]:
        return self.values(genome)

    def values(self, genome: np.ndarray) -> dict[str, Value]:
        """Return what the genome ``(length,)`` chooses, by name."""
        self.check(genome[None])
        return {
            name: dimension.values[allele]
            for (name, dimension), allele in zip(self.dimensions.items(), genome.tolist(), strict=True)
        }

    def encode(self, **values: Value) -> np.ndarray:
        """Return the genome ``(length,)`` of these values, one for each attribute; a float is taken to its
        nearest level.

        Raises:
            InputError: when a value is missing, unknown, or none of the attribute's.
        """
        return self._positions(values, type(self).__name__)

    @classmethod
    def _positions(cls, values: dict[str, Value], place: str) -> np.ndarray:
        for name in (*cls.dimensions, *values):
            if name not in values or name not in cls.dimensions:
                fault = "missing" if name in cls.dimensions else "unknown"
                raise InputError(f"{place}: {name!r} is {fault}; the choices are {', '.join(cls.dimensions)}")
        genome = np.zeros(len(cls.dimensions), dtype=np.uint8)
        for locus, (name, dimension) in enumerate(cls.dimensions.items()):
            try:
                genome[locus] = dimension.position(values[name])
            except ValueError:
                raise InputError(
                    f"{place}: {name} = {values[name]!r} is not accepted; use one of {dimension}"
                ) from None
        return genome

    @cached_property
    def _last(self) -> np.ndarray:
        return (self.choices - 1).astype(np.uint8)


class HyperParameters(ChoiceSpace):
    """Choices that are settings of the evaluation (a learning rate) and build nothing: a part of a joint
    space, which passes them on.

    >>> class Tuning(HyperParameters):
    ...     learning_rate = Float(1e-4, 1e-1, log=True)
    """

    def build_from(self, *args: Any, **values: Any) -> nn.Module:
        return nn.Identity()

    def genes(self, genome: np.ndarray) -> dict[str, Any]:
        return dict(self.values(genome))

    def gene_values(self) -> dict[str, tuple[Any, ...]]:
        return {name: dimension.values for name, dimension in self.dimensions.items()}


def _plain(value: Any) -> Any:
    """Return what JSON can hold of an argument: plain values as they are, any other object by the name of its
    class.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return public_name(type(value))
