"""The model card: README.md of an exported folder."""

from __future__ import annotations

from collections.abc import Mapping

CARD = "README.md"
_ROWS = {
    "params": ("parameters", "{:,.0f}"),
    "macs": ("multiply-accumulates of one sample", "{:,.0f}"),
    "bytes": ("bytes of the weights", "{:,.0f}"),
    "latency_ms": ("latency in ms, one thread", "{:.3g}"),
}
"""Figures that come first, with what they are called and how they are written."""


def card(
    kind: str, family: str, source: str, before: Mapping[str, float], after: Mapping[str, float], reason: str
) -> str:
    """Return a model card with the measured figures.

    Args:
        kind: class of the model.
        family: ``model_type`` of its config.
        source: name of the folder that the base model came from; may be empty.
        before: measured on the base model.
        after: measured on this one.
        reason: why no plain config describes the model; empty where one does.
    """
    lines = ["---", "library_name: transformers", "tags:", "- pruned", "- secateur", f"- {family}", "---", ""]
    lines += [f"# {source or kind}, pruned", ""]
    lines += [
        f"A {kind} from which Secateur has removed channels and heads. It is dense: nothing is masked.",
        "",
    ]
    if reason:
        lines += [
            "```python",
            "from secateur import load_pretrained",
            "",
            'model = load_pretrained("FOLDER")',
        ]
        lines += ["```", "", f"Plain transformers refuses this folder: {reason}.", ""]
    else:
        lines += ["```python", f"from transformers import {kind}", ""]
        lines += [f'model = {kind}.from_pretrained("FOLDER")', "```", ""]
    rows = [name for name in _ROWS if name in before or name in after]
    metrics = before.keys() & after.keys() if before else after.keys()
    rows += sorted(name for name in metrics if name not in _ROWS and not name.endswith("_before"))
    if rows:
        lines += ["| measured | base model | this model |", "| --- | ---: | ---: |"]
        lines += [f"| {_title(name)} | {_value(name, before)} | {_value(name, after)} |" for name in rows]
        lines += [""]
    return "\n".join(lines)


def _title(name: str) -> str:
    return _ROWS[name][0] if name in _ROWS else name.replace("_", " ")


def _value(name: str, values: Mapping[str, float]) -> str:
    form = _ROWS[name][1] if name in _ROWS else "{:.4g}"
    return form.format(values[name]) if name in values else ""
