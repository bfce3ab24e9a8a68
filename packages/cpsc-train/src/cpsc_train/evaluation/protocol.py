"""What is measured at the end of a run, and on which rows.

Selection uses the validation rows; the test rows are looked at once. The conformal predictor of the report is
calibrated on the clean calibration rows alone, with the very logits the model predicts with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from conformal_core import LAC, SplitClassifier, class_coverage, set_size
from cpsc_train.data import Condition, Noise
from cpsc_train.evaluation import metrics

Metric = Callable[[NDArray[np.float64], NDArray[np.int64]], float]
METRICS: dict[str, Metric] = {
    "accuracy": metrics.accuracy,
    "macro_f1": metrics.macro_f1,
    "mean_average_precision": metrics.mean_average_precision,
    "expected_calibration_error": metrics.expected_calibration_error,
    "negative_log_likelihood": metrics.negative_log_likelihood,
}
"""What is reported of every head under every condition."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of some rows.

    Parameters
    ----------
    labels
        (N,) true classes.
    probabilities
        By head (each modality that is there, and ``fused``), (N, C) float64.
    weights
        By modality, (N,) in [0, 1]: what the gate lets through; empty without one.
    """

    labels: NDArray[np.int64]
    probabilities: dict[str, NDArray[np.float64]]
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def each(self, metric: Metric) -> dict[str, float]:
        """Return a metric by head."""
        return {head: metric(p, self.labels) for head, p in self.probabilities.items()}


class Collect(Protocol):
    """From a part (``calibration``, ``validation``, ``test``) and a condition to what the selected model says."""

    def __call__(self, part: str, noise: Sequence[Noise] = (), without: Sequence[str] = ()) -> Predictions:
        """Predict the rows of `part` under a noise, or `without` some modalities."""
        ...


def coverage(calibration: Predictions, other: Predictions, *, alpha: float) -> dict[str, dict[str, Any]]:
    """Calibrate a split conformal predictor a head, and look at its prediction sets elsewhere.

    Returns
    -------
    dict
        By head of `other`: ``target`` (1 − alpha), ``coverage`` (share of sets that hold the true class), ``mean_size``
        (classes), ``qhat``, ``class_coverage`` (coverage of each class; ``None`` for one without rows) and ``sizes``:
        by number of classes in the set, how many rows have such a set (``count``) and how often the most probable
        class is right there (``accuracy``).
    """
    report = {}
    for head, probabilities in other.probabilities.items():
        predictor = SplitClassifier(LAC(), alpha=alpha)
        predictor.calibrate(calibration.probabilities[head], calibration.labels)
        sets = predictor.predict(probabilities)
        hit = sets[np.arange(len(other.labels)), other.labels]
        sizes = set_size(sets)
        right = probabilities.argmax(-1) == other.labels
        by_class = class_coverage(sets, other.labels).coverage
        report[head] = {
            "target": 1 - alpha,
            "coverage": float(hit.mean()),
            "mean_size": float(sizes.mean()),
            "qhat": float(predictor.qhat),
            "class_coverage": [None if np.isnan(share) else float(share) for share in by_class],
            "sizes": {
                str(size): {"count": int((sizes == size).sum()), "accuracy": float(right[sizes == size].mean())}
                for size in np.unique(sizes)
            },
        }
    return report


def describe(seen: Predictions, calibration: Predictions, *, alpha: float) -> dict[str, Any]:
    """Return all figures of one condition: `METRICS` by head, ``average_accuracy`` over heads, and ``coverage``.

    The average is the mean accuracy of the fused head and of each modality alone, as work on imbalance reports it. With
    a gate, ``gate`` says by modality the fraction of the samples it down-weighted, and the mean weight.
    """
    figures: dict[str, Any] = {name: seen.each(metric) for name, metric in METRICS.items()}
    figures["average_accuracy"] = float(np.mean(list(figures["accuracy"].values())))
    if seen.weights:
        gate = {m: {"down_weighted": float((w < 1).mean()), "weight": float(w.mean())} for m, w in seen.weights.items()}
        figures["gate"] = gate
    return figures | {"coverage": coverage(calibration, seen, alpha=alpha)}


def measure(
    collect: Collect, *, alpha: float, noise: Iterable[Condition] = (), missing: Sequence[Sequence[str]] = ()
) -> dict[str, Any]:
    """Run the whole protocol.

    Parameters
    ----------
    collect
        The selected model, asked for the rows of a part.
    alpha
        Miscoverage.
    noise
        Conditions of the validation and test rows, beside the clean ones.
    missing
        Modalities without which validation and test are looked at too, as ``without-<modality>``, or
        ``without-<modality>+<modality>`` of several.

    Returns
    -------
    dict
        ``test`` and ``validation``: by condition, what `describe` returns; ``coverage``: by part, clean, by head.
        Options are chosen by ``validation``, never by ``test``. ``coverage.calibration`` is on the very rows that set
        q̂, so it can hardly miss its target; ``coverage.validation`` and ``coverage.test`` can.
    """
    calibration = collect("calibration")
    conditions: dict[str, dict[str, Any]] = {"clean": {}}
    conditions |= {one.name: {"noise": one.parts} for one in noise}
    conditions |= {f"without-{'+'.join(absent)}": {"without": absent} for absent in missing}
    report: dict[str, Any] = {
        part: {
            name: describe(collect(part, **condition), calibration, alpha=alpha)
            for name, condition in conditions.items()
        }
        for part in ("validation", "test")
    }
    clean = {part: seen["clean"]["coverage"] for part, seen in report.items()}
    return report | {"coverage": {"calibration": coverage(calibration, calibration, alpha=alpha)} | clean}
