"""The test rows of a run as a stream: coverage of conformal predictors, trust, and evidence of change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data import Condition, conditions
from cpsc_train.evaluation import Predictions
from cpsc_train.experiments.evidence import Course, Evidence, Order, gather, ordered
from cpsc_train.experiments.predictors import Followed, density_ratios, follow
from cpsc_train.experiments.stream_picture import picture as drawn
from cpsc_train.inference.trust import Trust
from cpsc_train.launch import require_one_process
from cpsc_train.models import FUSED
from cpsc_train.reporting.report.panel import require_matplotlib
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.results import fitted_variants
from cpsc_train.training.run import opened
from cpsc_train.training.setup import Setup
from cpsc_train.writing import write

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """N rows of a part as the variant ``trust`` predicts them."""

    predictions: Predictions
    """Predictions under trust."""
    trust: dict[str, Floats]
    """By modality, (N,) trust in [0, 1]; nan for rows that lack it."""
    novelty: dict[str, Floats]
    """By modality, (N,) novelty in nats, at most 0 for rows that are not down-weighted; nan for rows that lack
    it."""


@dataclass(frozen=True)
class Watched:
    """A stream of T rows under the variant ``trust``."""

    course: Course
    """Its rows and their conditions."""
    names: Sequence[str]
    """Names of the conditions."""
    followed: dict[str, Followed]
    """By predictor, its prediction sets for the fused decision."""
    trust: dict[str, Floats]
    """By modality, (T,) trust in [0, 1]; nan for rows that lack it."""
    evidence: dict[str, Evidence]
    """By modality, the evidence that its inputs have changed."""
    delta: float
    """Probability of any false alarm."""

    def figures(self, window: int) -> dict[str, Any]:
        """Return ``delta``, the figures of the predictors as ``fused``, and ``modalities``.

        By modality: the figures of its `Evidence`, and ``trust``: by condition the mean, None without a row.
        """
        modalities = {
            m: one.figures() | {"trust": {name: self._mean(m, place) for place, name in enumerate(self.names)}}
            for m, one in self.evidence.items()
        }
        fused = {name: one.figures(window) for name, one in self.followed.items()}
        return {"delta": self.delta, FUSED: fused, "modalities": modalities}

    def _mean(self, modality: str, condition: int) -> float | None:
        values = self.trust[modality][self.course.condition == condition]
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else None


def fitted_trust(evaluator: Evaluator) -> Trust | None:
    """Return the variant ``trust`` of a run, fitted; None if the run has none."""
    names = [name for name in evaluator.setup.config.inference if name.partition(":")[0] == "trust"]
    return cast("Trust | None", next(iter(fitted_variants(names[:1], evaluator).values()), None))


def observe(evaluator: Evaluator, variant: Trust, plain: Predictions) -> Observed:
    """Return the rows of `plain`, which has activations at depths, as a fitted variant predicts them."""
    predictions = evaluator.vary(variant, plain)
    return Observed(
        predictions,
        {m: _where_present(trust, plain, m) for m, trust in predictions.weights.items()},
        {m: _where_present(novelty, plain, m) for m, novelty in variant.novelty(plain.depths).items()},
    )


def watch(
    course: Course,
    calibration: Observed,
    tests: Sequence[Observed],
    names: Sequence[str],
    *,
    alpha: float,
    delta: float,
) -> Watched:
    """Return a stream over test rows, which `tests` has under the conditions called `names`.

    `alpha` is the miscoverage of the predictors, and `delta` the probability of any false alarm.
    """
    rows = along(course, [one.predictions for one in tests])
    novelty = course.each([one.novelty for one in tests])
    return Watched(
        course,
        names,
        follow(calibration.predictions, rows, FUSED, alpha=alpha),
        course.each([one.trust for one in tests]),
        gather(calibration.novelty, novelty, delta=delta),
        delta,
    )


def along(course: Course, tests: Sequence[Predictions]) -> Predictions:
    """Return the labels and probabilities of each step, from the predictions for all rows by condition."""
    return Predictions(tests[0].labels[course.rows], course.each([_arrays(one) for one in tests]))


def _arrays(predictions: Predictions) -> dict[str, Floats]:
    return {head: np.asarray(p) for head, p in predictions.probabilities.items()}


def _where_present(values: Floats, rows: Predictions, modality: str) -> Floats:
    return np.where(rows.outcomes.rows(modality), values, np.nan)


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
    require_one_process("cpsc stream")
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
