"""Sections on training: accuracy, loss terms, prediction sets, in-loop quantiles and reliability by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conformal_core import quantile_rank
from cpsc_train.reporting.report.panel import Panel, Section, by_head, colour, curve, individual, legend, of, sides
from cpsc_train.reporting.report.source import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy(runs: Sequence[Run]) -> Section:
    """Draw accuracy by epoch, a panel for each head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        epochs, values = run.of_epochs("validation", "accuracy", head)
        curve(axes, epochs, 100 * np.array(values), place, run.name)
        epochs, values = run.of_epochs("train", f"accuracy_{head}")
        axes.plot(epochs, 100 * np.array(values), color=colour(place), linewidth=0.6, alpha=0.6)
        _marks(axes, run, head, place)

    panels = by_head(_started(runs), "epochs-accuracy", "Accuracy of", lines, y="accuracy, %")
    caption = (
        "Thick: validation rows. Thin: training rows, measured during the epoch. A dot marks the best epoch, by fused "
        "accuracy on validation rows; a vertical line marks the end of warm-up. A modality that stays low while the "
        "fused decision is good is used too little in training."
    )
    return Section("Training: accuracy", caption, panels)


def losses(runs: Sequence[Run]) -> Section:
    """Draw every loss term by epoch, a panel for each run."""

    def panel(run: Run) -> Panel:
        def draw(axes: Axes) -> None:
            with sides(axes, x="epoch", y="mean"):
                for place, term in enumerate(dict.fromkeys(term for record in run.records for term in record["loss"])):
                    curve(axes, *run.of_epochs("loss", term), place, term)
            axes.set_yscale("symlog", linthresh=1e-3)
            axes.yaxis.set_major_formatter("{x:g}")
            legend(axes)

        return Panel(f"losses-{run.name}", f"Loss terms{of(run, runs)}", draw, "mean over the training rows by epoch")

    caption = (
        "Means over the training rows. The sum of the terms is minimised. Divergence terms are absent during warm-up, "
        "and may be negative, since the diversity of the components is subtracted."
    )
    return Section("Training: loss", caption, [panel(run) for run in individual(runs) if run.records])


def sets(runs: Sequence[Run]) -> Section:
    """Draw coverage of validation rows with the band expected for it, and mean set size, by epoch and head."""

    def coverage(axes: Axes, head: str, place: int, run: Run) -> None:
        if place == 0:
            _band(axes, runs)
        epochs, values = run.of_epochs("validation", "coverage", head, "coverage")
        curve(axes, epochs, values, place, run.name)
        epochs, values = run.of_epochs("validation", "in_loop_coverage", head)
        axes.plot(epochs, values, color=colour(place), linewidth=0.9, linestyle=":")

    def sizes(axes: Axes, head: str, place: int, run: Run) -> None:
        curve(axes, *run.of_epochs("validation", "coverage", head, "mean_size"), place, run.name)

    caption = (
        "Coverage and mean size of the prediction sets of validation rows. Line: threshold calibrated after the epoch. "
        "Dotted: in-loop quantile, whose scores are some steps old. The band contains 95 % of the coverages expected "
        "with these numbers of rows; a curve that stays outside means that the two parts are not exchangeable, or "
        "that the scores are too old. At equal coverage, smaller sets are more informative."
    )
    shown = _started(runs)
    panels = by_head(shown, "epochs-coverage", "Coverage,", coverage, y="coverage")
    panels += by_head(shown, "epochs-set-size", "Mean set size,", sizes, y="classes")
    return Section("Training: prediction sets", caption, panels)


def quantiles(runs: Sequence[Run]) -> Section:
    """Draw the in-loop quantile by step, a panel for each head, if training uses a conformal predictor."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        traces = [trace for trace in run.of_epochs("trace")[1] if head in trace["in_loop_quantile"]]
        steps = [step for trace in traces for step in trace["step"]]
        values = [value for trace in traces for value in trace["in_loop_quantile"][head]]
        curve(axes, steps, values, place, run.name, linewidth=0.9)
        axes.set_ylim(-0.02, 1.02)

    shown = any(run.of_epochs("trace")[0] for run in runs)
    panels = by_head(
        runs if shown else [], "in-loop-quantile", "In-loop quantile,", lines, x="step", y="in-loop quantile"
    )
    caption = (
        "The 1 − α quantile of calibration scores that training uses. It is low if the head is confident and right. "
        "Near 0, sets contain one class and reliability no longer distinguishes samples."
    )
    return Section("Training: in-loop quantile", caption, panels)


def reliability(runs: Sequence[Run]) -> Section:
    """Draw mean, standard deviation and fraction at 1 of reliability by epoch, a panel for each modality."""

    def panel(kind: str, modality: str) -> Panel:
        def draw(axes: Axes) -> None:
            with sides(axes, x="epoch", y="reliability"):
                for place, run in enumerate(runs):
                    epochs, spreads = run.of_epochs("spread", kind, modality)
                    mean, sd, at_one = (np.array([one[name] for one in spreads]) for name in ("mean", "sd", "at_one"))
                    curve(axes, epochs, mean, place, run.name)
                    axes.fill_between(epochs, mean - sd, mean + sd, color=colour(place), alpha=0.15, linewidth=0)
                    axes.plot(epochs, at_one, color=colour(place), linewidth=0.9, linestyle=":")
            axes.set_ylim(-0.02, 1.02)
            legend(axes)

        title = f"{modality} (GSC)" if kind == "reliability" else f"components of {modality} (RSC)"
        return Panel(
            f"{kind.replace('_', '-')}-{modality}", title, draw, "mean reliability by epoch, a line for each run"
        )

    kinds = {
        (kind, modality): panel(kind, modality)
        for kind in ("reliability", "component_reliability")
        for run in runs
        for modality in run.modalities
        if run.of_epochs("spread", kind, modality)[0]
    }
    caption = (
        "Reliability of the training rows after warm-up: of a modality, which weights its gradient (GSC), and of its "
        "components given the label, of which the most reliable are recomposed (RSC). Line: mean; band: one standard "
        "deviation; dotted: fraction at 1. Where that is close to 1, GSC gives nearly all rows the same weight."
    )
    return Section("Training: reliability", caption, list(kinds.values()))


def _started(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs, all of them so that each has its colour; none if no epoch is done."""
    return runs if any(run.records for run in runs) else []


def _marks(axes: Axes, run: Run, head: str, place: int) -> None:
    selected = (run.results or {}).get("selected", {})
    if head in selected.get("validation_accuracy", {}):
        value = 100 * selected["validation_accuracy"][head]
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
        rank = quantile_rank(n, alpha=alpha)
        if rank is not None:
            low, high = (betabinom.ppf(tail, m, rank, n + 1 - rank) / m for tail in (0.025, 0.975))
            axes.axhspan(low, high, color="0.5", alpha=0.15 / len(known), linewidth=0)
