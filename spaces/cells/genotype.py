"""A cell as text that people read and programs read back:
``normal: 0<a:sep_conv_3,b:skip 1<a:skip,0:max_pool_3``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from spaces.errors import InputError

Genotype = dict[str, dict[tuple[str, str], str]]
"""Kind of cell -> ``(source, target)`` -> the name of the operation; edges that are not there carry nothing.
"""

_NODE = re.compile(r"(\w+)<(.+)")
_INPUT = re.compile(r"(\w+):(\w+)")


def write(genotype: Genotype) -> str:
    """Return the text; kinds are separated by ``; ``."""
    return "; ".join(f"{kind}: {_write(edges)}" for kind, edges in genotype.items())


def _write(edges: Mapping[tuple[str, str], str]) -> str:
    nodes: dict[str, list[str]] = {}
    for (source, target), operation in edges.items():
        nodes.setdefault(target, []).append(f"{source}:{operation}")
    return " ".join(f"{target}<{','.join(inputs)}" for target, inputs in nodes.items())


def read(text: str) -> Genotype:
    """Return what the text says.

    Raises:
        InputError: the part that is not understood.
    """
    genotype: Genotype = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        kind, colon, cell = part.partition(":")
        if not colon or not re.fullmatch(r"\w+", kind.strip()) or "<" in kind:
            raise InputError(f"genotype: {part!r}; expected 'kind: node<input:operation,... ...'")
        edges = genotype.setdefault(kind.strip(), {})
        for word in cell.split():
            match = _NODE.fullmatch(word)
            pairs = [] if match is None else [_INPUT.fullmatch(pair) for pair in match[2].split(",")]
            if match is None or not all(pairs):
                raise InputError(
                    f"genotype: {word!r} of {kind.strip()}; expected 'node<input:operation,input:operation'"
                )
            edges.update({(pair[1], match[1]): pair[2] for pair in pairs if pair is not None})
    return genotype
