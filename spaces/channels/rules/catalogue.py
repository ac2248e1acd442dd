"""The operations that are known, as a table for people."""

from __future__ import annotations

from collections import defaultdict

from spaces.channels.rules.registry import RULES, Rule


def catalogue() -> str:
    """Return a Markdown table of all rules: what they say, and for which ATen operations."""
    names: dict[Rule, list[str]] = defaultdict(list)
    for name, function in RULES.items():
        names[function].append(name)
    rows = ["| what happens to channels | operations |", "| --- | --- |"]
    for function, operations in names.items():
        said = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        rows.append(f"| {said} | {', '.join(f'`{name}`' for name in sorted(operations))} |")
    return "\n".join(rows) + "\n"
