"""Sections on training: accuracy, loss terms, quantiles, coverage, set sizes, reliability and time by epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformal_core import quantile_rank
from cpsc_train.reporting.report.panel import (
    Panel,
    Section,
    by_head,
    colour,
    curve,
    individual,
    shortened,
    sides,
)
from cpsc_train.reporting.report.source import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy(runs: Sequence[Run]) -> Section:
    """Draw accuracy by epoch, a panel per head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        epochs, values = run.of_epochs("validation", "accuracy", head)
        curve(axes, epochs, _percent(values), place, run.name)
        epochs, values = run.of_epochs("train", f"accuracy_{head}")
        axes.plot(epochs, _percent(values), color=colour(place), linewidth=0.6, alpha=0.6)
        _marks(axes, run, head, place)

    panels = by_head(runs, "accuracy", "Accuracy of", lines, y="accuracy, %")
    caption = (
        "Thick: validation rows. Thin: training rows, measured during the epoch. A dot marks the best epoch, by fused "
        "accuracy on validation rows; a vertical line marks the end of warm-up. A modality that stays low while the "
        "fused decision is good is used too little in training."
    )
    return Section("Accuracy", caption, panels, _without_records(runs))


def losses(runs: Sequence[Run]) -> Section:
    """Draw every loss term by epoch, a panel per run."""

    def panel(run: Run) -> Panel:
        def draw(axes: Axes) -> None:
            terms = list(dict.fromkeys(term for record in run.records for term in record["loss"]))
            with sides(axes, x="epoch", y="mean over the training rows"):
                for place, term in enumerate(terms):
                    epochs, values = run.of_epochs("loss", term)
                    axes.plot(epochs, values, color=colour(place), label=term)
            axes.set_yscale("symlog", linthresh=1e-3)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.legend(fontsize=6, frameon=False)

        return Panel(f"losses-{run.name}", f"Loss terms of {run.name}", draw)

    caption = (
        "The sum of the terms is minimised. Divergence terms are absent during warm-up, and may be negative, since the "
        "diversity of the components is subtracted."
    )
    shown, more = individual(runs)
    panels = [panel(run) for run in shown if run.records]
    return Section("Loss terms", caption, panels, [*_without_records(runs), *more])


def quantiles(runs: Sequence[Run]) -> Section:
    """Draw the conformal quantile by step, a panel per head."""
    name = "in_loop_quantile"
    shown = [run for run in runs if any("trace" in record for record in run.records)]

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        traces = [record["trace"] for record in run.records if head in record.get("trace", {}).get(name, {})]
        steps = [step for trace in traces for step in trace["step"]]
        values = [value for trace in traces for value in trace[name][head]]
        curve(axes, steps, values, place, run.name, linewidth=0.9)
        axes.set_ylim(-0.02, 1.02)

    title = "In-loop quantile"
    panels = by_head(runs if shown else [], "in-loop-quantile", f"{title} of", lines, x="step", y=title.lower())
    caption = (
        "The 1 − α quantile of the calibration scores, as used in the training loop. It is low if the head is "
        "confident and right. Near 0, sets contain one class and reliability no longer distinguishes samples."
    )
    absent = [f"{run.name}: no conformal predictor takes part in its training" for run in runs if run not in shown]
    return Section("In-loop quantile", caption, panels, absent)


def coverage(runs: Sequence[Run]) -> Section:
    """Draw coverage of validation rows by epoch, with the band expected for it, a panel per head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        if place == 0:
            _band(axes, runs)
        epochs, values = run.of_epochs("validation", "coverage", head, "coverage")
        curve(axes, epochs, values, place, run.name)
        epochs, values = run.of_epochs("validation", "in_loop_coverage", head)
        axes.plot(epochs, values, color=colour(place), linewidth=0.7, linestyle=":")

    caption = (
        "Fraction of validation rows whose prediction set contains the true class. Line: a predictor calibrated after "
        "the epoch. Dotted: the one of the training loop, whose scores are some steps old. The band contains 95 % of "
        "the coverages expected with these numbers of rows; a curve that stays outside means that the two parts are "
        "not exchangeable, or that the scores are too old."
    )
    panels = by_head(runs, "coverage", "Coverage of validation rows,", lines, y="coverage")
    return Section("Coverage", caption, panels, _without_records(runs))


def set_sizes(runs: Sequence[Run]) -> Section:
    """Draw the mean size of prediction sets by epoch, a panel per head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        epochs, values = run.of_epochs("validation", "coverage", head, "mean_size")
        curve(axes, epochs, values, place, run.name)

    panels = by_head(runs, "set-size", "Mean set size,", lines, y="classes")
    caption = "Classes in the prediction set of a validation row. At equal coverage, smaller sets are more informative."
    return Section("Size of the prediction sets", caption, panels, _without_records(runs))


def reliability(runs: Sequence[Run]) -> Section:
    """Draw the distribution of reliability by epoch, a panel per run and modality."""
    return _histograms(
        runs,
        "reliability",
        "Reliability of modalities (GSC)",
        "Reliability of each modality on training rows, which weights its gradient. Darker: more rows. If all rows are "
        "at the top, all weights are equal.",
    )


def reliability_course(runs: Sequence[Run]) -> Section:
    """Draw the mean, the standard deviation and the fraction at 1 of reliability by epoch, a panel per modality."""
    shown = [run for run in runs if any("reliability" in record.get("spread", {}) for record in run.records)]

    def panel(modality: str) -> Panel:
        def draw(axes: Axes) -> None:
            with sides(axes, x="epoch", y="reliability"):
                for place, run in enumerate(shown):
                    epochs, spreads = run.of_epochs("spread", "reliability", modality)
                    mean, sd, at_one = (np.array([of[name] for of in spreads]) for name in ("mean", "sd", "at_one"))
                    curve(axes, epochs, mean, place, run.name)
                    axes.fill_between(epochs, mean - sd, mean + sd, color=colour(place), alpha=0.15, linewidth=0)
                    axes.plot(epochs, at_one, color=colour(place), linewidth=0.8, linestyle=":")
            axes.set_ylim(-0.02, 1.02)

        return Panel(f"reliability-course-{modality}", modality, draw)

    panels = [panel(modality) for modality in dict.fromkeys(m for run in shown for m in run.modalities)]
    caption = (
        "Reliability of the training rows after warm-up. Line: mean; band: one standard deviation; dotted: fraction of "
        "rows with reliability 1. Where it is close to 1, GSC gives nearly all rows the same weight."
    )
    absent = [f"{run.name}: its method has none ({run.config['method']['name']})" for run in runs if run not in shown]
    return Section("Reliability over training", caption, panels, absent)


def component_reliability(runs: Sequence[Run]) -> Section:
    """Draw the distribution of the reliability of components by epoch, a panel per run and modality."""
    return _histograms(
        runs,
        "component_reliability",
        "Reliability of components (RSC)",
        "Reliability of each component of each training row, given its label; the most reliable ones are recomposed. "
        "A component whose set does not contain the true class has reliability 0.",
    )


def seconds(runs: Sequence[Run]) -> Section:
    """Draw the time of the parts of an epoch."""
    shown = [run for run in runs if run.records]

    def draw(axes: Axes) -> None:
        parts = list(dict.fromkeys(part for run in shown for record in run.records for part in record["time"]))
        left = np.zeros(len(shown))
        with sides(axes, x="seconds, median of all epochs after warm-up", y=""):
            for place, part in enumerate(parts):
                width = np.array([_median(run, part) for run in shown])
                axes.barh(np.arange(len(shown)), width, left=left, color=colour(place), label=part)
                left += width
        axes.set_yticks(np.arange(len(shown)), [shortened(run.name) for run in shown])
        axes.invert_yaxis()
        axes.legend(fontsize=6, frameon=False)

    caption = "Waiting for data; forward, backward and the optimizer; re-scoring calibration rows; validation."
    panels = [Panel("seconds", "Seconds per epoch", draw)] if shown else []
    return Section("Time", caption, panels, _without_records(runs))


def _histograms(runs: Sequence[Run], kind: str, title: str, caption: str) -> Section:
    def panel(run: Run, modality: str) -> Panel:
        def draw(axes: Axes) -> None:
            epochs, counts = run.of_epochs(kind, modality)
            table = np.array(counts, dtype=float).T
            table /= np.maximum(table.sum(0), 1)
            extent = (epochs[0] - 0.5, epochs[-1] + 0.5, 0, 1)
            axes.imshow(table**0.5, aspect="auto", origin="lower", extent=extent, cmap="Blues", vmin=0, vmax=1)
            axes.set_xlabel("epoch")
            axes.set_ylabel("reliability")

        name = f"{kind.replace('_', '-')}-{run.name}-{modality}"
        return Panel(name, f"{run.name}, {modality}" if len(runs) > 1 else modality, draw)

    panels: list[Panel] = []
    shown, absent = individual(runs)
    for run in shown:
        modalities = [modality for modality in run.modalities if run.of_epochs(kind, modality)[0]]
        panels += [panel(run, modality) for modality in modalities]
        if not modalities:
            absent.append(f"{run.name}: its method has none ({run.config['method']['name']})")
    return Section(title, caption, panels, absent)


def _marks(axes: Axes, run: Run, head: str, place: int) -> None:
    selected = (run.results or {}).get("selected", {})
    if selected:
        value = 100 * selected["validation_accuracy"][head] if head in selected["validation_accuracy"] else np.nan
        axes.plot([selected["epoch"]], [value], "o", color=colour(place), markersize=4)
    warm = [record["epoch"] for record in run.records if record["phase"] == "warm-up"]
    if warm:
        axes.axvline(warm[-1] + 0.5, color=colour(place), linewidth=0.6, alpha=0.5)


def _band(axes: Axes, runs: Sequence[Run]) -> None:
    """Shade the 95 % interval of coverage if calibration and validation rows are exchangeable.

    With n calibration rows and rank k of the quantile, the hits among m rows are beta-binomial, (m, k, n + 1 − k).
    """
    from scipy.stats import betabinom  # noqa: PLC0415  # slow to import

    known = {
        (run.results["data"]["calibration"], run.results["data"]["validation"], run.config["conformal"]["alpha"])
        for run in runs
        if run.results is not None
    }
    for n, m, alpha in known:
        axes.axhline(1 - alpha, color="0.5", linewidth=0.8)
        rank = quantile_rank(n, alpha)
        if rank is not None:
            low, high = (betabinom.ppf(tail, m, rank, n + 1 - rank) / m for tail in (0.025, 0.975))
            axes.axhspan(low, high, color="0.5", alpha=0.15 / len(known), linewidth=0)


def _median(run: Run, part: str) -> float:
    after = [record for record in run.records if record["phase"] != "warm-up"] or run.records
    return float(np.median([record["time"].get(part, 0.0) for record in after]))


def _percent(values: Sequence[Any]) -> list[float]:
    return [100 * float(value) for value in values]


def _without_records(runs: Sequence[Run]) -> list[str]:
    return [f"{run.name}: no epoch is done ({run.status})" for run in runs if not run.records]


SECTIONS: tuple[Callable[[Sequence[Run]], Section], ...] = (
    accuracy,
    losses,
    quantiles,
    coverage,
    set_sizes,
    reliability,
    reliability_course,
    component_reliability,
    seconds,
)
