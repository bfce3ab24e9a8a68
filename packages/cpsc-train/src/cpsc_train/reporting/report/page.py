"""The report as one HTML file without scripts or links to other files, for light and dark pages."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape as escape_html

from cpsc_train.models import FUSED
from cpsc_train.printable import printable
from cpsc_train.reporting.figures import coverage_and_size, lacking, percent
from cpsc_train.reporting.report.panel import Panel, Section
from cpsc_train.reporting.report.source import PROTOCOL, Run, differing, protocol_differences

Pictures = Mapping[tuple[Panel, str], bytes]
"""PNG by panel and theme."""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1f2328; --soft: #59636e; --edge: #d8dee4; --warn: #fff4d6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #161b22; --ink: #e6edf3; --soft: #9198a1; --edge: #30363d; --warn: #3d2f00; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 75ch; } .soft { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9rem; } a { color: inherit; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--edge); text-align: right; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--ground); }
.figures td { white-space: nowrap; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; } figure { margin: 0; flex: 0 1 370px; }
img { width: 100%; height: auto; display: block; }
.warn { background: var(--warn); padding: .5rem .75rem; border-radius: .4rem; }
"""


def escape(text: str) -> str:
    """Escape text for HTML, with control characters visible and passwords in addresses hidden."""
    return escape_html(printable(text))


def page(runs: Sequence[Run], sections: Sequence[Section], pictures: Pictures) -> str:
    """Return the HTML of a report on `runs`; every name in a run is escaped.

    Parameters
    ----------
    runs
        The runs of the report.
    sections
        Its sections.
    pictures
        The panels of the sections, in both themes.
    """
    title = f"Report of {runs[0].name}" if len(runs) == 1 else f"Report of {len(runs)} runs"
    tables = {"Accuracy on test rows": _accuracy(runs), "Prediction sets": _sets(runs)}
    tables |= {"Runs": _runs(runs)}
    parts = [f"<h1>{escape(title)}</h1>", *_warnings(runs)]
    names = [*tables, *(section.title for section in sections)]
    links = "".join(f'<a href="#s{place}">{escape(name)}</a>' for place, name in enumerate(names))
    parts.append(f"<nav>{links}</nav>")
    for place, (name, content) in enumerate(tables.items()):
        parts.append(f'<h2 id="s{place}">{escape(name)}</h2>{content}')
    parts += [_section(section, pictures, len(tables) + place) for place, section in enumerate(sections)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _warnings(runs: Sequence[Run]) -> list[str]:
    texts = []
    different = protocol_differences(runs)
    if different:
        texts.append(
            f"These runs differ in {', '.join(different)}: their figures come from different protocols and must not be "
            f"compared. Comparable runs share {', '.join(PROTOCOL)}."
        )
    texts += [f"{run.name} is not done ({run.status})." for run in runs if run.results is None]
    return [f'<p class="warn">{escape(text)}</p>' for text in texts]


def _accuracy(runs: Sequence[Run]) -> str:
    done = [run for run in runs if run.results is not None]
    heads = list(dict.fromkeys(head for run in done for head in run.heads))
    conditions = list(dict.fromkeys(name for run in done for name in (run.results or {})["test"]))
    columns = [("clean", head) for head in heads]
    columns += [(name, FUSED) for name in conditions if name != "clean"]
    header = ["run", *(f"clean, {head}" for head in heads), "clean, mean", *(n for n in conditions if n != "clean")]
    rows = []
    for run in done:
        test = (run.results or {})["test"]
        cells = [percent(test.get(name, {}).get("accuracy", {}).get(head)) for name, head in columns]
        cells.insert(len(heads), percent(test["clean"]["average_accuracy"]))
        rows.append([run.name, *cells])
    note = "In %. The mean is over all heads, clean. With noise or a missing modality, the fused decision is shown."
    return f'<p class="soft">{note}</p>{_table(header, rows)}'


def _sets(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        for part, heads in (run.results or {}).get("coverage", {}).items():
            cells = [coverage_and_size(heads.get(head)) for head in run.heads]
            target = f"{next(iter(heads.values()))['target']:.2f}"
            rows.append([f"{run.name}, {part}", target, " / ".join(cells)])
    note = f"Coverage and, in brackets, mean set size on clean rows; heads in this order: {', '.join(runs[0].heads)}."
    return f'<p class="soft">{escape(note)}</p>{_table(["run and rows", "target", "coverage (size)"], rows)}'


def _seen(run: Run) -> list[str]:
    return list((run.results or {}).get("seen", {}).get("training", []))


def _runs(runs: Sequence[Run]) -> str:
    header = ["", *(run.name for run in runs)]
    rows = [
        ["recipe", *(str(run.config.get("recipe", "–")) for run in runs)],
        ["method", *(str(run.config["method"]["name"]) for run in runs)],
        ["noise in training", *(", ".join(_seen(run)) or "–" for run in runs)],
        *_lacking(runs),
        ["status", *(run.status for run in runs)],
        ["epochs done", *(str(run.records[-1]["epoch"]) if run.records else "0" for run in runs)],
        ["best epoch", *(str((run.results or {}).get("selected", {}).get("epoch", "–")) for run in runs)],
        ["seconds", *(f"{run.results['seconds']:.0f}" if run.results else "–" for run in runs)],
        ["torch", *(str(run.environment.get("versions", {}).get("torch", "–")) for run in runs)],
        ["gpu", *(str(run.environment.get("gpu") or "–") for run in runs)],
    ]
    rows += [[key, *values] for key, values in differing(runs).items() if key not in {"recipe", "method.name"}]
    return _table(header, rows)


def _lacking(runs: Sequence[Run]) -> list[list[str]]:
    """Return a row on missing modalities, if any run has one."""
    texts = ["; ".join(lacking((run.results or {}).get("data", {}))) for run in runs]
    return [["missing modalities", *(text or "–" for text in texts)]] if any(texts) else []


def _section(section: Section, pictures: Pictures, place: int) -> str:
    figures = "".join(_figure(panel, pictures) for panel in section.panels)
    absent = "".join(f'<p class="soft">Not shown: {escape(text)}</p>' for text in section.absent)
    tables = "".join(f'<p class="soft">{escape(one.title)}</p>{_table(one.header, one.rows)}' for one in section.tables)
    return (
        f'<h2 id="s{place}">{escape(section.title)}</h2><p class="soft">{escape(section.caption)}</p>'
        f'<div class="pictures">{figures}</div>{absent}{tables}'
    )


def _figure(panel: Panel, pictures: Pictures) -> str:
    """Return a picture as HTML, for light and dark pages."""
    light, dark = (_data(pictures[panel, theme]) for theme in ("light", "dark"))
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(panel.title)}" width="720" height="{160 * panel.height:.0f}">'
        "</picture></figure>"
    )


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table that scrolls sideways if it is too wide; every cell is escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
