"""Figures of the test rows by condition, of each run and inference variant, with their style in pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import colour, line
from cpsc_train.reporting.report.source import PLAIN, Run

MARKERS = ("o", "o", "^", "s", "D")
"""Markers by inference variant; that of the plain prediction is hollow."""


@dataclass(frozen=True)
class Series:
    """Figures of the test rows by condition, of one run and inference variant."""

    name: str
    """Of the variant; of several runs, that of the run, or ``RUN + VARIANT``."""
    run: Run
    """The run."""
    test: dict[str, dict[str, Any]]
    """Its figures by condition."""
    colour: str
    line: str
    marker: str
    """Style in pictures: of one run, the colour distinguishes variants; of several, runs."""

    @property
    def hollow(self) -> bool:
        """Whether this is the prediction without a variant."""
        return self.name in {PLAIN, self.run.name}

    @property
    def style(self) -> dict[str, Any]:
        """Options of `plot`, but for the line and the size of the marker."""
        face = {"markerfacecolor": "none"} if self.hollow else {}
        return {"color": self.colour, "marker": self.marker, "label": self.name, **face}

    def figure(self, condition: str, value: Callable[[dict[str, Any]], float]) -> float:
        """Return a figure under a condition; nan if the run was not evaluated under it."""
        return value(self.test[condition]) if condition in self.test else np.nan


def series(runs: Sequence[Run]) -> list[Series]:
    """Return the series of the runs that are done."""
    found = []
    for place, run in enumerate(runs):
        for way, (variant, test) in enumerate(run.tests.items()):
            if len(runs) == 1:
                name, style = variant, (colour(way), line(8 * way))
            else:
                name = run.name if variant == PLAIN else f"{run.name} + {variant}"
                style = (colour(place), line(place + 8 * way))
            found.append(Series(name, run, test, *style, MARKERS[way % len(MARKERS)]))
    return found


def fused(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the fused prediction sets under a condition."""
    return dict(figures["coverage"][FUSED])
