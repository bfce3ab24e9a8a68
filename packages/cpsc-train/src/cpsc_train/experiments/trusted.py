"""Trust in each modality on a stream, and evidence that its inputs have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cpsc_train.evaluation import Predictions
from cpsc_train.experiments.evidence import Course, Evidence, gather
from cpsc_train.experiments.predictors import Followed, follow
from cpsc_train.inference.trust import Trust
from cpsc_train.models import FUSED
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.results import fitted_variants

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
    return Predictions(tests[0].labels[course.rows], course.each([one.probabilities for one in tests]))


def _where_present(values: Floats, rows: Predictions, modality: str) -> Floats:
    return np.where(rows.rows(modality), values, np.nan)
