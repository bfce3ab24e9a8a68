"""The test rows of a run as a stream: coverage of conformal predictors, trust, and evidence of change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data import Condition, conditions
from cpsc_train.evaluation import Predictions
from cpsc_train.experiments.evidence import Course, Order, ordered
from cpsc_train.experiments.predictors import density_ratios, follow
from cpsc_train.experiments.stream_picture import picture as drawn
from cpsc_train.experiments.trusted import along, fitted_trust, observe, watch
from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import require_matplotlib
from cpsc_train.training.run import opened
from cpsc_train.training.setup import Setup
from cpsc_train.writing import write


def stream(
    folder: Path | str,
    *,
    order: Order = "data",
    drift: Sequence[str] = (),
    window: int = 100,
    delta: float = 0.01,
    picture: Path | None = None,
    root: str | None = None,
) -> dict[str, Any]:
    """Predict the test rows of a run one after another, and reveal each label after its prediction.

    Raises UserError if the data set has no groups, noise does not fit a modality, matplotlib is needed and missing, or
    the picture cannot be written.

    - `folder`: run folder.
    - `order`: order of the rows.
    - `drift`: noise of the second half of the stream, as ``MODALITY:KIND@1-5`` or ``MODALITY:KIND:SEVERITY``; the first
      half is clean. Several levels follow one another in equal parts.
    - `window`: number of consecutive rows over which the lowest coverage is reported.
    - `delta`: probability of any false alarm on a stream that is exchangeable with the calibration rows.
    - `picture`: PNG file to draw.
    - `root`: folder of the data set, if it has moved since the run.

    Returns
    -------
    dict
        ``target``; ``rows``; ``window``; ``heads``: by head and predictor ``coverage``, ``worst`` and ``mean_size``; if
        rows are weighted, ``calibration`` and ``effective``: the number of calibration rows, and their effective
        number. If the run has the variant ``trust``, ``trust``: the figures of `Watched`.
    """
    if picture is not None:
        require_matplotlib()
    watched = None
    with opened(folder, root=root) as (setup, evaluator):
        drifts = drifting(setup, drift)
        course = Course.drifting(ordered(setup, order), len(drifts))
        alpha, names = setup.config.conformal.alpha, ["clean", *(one.name for one in drifts)]
        variant = fitted_trust(evaluator)
        calibration, clean = evaluator.collect("calibration"), evaluator.collect("test")
        tests = [clean, *(evaluator.collect("test", one.parts) for one in drifts)]
        if variant is not None:
            known, *others = (observe(evaluator, variant, rows) for rows in (calibration, *tests))
            watched = watch(course, known, others, names, alpha=alpha, delta=delta)
    ratios = None if drifts else density_ratios(_side_by_side(calibration), _side_by_side(clean)[course.rows])
    rows = along(course, tests)
    followed = {head: follow(calibration, rows, head, alpha=alpha, ratios=ratios) for head in rows.probabilities}
    heads = {head: {name: one.figures(window) for name, one in by.items()} for head, by in followed.items()}
    results = {"target": 1 - alpha, "rows": len(course.rows), "window": window, "heads": heads}
    if ratios is not None:
        results |= {
            "calibration": len(ratios[0]),
            "effective": effective_number(ratios[0]),
        }
    if watched is not None:
        results["trust"] = watched.figures(window)
    if picture is not None:
        write(picture, drawn(followed[FUSED], watched, target=1 - alpha, window=window))
    return results


def effective_number(weights: NDArray[np.float64]) -> float:
    """Return the number of equally weighted rows that weights (N,) ≥ 0 are worth.

    Examples
    --------
    >>> effective_number(np.array([1.0, 1.0, 0.0])), effective_number(np.zeros(3))
    (2.0, 0.0)
    """
    squares = np.square(weights).sum()
    return float(weights.sum() ** 2 / squares) if squares > 0 else 0.0


def drifting(setup: Setup, texts: Sequence[str]) -> list[Condition]:
    """Return the conditions of the second half of a stream, in order."""
    dataset = setup.dataset
    return [one for text in texts for one in conditions(text, dataset.modalities, dataset=dataset)]


def _side_by_side(predictions: Predictions) -> NDArray[np.float64]:
    return np.concatenate(list(predictions.features.values()), -1).astype(np.float64)
