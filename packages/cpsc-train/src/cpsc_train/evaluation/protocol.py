"""Evaluation of a trained model: metrics and coverage on validation and test rows, under all conditions.

Prediction sets are calibrated on the calibration rows, with the logits that the model predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from cpsc_train.data import Condition, Noise
from cpsc_train.evaluation import metrics
from cpsc_train.evaluation.predictions import Metric, Predictions
from cpsc_train.evaluation.sets import Thresholds, coverage

Collect = Callable[..., Predictions]
"""Returns the predictions of a model: ``collect(part, noise=..., without=...)``."""
METRICS: dict[str, Metric] = {
    "accuracy": metrics.accuracy,
    "macro_f1": metrics.macro_f1,
    "mean_average_precision": metrics.mean_average_precision,
    "expected_calibration_error": metrics.expected_calibration_error,
    "negative_log_likelihood": metrics.negative_log_likelihood,
}
"""Metrics reported for every head under every condition."""


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
    figures: dict[str, Any] = {name: predictions.each(metric) for name, metric in METRICS.items()}
    figures["average_accuracy"] = float(np.mean(list(figures["accuracy"].values())))
    if predictions.weights:
        rows = {m: w[predictions.present[m]] if m in predictions.present else w for m, w in predictions.weights.items()}
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
            plain = collect(part, **condition)
            figures[name] = describe(plain, thresholds["plain"])
            for variant, one in variants.items():
                others[variant][part][name] = describe(one.predict(plain), thresholds[variant])
    clean = {part: figures["clean"]["coverage"] for part, figures in report.items()}
    report |= {"coverage": {"calibration": coverage(thresholds["plain"], collect("calibration"))} | clean}
    return report | ({"inference": others} if variants else {})


def _calibration(collect: Collect, variant: Variant, absent: tuple[str, ...]) -> list[Predictions]:
    """Return the predictions of a variant for the calibration rows without some modalities: clean, then each copy."""
    copies = [tuple(noise for noise in copy if noise.modality not in absent) for copy in variant.copies]
    kinds = dict.fromkeys([(), *copies])
    return [variant.predict(collect("calibration", noise=kind, without=absent)) for kind in kinds]
