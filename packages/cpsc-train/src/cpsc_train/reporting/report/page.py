"""The report as one HTML file without scripts or links to other files, for light and dark screens and for paper."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape as escape_html

from cpsc_train.printable import printable
from cpsc_train.reporting.report.headline import facts, figures, notes, settings, swatch
from cpsc_train.reporting.report.panel import Panel, Section, Table
from cpsc_train.reporting.report.source import Run

Pictures = Mapping[tuple[Panel, str], bytes]
"""PNG by panel and theme."""
LONG = 26
"""Characters of the first cell of a row above which it may be broken into lines."""

STYLE = """
:root { color-scheme: light; --ground: #fff; --ink: #1f2328; --soft: #59636e; --edge: #d8dee4; --warn: #fff4d6;
  --shade: 0 114 178; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --ground: #161b22; --ink: #e6edf3; --soft: #9198a1; --edge: #30363d; --warn: #3d2f00;
    --shade: 86 180 233; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: .75rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 80ch; } .soft { color: var(--soft); font-size: .9rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9rem; margin: 1rem 0; } a { color: inherit; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: .5rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--edge); text-align: right; overflow-wrap: normal; }
td { white-space: nowrap; background: rgb(var(--shade) / calc(var(--dark, 0) * 55%)); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--ground); }
.long td:first-child { min-width: min(13rem, 38vw); white-space: normal; }
.headline { font-size: 1.1rem; } .headline th { font-size: .85rem; font-weight: 400; color: var(--soft); }
.swatch { display: inline-block; width: 1.5rem; border-top: 3px solid; vertical-align: middle; margin-right: .5rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(352px, 1fr)); gap: .75rem;
  overflow-x: auto; }
figure { margin: 0; max-width: 480px; } img { width: 100%; height: auto; display: block; }
.warn { background: var(--warn); padding: .5rem .75rem; border-radius: .4rem; }
@media (width < 600px) { .headline { font-size: .95rem; } th, td { padding: .25rem .4rem; } }
@media print {
  body { max-width: none; padding: 0; } nav { display: none; } .wide, .pictures { overflow: visible; }
  .pictures { grid-template-columns: 1fr 1fr; } td { print-color-adjust: exact; white-space: normal; }
  th:first-child, td:first-child { position: static; }
  table { font-size: 9pt; } h2, p { break-after: avoid; } figure, tr, dl { break-inside: avoid; }
}
"""


def escape(text: str) -> str:
    """Escape text for HTML, with control characters visible and passwords in addresses hidden."""
    return escape_html(printable(text))


def page(runs: Sequence[Run], sections: Sequence[Section], pictures: Pictures) -> str:
    """Return the HTML of a report on `runs`; every name in a run is escaped.

    - `runs`: the runs of the report.
    - `sections`: its sections; those without pictures and tables are left out.
    - `pictures`: the panels of the sections, in both themes.
    """
    title = f"Report of {runs[0].name}" if len(runs) == 1 else f"Report of {len(runs)} runs"
    shown = [section for section in (*sections, settings(runs)) if section.panels or section.tables]
    links = "".join(f'<a href="#s{place}">{escape(section.title)}</a>' for place, section in enumerate(shown))
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="warn">{escape(text)}</p>' for text in notes(runs)),
        _table(figures(runs), swatches=swatch(runs), kind="headline"),
        _facts(runs),
        f"<nav>{links}</nav>",
        *(_section(section, pictures, place) for place, section in enumerate(shown)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _facts(runs: Sequence[Run]) -> str:
    """Return what was run: a list for one run, a table for several."""
    table = facts(runs)
    if len(runs) > 1:
        return _table(table)
    pairs = zip(table.header[1:], table.rows[0][1:], strict=True)
    return f"<dl>{''.join(f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in pairs)}</dl>"


def _section(section: Section, pictures: Pictures, place: int) -> str:
    drawn = "".join(_figure(panel, pictures) for panel in section.panels)
    return (
        f'<h2 id="s{place}">{escape(section.title)}</h2><p class="soft">{escape(section.caption)}</p>'
        + (f'<div class="pictures">{drawn}</div>' if drawn else "")
        + "".join(_table(table) for table in section.tables)
    )


def _figure(panel: Panel, pictures: Pictures) -> str:
    light, dark = (_data(pictures[panel, theme]) for theme in ("light", "dark"))
    alt = escape(f"{panel.title}: {panel.alt}" if panel.alt else panel.title)
    return (
        f'<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{alt}"></picture></figure>'
    )


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _table(table: Table, *, swatches: Sequence[tuple[str, str]] = (), kind: str = "") -> str:
    """Return an HTML table that scrolls sideways if it is too wide; every cell is escaped.

    `swatches` are the colour and line style of each row.
    """
    title = f'<p class="soft">{escape(table.title)}</p>' if table.title else ""
    names = f"{kind} long" if any(len(row[0]) > LONG for row in table.rows) else kind
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    body = []
    for place, (first, *cells) in enumerate(table.rows):
        sample = ""
        if swatches:
            colour, line = swatches[place]
            sample = f'<span class="swatch" style="border-top-color:{colour};border-top-style:{line}"></span>'
        shades = table.shades[place] if table.shades else ()
        styles = [f' style="--dark:{float(shade):.2f}"' if shade else "" for shade in shades] or [""] * len(cells)
        row = "".join(f"<td{style}>{escape(cell)}</td>" for style, cell in zip(styles, cells, strict=True))
        body.append(f"<tr><td>{sample}{escape(first)}</td>{row}</tr>")
    return (
        f'{title}<div class="wide"><table class="{names}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
