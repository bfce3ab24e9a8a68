"""Panels of accuracy by severity, one for each kind of noise on each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpsc_train.config import from_plain
from cpsc_train.data import Noise
from cpsc_train.data.noise import KINDS
from cpsc_train.evaluation.curves import kinds
from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import Panel, curve, legend, sides
from cpsc_train.reporting.report.source import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """Fused accuracy in % under one condition, at a level or a severity; None if it has none."""

    level: int | None
    severity: float | None
    accuracy: float


def severity_panels(runs: Sequence[Run]) -> list[Panel]:
    """Return a panel by kind of noise on one or more modalities, with a curve per run.

    The axis counts levels if all conditions of the kind have one, and severities in the unit of the kind otherwise.
    """
    by_run = [_points(run) for run in runs]
    panels = []
    for kind in dict.fromkeys(kind for points in by_run for kind in points):
        measured = [points.get(kind, []) for points in by_run]
        levels = all(point.level is not None for points in measured for point in points)
        if levels or "+" not in kind:
            panels.append(_panel(runs, measured, kind, levels=levels))
    return panels


def _panel(runs: Sequence[Run], measured: Sequence[Sequence[Point]], kind: str, *, levels: bool) -> Panel:
    title = " and ".join(f"{name} noise on {modality}" for modality, name in _split(kind))

    def draw(axes: Axes) -> None:
        with sides(axes, x=f"{'level' if levels else 'severity'} of {title}", y="fused accuracy, %"):
            for place, (run, points) in enumerate(zip(runs, measured, strict=True)):
                values = [(point.level if levels else point.severity, point.accuracy) for point in points]
                if levels or _grows(kind):
                    values.append((0, _accuracy(run, "clean")))
                if points:
                    x, y = zip(*sorted(values), strict=True)
                    curve(axes, x, y, place, run.name, marker="o", markersize=3)
        legend(axes, [run.name for run in runs])

    return Panel(f"noise-{kind.replace(':', '-')}", title, draw)


def _points(run: Run) -> dict[str, list[Point]]:
    """Return the measured conditions that corrupt every row, by kind."""
    by_kind: dict[str, list[Point]] = {}
    for name, parts in _conditions(run).items():
        if not parts or any(part["share"] < 1 for part in parts):
            continue
        levels = {part["level"] for part in parts}
        point = Point(
            level=levels.pop() if len(levels) == 1 else None,
            severity=parts[0]["severity"] if len(parts) == 1 else None,
            accuracy=_accuracy(run, name),
        )
        by_kind.setdefault("+".join(kinds(parts)), []).append(point)
    return by_kind


def _conditions(run: Run) -> dict[str, list[Mapping[str, Any]]]:
    """Return the measured conditions; of a run that does not list them, those of its configuration."""
    results = run.results or {}
    listed = results.get("conditions")
    if listed is None:
        noise = [from_plain(Noise, one) for one in run.config.get("noise", [])]
        listed = {
            one.name: [
                {"modality": one.modality, "kind": one.kind, "severity": one.severity, "share": 1, "level": None}
            ]
            for one in noise
            if one.share == 1
        }
    return {name: parts for name, parts in listed.items() if name in results.get("test", {})}


def _accuracy(run: Run, condition: str) -> float:
    return 100 * float((run.results or {})["test"][condition]["accuracy"][FUSED])


def _split(kind: str) -> list[tuple[str, str]]:
    return [(modality, name) for modality, _, name in (one.partition(":") for one in kind.split("+"))]


def _grows(kind: str) -> bool:
    """Return whether a severity of zero is clean."""
    corruption = KINDS.get(_split(kind)[0][1])
    return corruption is None or corruption.levels[0] < corruption.levels[-1]
