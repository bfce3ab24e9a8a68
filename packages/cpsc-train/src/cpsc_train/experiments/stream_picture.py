"""Picture of a stream: trust of each modality, evidence against exchangeability, and coverage of the fused decision."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from conformal_core import rolling_coverage
from cpsc_train.experiments.evidence import Evidence
from cpsc_train.experiments.predictors import Followed
from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import colour, render, sides

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cpsc_train.experiments.stream import Watched

Floats = NDArray[np.float64]


def picture(
    followed: Mapping[str, Followed],
    watched: Watched | None = None,
    *,
    target: float,
    window: int,
    theme: str = "light",
) -> bytes:
    """Return a PNG of 720 pixels width.

    - `followed`: by predictor, its prediction sets for the fused decision without trust.
    - `watched`: the stream under trust. If None, only the coverage of `followed` is drawn.
    - `target`: target of the coverage.
    - `window`: number of rows of which coverage and trust are means.
    - `theme`: ``light`` or ``dark``.
    """

    def draw(figure: Figure) -> None:
        if watched is None:
            _coverage(figure.add_subplot(), followed, target, window, FUSED)
            return
        rows = figure.subplots(3, 1, sharex=True)
        _trust(rows[0], watched.trust, window)
        _evidence(rows[1], watched.evidence, len(watched.evidence) / watched.delta)
        _coverage(rows[2], watched.followed, target, window, f"{FUSED} under trust")
        for axes in rows:
            for change in np.flatnonzero(np.diff(watched.course.condition)):
                axes.axvline(change + 1, color="0.5", linewidth=0.8, linestyle=":")
        for axes in rows[:-1]:
            axes.set_xlabel("")

    return render(draw, theme, height=3.25 if watched is None else 6.9)


def rolling_mean(values: Floats, window: int) -> Floats:
    """Return (T,) means of the last `window` values, of fewer at the start; nan values are passed over.

    Examples
    --------
    >>> rolling_mean(np.array([1.0, 0.0, np.nan, 1.0]), 2).tolist()
    [1.0, 0.5, 0.0, 1.0]
    """
    valid = ~np.isnan(values)
    sums, counts = (np.concatenate([[0.0], np.cumsum(part)]) for part in (np.where(valid, values, 0.0), valid))
    start = np.maximum(np.arange(len(values)) + 1 - window, 0)
    count = counts[1:] - counts[start]
    means = (sums[1:] - sums[start]) / np.maximum(count, 1)
    return np.where(count > 0, means, np.nan)


def _trust(axes: Axes, trust: Mapping[str, Floats], window: int) -> None:
    axes.set_title(f"Trust of each modality, mean of {window} rows", fontsize=9, loc="left")
    with sides(axes, x="rows seen", y="trust"):
        for place, (m, values) in enumerate(trust.items()):
            axes.plot(np.arange(1, len(values) + 1), rolling_mean(values, window), color=colour(place), label=m)
    axes.set_ylim(0, 1.05)
    axes.legend(fontsize=8, framealpha=0.8, edgecolor="none", loc="lower left")


def _evidence(axes: Axes, evidence: Mapping[str, Evidence], threshold: float) -> None:
    axes.set_title("Evidence that the inputs have changed", fontsize=9, loc="left")
    with sides(axes, x="rows seen", y="martingale, log10"):
        axes.axhline(log10(threshold), color="0.5", linewidth=1, linestyle="--")
        for place, (m, one) in enumerate(evidence.items()):
            axes.plot(np.arange(1, len(one.log10) + 1), one.log10, color=colour(place))
            if one.alarm is not None:
                height = float(one.log10[one.alarm - 1])
                axes.plot(one.alarm, height, "o", color=colour(place), markersize=5)
                axes.annotate(
                    f"alarm: {m}, row {one.alarm}",
                    (one.alarm, height),
                    xytext=(-6, 4 + 11 * place),
                    textcoords="offset points",
                    ha="right",
                )
    low = min(float(one.log10.min()) for one in evidence.values())
    high = max(float(one.log10.max()) for one in evidence.values())
    axes.set_ylim(min(low, 0) - 0.5, max(high, log10(threshold)) * 1.1 + 1)
    axes.annotate("alarm line", (0, log10(threshold)), xytext=(4, 3), textcoords="offset points", color="0.5")


def _coverage(axes: Axes, followed: Mapping[str, Followed], target: float, window: int, head: str) -> None:
    axes.set_title(f"Coverage of the last {window} rows, {head}", fontsize=9, loc="left")
    start = min(window, len(next(iter(followed.values())).hits)) - 1
    with sides(axes, x="rows seen", y="coverage"):
        for place, (name, one) in enumerate(followed.items()):
            steps = np.arange(1, len(one.hits) + 1)
            covered = rolling_coverage(one.hits, window=window)
            axes.plot(steps[start:], covered[start:], color=colour(place), label=name, linewidth=1.2)
        axes.axhline(target, color="0.5", linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8, framealpha=0.8, edgecolor="none", loc="lower left", ncols=2)
