"""The page around the report's sections: one HTML file without scripts and without links to outside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --quiet: #5a6068; --line: #d9dde2; --paper: #ffffff;
  --band: #f4f6f8; --accent: #1d5fbf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --quiet: #a3abb5; --line: #3a4048;
  --paper: #15181c; --band: #1e2227; --accent: #7db1ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main, header, nav { max-width: 62rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line);
  padding-bottom: .25rem; }
p, li, td, th, summary { overflow-wrap: anywhere; }
.quiet, figcaption, time { color: var(--quiet); font-size: .875rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0;
  margin: .75rem 0 0; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, .wide:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: -999px; }
.skip:focus { position: static; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
figure { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 50%; }
caption { text-align: left; color: var(--quiet); font-size: .875rem; padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid var(--line); }
.wide th, .wide td:first-child { overflow-wrap: normal; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.timeline { list-style: none; padding: 0; display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.timeline li { background: var(--band); border-radius: 6px; padding: .5rem; }
details { margin: .25rem 0; }
summary { cursor: pointer; }
pre { background: var(--band); padding: .75rem; border-radius: 6px; overflow-x: auto; font-size: .8125rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .125rem 1rem; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .25rem; } }
@media print { nav, .skip { display: none; } section { break-inside: avoid-page;
  } body { font-size: 11pt; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        body: HTML; every text in it is escaped already.
    """

    title: str
    body: str

    @property
    def anchor(self) -> str:
        """What links within the page call it."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Returns the whole page.

    Args:
        title: plain text of its heading.
        subtitle: plain text below it.
        sections: in order.
    """
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    bodies = "\n".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title">'
        f'<h2 id="{s.anchor}-title">{escape(s.title)}</h2>\n{s.body}</section>'
        for s in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header><h1>{escape(title)}</h1><p class="quiet">{escape(subtitle)}</p></header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main id="content">
{bodies}
</main>
</body>
</html>
"""


def picture(data: bytes, kind: str, described: str, caption: str = "") -> str:
    """Returns a figure with an image inside the page; `kind` is "png", "jpeg" or "svg+xml"."""
    encoded = base64.b64encode(data).decode("ascii")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    source = f"data:image/{kind};base64,{encoded}"
    return f'<figure><img src="{source}" alt="{escape(described, quote=True)}">{below}</figure>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table that scrolls sideways where the page is narrow; numbers are set to the right."""
    lines = [list(row) for row in rows]
    numeric = [all(isinstance(row[i], (int, float)) for row in lines) for i in range(len(heads))]
    head = "".join(f'<th scope="col"{_side(n)}>{escape(h)}</th>' for h, n in zip(heads, numeric))
    body = "".join(
        "<tr>" + "".join(f"<td{_side(n)}>{escape(_text(v))}</td>" for v, n in zip(row, numeric)) + "</tr>"
        for row in lines
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Returns names and values as a list of definitions."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(_text(v))}</dd>" for k, v in pairs) + "</dl>"


def _side(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
