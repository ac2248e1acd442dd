"""The page around the figures: HTML, its style, and plotly once."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from search.report import style
from search.report.script import SCRIPT

_CSS = f"""
:root {{ --ink: {style.INK}; --soft: {style.SOFT}; --faint: {style.FAINT}; --line: {style.LINE}; }}
:root {{ --teal: {style.TEAL}; --rose: {style.ROSE}; }}
* {{ box-sizing: border-box; }}
html {{ background: #f4f5f6; }}
body {{ margin: 0 auto; padding: 40px 28px 72px; max-width: 1220px; color: var(--ink); }}
body {{ font: 15px/1.55 {style.FONT}; font-feature-settings: "tnum"; -webkit-font-smoothing: antialiased; }}
header {{ margin-bottom: 28px; }}
header .mark {{ font-size: 12px; font-weight: 600; letter-spacing: .14em; text-transform: uppercase;
  color: var(--teal); }}
h1 {{ margin: 4px 0 8px; font-size: 34px; line-height: 1.15; letter-spacing: -.02em; font-weight: 680; }}
header p {{ margin: 0; max-width: 76ch; color: var(--soft); font-size: 16px; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(195px, 1fr)); gap: 14px;
  margin: 0 0 18px; }}
.card {{ background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px 14px; }}
.card .label {{ font-size: 12.5px; color: var(--soft); }}
.card .value {{ margin: 3px 0 1px; font-size: 28px; line-height: 1.2; letter-spacing: -.02em;
  font-weight: 660; }}
.card .value small {{ font-size: 15px; font-weight: 500; color: var(--soft); letter-spacing: 0; }}
.card .note {{ font-size: 12.5px; color: var(--soft); }}
.card.lead {{ background: var(--teal); border-color: var(--teal); color: #fff; }}
.card.lead .label, .card.lead .note, .card.lead .value small {{ color: #d5eeec; }}
section {{ background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 20px 22px 18px;
  margin: 0 0 18px; min-width: 0; }}
h2 {{ margin: 0; font-size: 18px; letter-spacing: -.01em; font-weight: 640; }}
section > p {{ margin: 3px 0 12px; color: var(--soft); max-width: 92ch; font-size: 14px; }}
.pair {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px; }}
@media (max-width: 860px) {{ .pair {{ grid-template-columns: minmax(0, 1fr); }} }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px; }}
th {{ text-align: right; font-weight: 560; color: var(--soft); padding: 5px 7px;
  border-bottom: 1px solid var(--line); }}
th {{ white-space: nowrap; vertical-align: bottom; }}
th.group {{ border-bottom: none; color: var(--ink); text-align: center; padding-bottom: 0; }}
td {{ text-align: right; padding: 7px 7px; border-bottom: 1px solid #f0f2f4; white-space: nowrap; }}
tr:last-child td {{ border-bottom: none; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
table.words th, table.words td {{ text-align: left; white-space: normal; vertical-align: top; }}
tr.base td {{ color: var(--soft); }}
td b {{ font-weight: 640; }}
td.strong {{ font-weight: 640; }}
.ok {{ color: var(--teal); }} .bad {{ color: var(--rose); }} .faint {{ color: var(--faint); }}
code {{ font: 12.5px/1.5 ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', monospace;
  color: #34414e; }}
code {{ overflow-wrap: anywhere; }}
pre {{ background: #f7f8f9; border-radius: 8px; padding: 14px 16px; overflow-x: auto; margin: 10px 0 0; }}
details {{ margin-top: 10px; }} summary {{ cursor: pointer; color: var(--soft); font-size: 14px; }}
details.fold {{ margin: 0 0 18px; }}
details.fold > summary {{ padding: 14px 22px; background: #fff; border: 1px solid var(--line);
  border-radius: 12px; color: var(--ink); font-weight: 600; }}
details.fold[open] > summary {{ margin-bottom: 18px; }}
section.take {{ border-color: var(--teal); border-width: 2px; }}
section.take .cards {{ margin: 14px 0 4px; }} section.take h2 {{ font-size: 22px; }}
section.take .card {{ background: #f7f9f9; }} section.take .card.lead {{ background: var(--teal); }}
p.links {{ margin: 12px 0 0; font-size: 14px; color: var(--ink); }} a {{ color: var(--teal); }}
button {{ font: inherit; font-size: 12.5px; color: var(--soft); background: #fff; cursor: pointer;
  border: 1px solid var(--line); border-radius: 7px; padding: 2px 9px; }}
button:hover, button.on {{ color: var(--teal); border-color: var(--teal); }}
td button {{ margin-left: 6px; font-size: 12px; padding: 1px 7px; }}
.copied {{ position: relative; }} .copied button {{ position: absolute; right: 10px; top: 10px; }}
.views {{ display: flex; gap: 6px; flex-wrap: wrap; margin: 0 0 8px; }}
.limits {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 8px 26px; }}
.limits label {{ font-size: 13px; color: var(--soft); }}
.limits output {{ float: right; color: var(--ink); font-weight: 600; }}
.limits input {{ width: 100%; margin: 4px 0 0; accent-color: var(--teal); }}
#verdict {{ margin: 10px 0 14px; font-weight: 600; }}
tr.beyond td {{ opacity: .3; }} tr.best td:first-child b {{ color: var(--teal); }}
td small {{ color: var(--soft); font-weight: 400; }} td.bad small {{ color: var(--rose); }}
@media (max-width: 640px) {{ body {{ padding: 22px 12px 40px; }} section {{ padding: 16px 14px 14px; }}
  h1 {{ font-size: 26px; }} .cards {{ grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }}
  .card {{ padding: 12px 12px 10px; }} .card .value {{ font-size: 21px; }} }}
footer {{ color: var(--faint); font-size: 12.5px; margin-top: 26px; }}
"""
_CONFIG = {"displayModeBar": False, "responsive": True}


def section(heading: str, body: str, words: str = "", kind: str = "") -> str:
    """Return a section with a heading, a sentence on what it shows, and its body; empty without a heading."""
    if not heading:
        return ""
    start = f'<section class="{kind}">' if kind else "<section>"
    return f"{start}<h2>{escape(heading)}</h2>{f'<p>{words}</p>' if words else '<p></p>'}{body}</section>"


def drawing(figure: go.Figure, id: str) -> str:
    """Return a figure; plotly itself is in the page's head."""
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=id, config=_CONFIG)


def pair(*sections: str) -> str:
    """Return two sections side by side, one below the other on a narrow screen; a single one takes the whole
    width.
    """
    present = [part for part in sections if part]
    return f'<div class="pair">{"".join(present)}</div>' if len(present) > 1 else "".join(present)


def folded(heading: str, *sections: str) -> str:
    """Return sections below a line that opens them; empty where there is none."""
    present = "".join(sections)
    return f'<details class="fold"><summary>{escape(heading)}</summary>{present}</details>' if present else ""


def button(label: str, on: bool = False, **data: str) -> str:
    """Return a button, perhaps one that is on; what it does is in the page's script, by its data."""
    pairs = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
    kind = ' class="on"' if on else ""
    return f'<button type="button"{kind}{pairs}>{escape(label)}</button>'


def copied(id: str, text: str, kind: str) -> str:
    """Return text that people copy, with a button that does it."""
    return (
        f'<div class="copied"><button type="button" class="copy" data-of="{id}">copy</button>'
        f'<pre><code id="{id}" class="{kind}">{escape(text)}</code></pre></div>'
    )


def card(label: str, value: str, unit: str = "", note: str = "", lead: bool = False) -> str:
    """Return a headline number."""
    small = f" <small>{escape(unit)}</small>" if unit else ""
    return (
        f'<div class="card{" lead" if lead else ""}"><div class="label">{escape(label)}</div>'
        f'<div class="value">{escape(value)}{small}</div><div class="note">{escape(note)}</div></div>'
    )


def rows(head: Sequence[str], body: Sequence[Sequence[str]], kind: str = "words") -> str:
    """Return a table; the head is text, the cells are HTML."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in body)
    return (
        '<div class="scroll"><table '
        f'class="{kind}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def cards(numbers: Sequence[str]) -> str:
    """Return headline numbers in a row."""
    return f'<div class="cards">{"".join(numbers)}</div>' if numbers else ""


def page(name: str, sentence: str, sections: Sequence[str], footer: str) -> str:
    """Return the whole document: it loads nothing from anywhere."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)} – Secateur</title>
<link rel="icon" href="data:,">
<style>{_CSS}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<header><div class="mark">Secateur</div><h1>{escape(name)}</h1><p>{escape(sentence)}</p></header>
{"".join(sections)}
<footer>{escape(footer)}</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""
