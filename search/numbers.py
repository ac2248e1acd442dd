"""How numbers are written for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def number(value: float, metric: str = "", digits: int = 4) -> str:
    """Write a number: whole and large ones with separators, others with `digits` (``54,528``, ``0.1235``).

    A metric is written as its name asks for, and shorter: ``1.23 M`` for macs, ``45.6 KiB`` for bytes,
    ``0.0123`` for a rate, ``1.234 ms`` for milliseconds, ``–`` for what is not finite.
    """
    if metric:
        return _metric(value, metric.rsplit("_", 1)[-1]) if math.isfinite(value) else "–"
    plain = abs(value) < 1e15 and (float(value).is_integer() or abs(value) >= 1000)
    return f"{value:,.0f}" if plain else f"{value:.{digits}g}"


def _metric(value: float, kind: str) -> str:
    if kind == "bytes":
        size, unit = next(((size, unit) for size, unit in _BYTES if abs(value) >= size), (1.0, "B"))
        return f"{_digits(value / size)} {unit}"
    if kind == "ms":
        return f"{value:.3f} ms" if abs(value) < 10 else f"{value:.1f} ms"
    size, unit = next(((size, unit) for size, unit in _LARGE if abs(value) >= size), (1.0, ""))
    if not unit:
        return (
            f"{value:.0f}" if value == int(value) else f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"
        )
    return f"{_digits(value / size)} {unit}"


def setting(value: Any) -> str:
    """Write the value of a parameter: a number, or a choice as it was declared."""
    return number(value, digits=3) if isinstance(value, float) else str(value)


def share(value: float, base: float | None) -> str:
    """Write what part of the base model's value this is, an empty string where there is none."""
    return f"{100 * value / base:.0f} %" if base else ""


def title(metric: str) -> str:
    """Write a metric's name as people do: ``MACs``, ``latency``, ``error``."""
    known = {"macs": "MACs", "latency_ms": "latency", "onnx_latency_ms": "ONNX latency"}
    return known.get(metric, metric.replace("_", " "))


def bound(constraint: Mapping[str, Any]) -> str:
    """Write a constraint of a run (see :class:`search.record.about.About`) as people do: ``MACs ≤ 50 %``."""
    sign = {"<=": "≤", ">=": "≥"}[constraint["relation"]]
    return (
        f"{title(constraint['metric'])} {sign} "
        f"{constraint['bound']:g}{' %' if constraint['relative'] else ''}"
    )


def _digits(value: float) -> str:
    """Three significant digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value) or 1)))}f}"
