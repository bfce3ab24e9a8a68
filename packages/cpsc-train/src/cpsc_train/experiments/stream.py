"""The test rows of a run as a stream, and the coverage of conformal predictors on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core import rolling_coverage
from cpsc_train.data import Condition, conditions
from cpsc_train.evaluation import Predictions
from cpsc_train.experiments.course import Course, Order, ordered
from cpsc_train.experiments.predictors import Followed, density_ratios, follow
from cpsc_train.models import FUSED, GateConfig
from cpsc_train.reporting.report.panel import COLOURS, Panel, require_matplotlib
from cpsc_train.training.run import opened
from cpsc_train.training.setup import Setup
from cpsc_train.writing import write


def stream(
    folder: Path | str,
    *,
    order: Order = "data",
    drift: Sequence[str] = (),
    gate: GateConfig | None = None,
    window: int = 100,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Predict the test rows of a run one after another, and reveal each label after its prediction.

    Parameters
    ----------
    folder
        Run folder.
    order
        Order of the rows.
    drift
        Noise of the second half of the stream, as ``MODALITY:KIND@1-5`` or ``MODALITY:KIND:SEVERITY``; the first half
        is clean. Several levels follow one another in equal parts.
    gate
        Conformal gate that replaces that of the run.
    window
        Number of consecutive rows over which the lowest coverage is reported.
    picture
        PNG file to draw.

    Returns
    -------
    dict
        ``target``; ``rows``; ``window``; ``heads``: by head and predictor ``coverage``, ``worst`` and ``mean_size``; if
        rows are weighted, ``calibration`` and ``effective``: the number of calibration rows, and their effective
        number.

    Raises
    ------
    UserError
        If the data set has no groups, noise does not fit a modality, matplotlib is needed and missing, or the picture
        cannot be written.
    """
    if picture is not None:
        require_matplotlib()
    with opened(folder, gate=gate) as (setup, evaluator):
        drifts = drifting(setup, drift)
        course = Course.drifting(ordered(setup, order), len(drifts))
        calibration, clean = evaluator.collect("calibration"), evaluator.collect("test")
        tests = [clean, *(evaluator.collect("test", one.parts) for one in drifts)]
    rows = along(course, tests)
    ratios = None
    if not drifts:
        ratios = density_ratios(_side_by_side(calibration), _side_by_side(clean)[course.rows])
    alpha = setup.config.conformal.alpha
    followed = {head: follow(calibration, rows, head, alpha=alpha, ratios=ratios) for head in rows.probabilities}
    heads = {head: {name: one.figures(window) for name, one in by.items()} for head, by in followed.items()}
    results = {"target": 1 - alpha, "rows": len(course.rows), "window": window, "heads": heads}
    if ratios is not None:
        results |= {
            "calibration": len(ratios[0]),
            "effective": float(ratios[0].sum() ** 2 / np.square(ratios[0]).sum()),
        }
    if picture is not None:
        panel = Panel(
            "stream", f"Coverage of the last {window} rows, fused", _drawn(followed[FUSED], 1 - alpha, window)
        )
        write(picture, panel.render("light"))
    return results


def drifting(setup: Setup, texts: Sequence[str]) -> list[Condition]:
    """Return the conditions of the second half of a stream, in order."""
    dataset = setup.dataset
    return [one for text in texts for one in conditions(text, dataset.modalities, dataset=dataset)]


def along(course: Course, tests: Sequence[Predictions]) -> Predictions:
    """Return the labels and probabilities of each step, from the predictions for all rows by condition."""
    probabilities = course.each([one.probabilities for one in tests])
    return Predictions(tests[0].labels[course.rows], probabilities)


def _side_by_side(predictions: Predictions) -> NDArray[np.float64]:
    return np.concatenate(list(predictions.features.values()), -1).astype(np.float64)


def _drawn(followed: dict[str, Followed], target: float, window: int) -> Any:
    def draw(axes: Any) -> None:
        for place, (name, one) in enumerate(followed.items()):
            axes.plot(rolling_coverage(one.hits, window=window), color=COLOURS[place], label=name, linewidth=1.2)
        axes.axhline(target, color="0.5", linewidth=0.8, linestyle="--")
        axes.set_xlabel("rows seen")
        axes.set_ylabel("coverage")
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize=7, loc="lower right")

    return draw
