"""Evaluation of a trained model: metrics and coverage on validation and test rows, under all conditions.

Prediction sets are calibrated on the calibration rows, with the logits that the model predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from cpsc_train.data import Condition, Noise
from cpsc_train.evaluation import metrics
from cpsc_train.evaluation.predictions import Predictions
from cpsc_train.evaluation.sets import Thresholds, coverage

Collect = Callable[..., Predictions]
"""Returns the predictions of a model: ``collect(part, noise=..., without=...)``."""
METRICS: dict[str, Callable[[Predictions], dict[str, float]]] = {
    "accuracy": lambda rows: rows.outcomes.each(lambda one: metrics.accuracy(one.predicted, one.labels)),
    "macro_f1": lambda rows: rows.outcomes.each(lambda one: metrics.macro_f1(one.predicted, one.labels)),
    "mean_average_precision": lambda rows: {head: rows.mean_average_precision(head) for head in rows.probabilities},
    "expected_calibration_error": lambda rows: rows.outcomes.each(
        lambda one: metrics.expected_calibration_error(one.confidence, one.right)
    ),
    "negative_log_likelihood": lambda rows: rows.outcomes.each(lambda one: metrics.negative_log_likelihood(one.true)),
}
"""Metrics by head, reported under every condition."""


@dataclass(frozen=True)
class Variant:
    """An inference variant as it is evaluated."""

    predict: Callable[[Predictions], Predictions]
    """Maps plain predictions, with their features, to its own."""
    copies: Sequence[tuple[Noise, ...]] = ()
    """Corruptions of the calibration rows, for thresholds by typicality."""


PLAIN = Variant(lambda predictions: predictions)
"""The model itself."""
NONE: Mapping[str, Variant] = MappingProxyType({})


def describe(predictions: Predictions, thresholds: Thresholds) -> dict[str, Any]:
    """Return all figures of one condition.

    These are `METRICS` by head; ``average_accuracy``, the mean over all heads; ``coverage``; and for inference
    variants with weights, ``trust``: by modality the fraction of samples with a weight below 1 (``down_weighted``), and
    the ``mean`` weight, both of the samples that have it.
    """
    figures: dict[str, Any] = {name: metric(predictions) for name, metric in METRICS.items()}
    figures["average_accuracy"] = float(np.mean(list(figures["accuracy"].values())))
    outcomes = predictions.outcomes
    if outcomes.weights:
        rows = {m: w[outcomes.rows(m)] for m, w in outcomes.weights.items()}
        figures["trust"] = {
            m: {"down_weighted": float((w < 1).mean()), "mean": float(w.mean())} for m, w in rows.items()
        }
    return figures | {"coverage": coverage(thresholds, predictions)}


def calibrated(collect: Collect, *, alpha: float, variants: Mapping[str, Variant] = NONE) -> dict[str, Thresholds]:
    """Return the thresholds of the prediction sets of each variant by name, and those of the model itself as ``plain``.

    Those of a variant are calibrated on its own predictions. `collect` and `variants` are those of `measure`, and
    `alpha` is the miscoverage.
    """
    every = {"plain": PLAIN, **variants}
    return {name: Thresholds(partial(_calibration, collect, one), alpha=alpha) for name, one in every.items()}


def measure(
    collect: Collect,
    *,
    thresholds: Mapping[str, Thresholds],
    noise: Iterable[Condition] = (),
    missing: Sequence[Sequence[str]] = (),
    variants: Mapping[str, Variant] = NONE,
) -> dict[str, Any]:
    """Evaluate a model under all conditions.

    Parameters
    ----------
    collect
        Returns the predictions of the model: ``collect(part, noise=..., without=...)``.
    thresholds
        Those of `calibrated`.
    noise
        Conditions of the validation and test rows, besides ``clean``.
    missing
        Sets of modalities to leave out, one condition each: ``without-<modality>``, or
        ``without-<modality>+<modality>``.
    variants
        Inference variants by name. Each condition is encoded once.

    Returns
    -------
    dict
        ``validation`` and ``test``: by condition, the figures of `describe`. ``coverage``: by part and head, on clean
        rows. Coverage on the calibration rows themselves is close to its target by construction. With variants,
        ``inference``: by variant, its own ``validation`` and ``test``.
    """
    conditions: dict[str, dict[str, Any]] = {"clean": {}}
    conditions |= {one.name: {"noise": one.parts} for one in noise}
    conditions |= {f"without-{'+'.join(absent)}": {"without": absent} for absent in missing}
    report: dict[str, Any] = {"validation": {}, "test": {}}
    others: dict[str, dict[str, Any]] = {variant: {"validation": {}, "test": {}} for variant in variants}
    for part, figures in report.items():
        for name, condition in conditions.items():
            described = _described(collect(part, **condition), thresholds, variants)
            figures[name] = described.pop("plain")
            for variant, one in described.items():
                others[variant][part][name] = one
    clean = {part: figures["clean"]["coverage"] for part, figures in report.items()}
    report |= {"coverage": {"calibration": coverage(thresholds["plain"], collect("calibration"))} | clean}
    return report | ({"inference": others} if variants else {})


def _described(
    plain: Predictions, thresholds: Mapping[str, Thresholds], variants: Mapping[str, Variant]
) -> dict[str, dict[str, Any]]:
    """Return the figures of the model, as ``plain``, and of each variant; predictions are released one by one."""
    every = {"plain": PLAIN, **variants}
    return {name: describe(one.predict(plain), thresholds[name]) for name, one in every.items()}


def _calibration(collect: Collect, variant: Variant, absent: tuple[str, ...]) -> Iterator[Predictions]:
    """Yield the predictions of a variant for the calibration rows without some modalities: clean, then each copy."""
    copies = [tuple(noise for noise in copy if noise.modality not in absent) for copy in variant.copies]
    kinds = dict.fromkeys([(), *copies])
    for kind in kinds:
        yield variant.predict(collect("calibration", noise=kind, without=absent))
