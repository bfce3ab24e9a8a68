"""How training went: accuracy, loss terms, quantiles and coverage of the predictor in the loop, reliability, time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformal_core import quantile_rank
from cpsc_train.reporting.report.panel import (
    Panel,
    Section,
    apart,
    colour,
    curve,
    file_name,
    legend,
    shortened,
    sides,
)
from cpsc_train.reporting.report.source import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy(runs: Sequence[Run]) -> Section:
    """Draw accuracy by epoch, a panel a head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        epochs, values = run.of_epochs("validation", "accuracy", head)
        curve(axes, epochs, _percent(values), place, run.name)
        seen, values = run.of_epochs("train", f"accuracy_{head}")
        axes.plot(seen, _percent(values), color=colour(place), linewidth=0.6, alpha=0.6)
        _marks(axes, run, head, place)

    panels = _by_head(runs, "accuracy", "Accuracy of", lines, y="accuracy, %")
    caption = (
        "Thick: validation rows. Thin: training rows, while their parameters still change. A dot is the epoch that was "
        "kept, the best fused accuracy on validation rows; a vertical line is the end of warm-up. A modality that "
        "stays low while the fused decision is good is one that training leans on too little."
    )
    return Section("Did every modality learn?", caption, panels, _without_records(runs))


def losses(runs: Sequence[Run]) -> Section:
    """Draw every loss term by epoch, a panel a run."""

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

        return Panel(f"losses-{file_name(run.name)}", f"Loss terms of {run.name}", draw)

    caption = (
        "The terms add up to what is minimised. Divergence terms are absent in warm-up, and may be negative: the push "
        "apart of the components is subtracted."
    )
    shown, more = apart(runs)
    panels = [panel(run) for run in shown if run.records]
    return Section("What was minimised?", caption, panels, [*_without_records(runs), *more])


def quantiles(runs: Sequence[Run]) -> Section:
    """Draw the conformal quantile by step, a panel a head."""
    shown = [run for run in runs if any("trace" in record for record in run.records)]

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        traces = [record["trace"] for record in run.records if head in record.get("trace", {}).get("qhat", {})]
        steps = [step for trace in traces for step in trace["step"]]
        values = [value for trace in traces for value in trace["qhat"][head]]
        curve(axes, steps, values, place, run.name, linewidth=0.9)
        axes.set_ylim(-0.02, 1.02)

    panels = _by_head(runs if shown else [], "qhat", "In-loop q̂ of", lines, x="step", y="in-loop q̂")
    caption = (
        "The score below which the true class lies for a share 1 − α of the calibration rows, as the loop used it. "
        "Low: the head is sure and right. Where it sinks to almost 0, sets hold one class and reliability stops "
        "telling samples apart."
    )
    return Section(
        "How sure did the calibration rows become?",
        caption,
        panels,
        [f"{run.name}: no conformal predictor takes part in its training" for run in runs if run not in shown],
    )


def coverage(runs: Sequence[Run]) -> Section:
    """Draw coverage of validation rows by epoch against the band it should stay in, a panel a head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        if place == 0:
            _band(axes, runs)
        epochs, values = run.of_epochs("validation", "coverage", head, "coverage")
        curve(axes, epochs, values, place, run.name)
        epochs, values = run.of_epochs("validation", "in_loop_coverage", head)
        axes.plot(epochs, values, color=colour(place), linewidth=0.7, linestyle=":")

    caption = (
        "Share of validation rows whose prediction set holds the true class. Line: a predictor calibrated afresh after "
        "the epoch. Dotted: the one in the loop, whose scores are some steps old. The band holds 95 % of what exact "
        "calibration gives with so few calibration and validation rows; out of it for long means that the two parts "
        "are not exchangeable, or the scores too old."
    )
    panels = _by_head(runs, "coverage", "Coverage of validation rows,", lines, y="coverage")
    return Section("Did coverage hold?", caption, panels, _without_records(runs))


def set_sizes(runs: Sequence[Run]) -> Section:
    """Draw the mean size of prediction sets by epoch, a panel a head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        epochs, values = run.of_epochs("validation", "coverage", head, "mean_size")
        curve(axes, epochs, values, place, run.name)

    panels = _by_head(runs, "set-size", "Mean set size,", lines, y="classes")
    caption = "Classes in the prediction set of a validation row. At equal coverage, smaller sets say more."
    return Section("How large are the prediction sets?", caption, panels, _without_records(runs))


def reliability(runs: Sequence[Run]) -> Section:
    """Draw the distribution of reliability by epoch, a panel a run and modality."""
    return _histograms(
        runs,
        "reliability",
        "Whom did GSC trust?",
        "Reliability of each modality on training rows, by which its gradient is weighted. Darker: more rows. At the "
        "top every row is trusted in full, and the weights are all alike.",
    )


def component_reliability(runs: Sequence[Run]) -> Section:
    """Draw the distribution of the reliability of components by epoch, a panel a run and modality."""
    return _histograms(
        runs,
        "component_reliability",
        "Which components did RSC find reliable?",
        "Reliability of each component of each training row, given its label; the most reliable ones are recomposed. "
        "A heap at 0 is components whose set does not hold the true class.",
    )


def seconds(runs: Sequence[Run]) -> Section:
    """Draw where the time of an epoch went."""
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
    panels = [Panel("seconds", "Seconds an epoch", draw)] if shown else []
    return Section("Where did the time go?", caption, panels, _without_records(runs))


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

        name = f"{kind.replace('_', '-')}-{file_name(run.name)}-{modality}"
        return Panel(name, f"{run.name}, {modality}" if len(runs) > 1 else modality, draw)

    panels: list[Panel] = []
    shown, absent = apart(runs)
    for run in shown:
        found = [modality for modality in run.modalities if run.of_epochs(kind, modality)[0]]
        panels += [panel(run, modality) for modality in found]
        if not found:
            absent.append(f"{run.name}: its method has none ({run.config['method']['name']})")
    return Section(title, caption, panels, absent)


def _by_head(
    runs: Sequence[Run],
    name: str,
    title: str,
    lines: Callable[[Axes, str, int, Run], None],
    *,
    y: str,
    x: str = "epoch",
) -> list[Panel]:
    """Return a panel for each head, in which `lines` draws one run after the other."""

    def panel(head: str) -> Panel:
        def draw(axes: Axes) -> None:
            with sides(axes, x=x, y=y):
                for place, run in enumerate(runs):
                    lines(axes, head, place, run)
            legend(axes, [run.name for run in runs])

        return Panel(f"{name}-{head}", f"{title} {head}", draw)

    return [panel(head) for head in dict.fromkeys(head for run in runs for head in run.heads)]


def _marks(axes: Axes, run: Run, head: str, place: int) -> None:
    selected = (run.results or {}).get("selected", {})
    if selected:
        value = 100 * selected["validation_accuracy"][head] if head in selected["validation_accuracy"] else np.nan
        axes.plot([selected["epoch"]], [value], "o", color=colour(place), markersize=4)
    warm = [record["epoch"] for record in run.records if record["phase"] == "warm-up"]
    if warm:
        axes.axvline(warm[-1] + 0.5, color=colour(place), linewidth=0.6, alpha=0.5)


def _band(axes: Axes, runs: Sequence[Run]) -> None:
    """Shade where coverage lies with a probability of 95 % if calibration and validation rows are exchangeable.

    With n calibration rows and rank k of the quantile the hits among m rows are beta-binomial, (m, k, n + 1 − k).
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
            low, high = (betabinom.ppf(share, m, rank, n + 1 - rank) / m for share in (0.025, 0.975))
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
    component_reliability,
    seconds,
)
