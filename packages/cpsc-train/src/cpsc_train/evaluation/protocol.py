"""Evaluation of a trained model: metrics and coverage on validation and test rows, under all conditions.

The conformal predictor is calibrated on the clean calibration rows, with the logits that the model predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core import LAC, SplitClassifier, class_coverage, set_size
from cpsc_train.data import Condition
from cpsc_train.evaluation import metrics

Metric = Callable[[NDArray[np.float64], NDArray[np.int64]], float]
Variant = Callable[["Predictions"], "Predictions"]
"""Maps plain predictions, with their features, to those of an inference variant."""
NONE: Mapping[str, Variant] = MappingProxyType({})
METRICS: dict[str, Metric] = {
    "accuracy": metrics.accuracy,
    "macro_f1": metrics.macro_f1,
    "mean_average_precision": metrics.mean_average_precision,
    "expected_calibration_error": metrics.expected_calibration_error,
    "negative_log_likelihood": metrics.negative_log_likelihood,
}
"""Metrics reported for every head under every condition."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for the N rows of a part.

    Parameters
    ----------
    labels
        (N,) true classes.
    probabilities
        By head (each modality present, and ``fused``), (N, C) float64.
    weights
        By modality, (N,) weights of the gate in [0, 1]; empty without a gate.
    features
        By modality, (N, d) features.
    present
        By head, true for the rows used in its figures, (N,): those that have its modality. A head that is not listed
        uses all rows.
    """

    labels: NDArray[np.int64]
    probabilities: dict[str, NDArray[np.float64]]
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def each(self, metric: Metric) -> dict[str, float]:
        """Return a metric by head."""
        return {head: metric(*self.of(head)) for head in self.probabilities}

    def of(self, head: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return probabilities (n, C) and labels (n,) of a head, of the rows that have its modality."""
        if head not in self.present:
            return self.probabilities[head], self.labels
        return self.probabilities[head][self.present[head]], self.labels[self.present[head]]


def coverage(calibration: Predictions, other: Predictions, *, alpha: float) -> dict[str, dict[str, Any]]:
    """Return the coverage on `other` of a split conformal predictor for each head.

    Parameters
    ----------
    calibration
        Predictions that the predictors are calibrated on.
    other
        Predictions whose sets are evaluated.
    alpha
        Miscoverage.

    Returns
    -------
    dict
        By head of `other`: ``target`` (1 − alpha), ``coverage`` (fraction of sets with the true class), ``mean_size``
        (classes), ``qhat``, ``class_coverage`` (by class; None for a class without rows) and ``sizes``: by number of
        classes in the set, the number of rows (``count``) and the accuracy of the most probable class (``accuracy``).
    """
    report = {}
    for head in other.probabilities:
        probabilities, labels = other.of(head)
        predictor = SplitClassifier(LAC(), alpha=alpha)
        predictor.calibrate(*calibration.of(head))
        sets = predictor.predict(probabilities)
        hit = sets[np.arange(len(labels)), labels]
        sizes = set_size(sets)
        right = probabilities.argmax(-1) == labels
        by_class = class_coverage(sets, labels).coverage
        report[head] = {
            "target": 1 - alpha,
            "coverage": float(hit.mean()),
            "mean_size": float(sizes.mean()),
            "qhat": float(predictor.qhat),
            "class_coverage": [None if np.isnan(rate) else float(rate) for rate in by_class],
            "sizes": {
                str(size): {"count": int((sizes == size).sum()), "accuracy": float(right[sizes == size].mean())}
                for size in np.unique(sizes)
            },
        }
    return report


def describe(predictions: Predictions, calibration: Predictions, *, alpha: float) -> dict[str, Any]:
    """Return all figures of one condition.

    These are `METRICS` by head; ``average_accuracy``, the mean over all heads; ``coverage``; and with a gate, ``gate``:
    by modality the fraction of samples that it down-weighted, and the mean weight, both of the samples that have it.
    """
    figures: dict[str, Any] = {name: predictions.each(metric) for name, metric in METRICS.items()}
    figures["average_accuracy"] = float(np.mean(list(figures["accuracy"].values())))
    if predictions.weights:
        rows = {m: w[predictions.present[m]] if m in predictions.present else w for m, w in predictions.weights.items()}
        figures["gate"] = {
            m: {"down_weighted": float((w < 1).mean()), "weight": float(w.mean())} for m, w in rows.items()
        }
    return figures | {"coverage": coverage(calibration, predictions, alpha=alpha)}


def measure(
    collect: Callable[..., Predictions],
    *,
    alpha: float,
    noise: Iterable[Condition] = (),
    missing: Sequence[Sequence[str]] = (),
    variants: Mapping[str, Variant] = NONE,
) -> dict[str, Any]:
    """Evaluate a model under all conditions.

    Parameters
    ----------
    collect
        Returns the predictions of the model: ``collect(part, noise=..., without=...)``.
    alpha
        Miscoverage.
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
        ``inference``: by variant, its own ``validation`` and ``test``; its prediction sets are calibrated on its own
        predictions.
    """
    calibration = collect("calibration")
    calibrated = {name: variant(calibration) for name, variant in variants.items()}
    conditions: dict[str, dict[str, Any]] = {"clean": {}}
    conditions |= {one.name: {"noise": one.parts} for one in noise}
    conditions |= {f"without-{'+'.join(absent)}": {"without": absent} for absent in missing}
    report: dict[str, Any] = {"validation": {}, "test": {}}
    others: dict[str, dict[str, Any]] = {variant: {"validation": {}, "test": {}} for variant in variants}
    for part, figures in report.items():
        for name, condition in conditions.items():
            plain = collect(part, **condition)
            figures[name] = describe(plain, calibration, alpha=alpha)
            for variant, predict in variants.items():
                others[variant][part][name] = describe(predict(plain), calibrated[variant], alpha=alpha)
    clean = {part: figures["clean"]["coverage"] for part, figures in report.items()}
    report |= {"coverage": {"calibration": coverage(calibration, calibration, alpha=alpha)} | clean}
    return report | ({"inference": others} if variants else {})
