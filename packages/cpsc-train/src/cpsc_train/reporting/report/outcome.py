"""Sections on the test rows: noise, confusion, prediction sets, confidence and features of the best epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.evaluation import metrics
from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import (
    Panel,
    Section,
    by_head,
    colour,
    curve,
    individual,
    legend,
    shortened,
    sides,
)
from cpsc_train.reporting.report.severity import severity_panels
from cpsc_train.reporting.report.source import Run
from cpsc_train.reporting.report.trust import inference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 10
"""Bins of confidence."""
MARKERS = ("o", "^", "s", "x")


def noise(runs: Sequence[Run]) -> Section:
    """Draw fused accuracy by severity, a panel per modality and kind of noise, and one of missing modalities."""
    done = [run for run in runs if run.results is not None]

    def missing(axes: Axes) -> None:
        conditions = ["clean", *_missing(done)]
        width = 0.8 / len(done)
        with sides(axes, x="", y="fused accuracy, %"):
            for place, run in enumerate(done):
                values = [100 * _accuracy(run, name, FUSED) for name in conditions]
                axes.bar(
                    np.arange(len(conditions)) + width * (place - (len(done) - 1) / 2),
                    values,
                    width,
                    color=colour(place),
                    label=run.name,
                )
        axes.set_xticks(np.arange(len(conditions)), conditions)
        legend(axes, [run.name for run in done], place="lower right")

    panels = severity_panels(done)
    if _missing(done):
        panels.append(Panel("missing", "Missing modalities", missing))
    caption = (
        "Accuracy of the fused decision on test rows if modalities are noisy in every row (level or severity 0 is "
        "clean), and if one is missing. A model that falls below its better modality alone still relies on the "
        "corrupted one."
    )
    return Section("Noise and missing modalities", caption, panels, _unfinished(runs))


def confusion(runs: Sequence[Run]) -> Section:
    """Draw the confusion matrix of the fused decision, a panel per run."""

    def panel(run: Run) -> Panel:
        def draw(axes: Axes) -> None:
            labels = run.predictions["labels"]
            counts = metrics.confusion_matrix(run.predictions[f"probabilities/{FUSED}"], labels)
            fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
            names = [shortened(str(name)) for name in run.predictions["classes"]]
            if len(names) <= 12:
                for (row, column), count in np.ndenumerate(counts):
                    ink = "white" if fractions[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count) if count else "", ha="center", va="center", fontsize=6, color=ink)
            every = max(1, len(names) // 20)
            places = np.arange(0, len(names), every)
            axes.set_xticks(places, names[::every], rotation=90 if max(map(len, names)) > 3 else 0, fontsize=6)
            axes.set_yticks(places, names[::every], fontsize=6)
            axes.set_xlabel("predicted")
            axes.set_ylabel("true")

        return Panel(f"confusion-{run.name}", f"Confusion of {run.name}, fused", draw)

    caption = "Clean test rows by true and predicted class; the shade is the fraction of the true class."
    shown, more = individual([run for run in runs if run.predictions])
    panels = [panel(run) for run in shown]
    return Section("Confusion", caption, panels, [*_bare(runs), *more])


def sets(runs: Sequence[Run]) -> Section:
    """Draw accuracy by set size, and the coverage of each class."""
    done = [run for run in runs if run.results is not None]

    def by_size(run: Run) -> Panel:
        def draw(axes: Axes) -> None:
            sizes = _clean(run)["coverage"][FUSED]["sizes"]
            rows = np.array([entry["count"] for entry in sizes.values()])
            values = [100 * entry["accuracy"] for entry in sizes.values()]
            with sides(axes, x="classes in the prediction set", y="accuracy, %"):
                bars = axes.bar(list(sizes), values, color=colour(0), width=0.6)
            axes.bar_label(bars, [f"{count} rows" for count in rows], fontsize=6)
            axes.set_ylim(0, 110)

        return Panel(f"set-accuracy-{run.name}", f"Accuracy by set size, {run.name}", draw)

    def by_class(axes: Axes) -> None:
        with sides(axes, x="class", y="coverage"):
            for place, run in enumerate(done):
                values = _clean(run)["coverage"][FUSED]["class_coverage"]
                coverages = [np.nan if value is None else value for value in values]
                curve(axes, range(len(coverages)), coverages, place, run.name, marker="o", markersize=3)
            for target in {1 - run.config["conformal"]["alpha"] for run in done}:
                axes.axhline(target, color="0.5", linewidth=0.8)
        axes.set_ylim(top=1.02)
        legend(axes, [run.name for run in done])

    shown, more = individual(done)
    panels = [by_size(run) for run in shown]
    if done:
        panels.append(Panel("class-coverage", "Coverage of each class, fused", by_class))
    caption = (
        "Clean test rows. Rows with a set of one class should be right far more often than the others. Coverage is "
        "guaranteed over all classes together, not for each."
    )
    return Section("Prediction sets", caption, panels, [*_unfinished(runs), *more])


def confidence(runs: Sequence[Run]) -> Section:
    """Draw accuracy by confidence, a panel per head."""

    def lines(axes: Axes, head: str, place: int, run: Run) -> None:
        if place == 0:
            axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8)
        if f"probabilities/{head}" in run.predictions:
            rows = having(run.predictions, head)
            x, y = _by_confidence(run.predictions[f"probabilities/{head}"][rows], run.predictions["labels"][rows])
            curve(axes, x, y, place, run.name, marker="o", markersize=3)

    shown = [run for run in runs if run.predictions]
    panels = by_head(shown, "confidence", "Accuracy by confidence,", lines, x="confidence", y="accuracy")
    caption = "Clean test rows in ten bins of the largest probability. Below the diagonal: overconfident."
    return Section("Calibration of probabilities", caption, panels, _bare(runs))


def features(runs: Sequence[Run]) -> Section:
    """Draw the first two principal components of the features, a panel per run and modality."""

    def panel(run: Run, modality: str) -> Panel:
        def draw(axes: Axes) -> None:
            values = run.predictions[f"features/{modality}"]
            rows = having(run.predictions, modality)[: len(values)]
            points, labels = principal_components(values[rows]), run.predictions["labels"][: len(values)][rows]
            for place, name in enumerate(run.predictions["classes"]):
                of = points[labels == place]
                axes.scatter(
                    of[:, 0], of[:, 1], s=5, color=colour(place), marker=MARKERS[place // 8 % 4], label=str(name)
                )
            if len(run.predictions["classes"]) <= 12:
                axes.legend(fontsize=5, frameon=False, markerscale=1.5, loc="center left", bbox_to_anchor=(1, 0.5))
            axes.set_xticks([])
            axes.set_yticks([])

        return Panel(
            f"features-{run.name}-{modality}", f"Features of {modality}, {run.name}{_separation(run, modality)}", draw
        )

    shown, more = individual([run for run in runs if run.predictions])
    panels = [panel(run, m) for run in shown for m in run.modalities if f"features/{m}" in run.predictions]
    caption = (
        "Test rows in the plane of largest variance of the features of the encoder, coloured by class. In brackets, "
        "over all dimensions: within-class over between-class scatter (lower is better) and the mean silhouette "
        "(higher is better)."
    )
    return Section("Features", caption, panels, [*_bare(runs), *more])


def having(predictions: Mapping[str, NDArray[Any]], head: str) -> NDArray[np.bool_]:
    """Return which saved test rows have the modality of a head, (N,)."""
    everywhere = np.ones(len(predictions["labels"]), dtype=np.bool_)
    return predictions.get(f"present/{head}", everywhere)


def principal_components(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return (N, 2) coordinates of (N, d) values in the plane of their largest variance; O(N·d²).

    Examples
    --------
    >>> line = np.outer(np.arange(3.0), [3.0, 4.0])
    >>> np.abs(principal_components(line)).round(3).tolist()
    [[5.0, 0.0], [0.0, 0.0], [5.0, 0.0]]
    """
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    return np.pad(left * scale, ((0, 0), (0, max(0, 2 - len(scale)))))[:, :2]


def _by_confidence(probabilities: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    sure, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    places = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(places, minlength=BINS)
    filled = count > 0
    mean, accuracy = (np.bincount(places, values, BINS)[filled] / count[filled] for values in (sure, right))
    return mean, accuracy


def _clean(run: Run) -> dict[str, Any]:
    return dict((run.results or {})["test"]["clean"])


def _separation(run: Run, modality: str) -> str:
    """Return scatter ratio and silhouette of a modality in brackets; empty where they are unknown."""
    of = (run.results or {}).get("separation", {}).get(modality, {})
    if of.get("scatter") is None:
        return ""
    return f" (scatter {of['scatter']:.2f}, silhouette {of['silhouette']:.2f})"


def _accuracy(run: Run, condition: str | None, head: str) -> float:
    results = (run.results or {}).get("test", {}).get(condition, {})
    return float(results.get("accuracy", {}).get(head, np.nan))


def _missing(runs: Sequence[Run]) -> list[str]:
    names = (name for run in runs for name in (run.results or {}).get("test", {}))
    return list(dict.fromkeys(name for name in names if name.startswith("without-")))


def _unfinished(runs: Sequence[Run]) -> list[str]:
    return [f"{run.name}: is not done ({run.status})" for run in runs if run.results is None]


def _bare(runs: Sequence[Run]) -> list[str]:
    return [f"{run.name}: has no predictions.npz ({run.status})" for run in runs if not run.predictions]


SECTIONS: tuple[Callable[[Sequence[Run]], Section], ...] = (noise, inference, confusion, sets, confidence, features)
