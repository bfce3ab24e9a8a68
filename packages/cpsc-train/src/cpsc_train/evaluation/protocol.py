"""What is measured at the end of a run, and on which rows.

Selection uses the validation rows; the test rows are looked at once. The conformal predictor of the report is
calibrated on the calibration rows alone, with the very logits the model predicts with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conformal_core import LAC, SplitClassifier, set_size
from cpsc_train.data import Batch, Noise

Predict = Callable[[Batch], dict[str, Tensor]]
"""From a batch to logits {head: (B, C)}, in evaluation mode, without gradient."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of some rows.

    Parameters
    ----------
    labels
        (N,) true classes.
    probabilities
        By head (each modality and ``fused``), (N, C) float64.
    """

    labels: NDArray[np.int64]
    probabilities: dict[str, NDArray[np.float64]]

    @classmethod
    def collect(cls, predict: Predict, batches: Iterable[Batch]) -> Predictions:
        """Predict every batch; copies to the host once, at the end."""
        labels: list[Tensor] = []
        logits: list[dict[str, Tensor]] = []
        for batch in batches:
            labels.append(batch.labels)
            logits.append(predict(batch))
        heads = {head: torch.cat([z[head] for z in logits]).double().softmax(-1).cpu().numpy() for head in logits[0]}
        return cls(torch.cat(labels).numpy(), heads)

    @property
    def accuracy(self) -> dict[str, float]:
        """By head, the share of rows whose most probable class is the true one."""
        return {head: float((p.argmax(-1) == self.labels).mean()) for head, p in self.probabilities.items()}

    @property
    def negative_log_likelihood(self) -> dict[str, float]:
        """By head, the mean of −log p(true class), in nats; a probability of 0 counts as the smallest double."""
        tiny = np.finfo(np.float64).tiny
        rows = np.arange(len(self.labels))
        return {
            head: float(-np.log(np.maximum(p[rows, self.labels], tiny)).mean())
            for head, p in self.probabilities.items()
        }


def coverage(calibration: Predictions, other: Predictions, *, alpha: float) -> dict[str, dict[str, float]]:
    """Calibrate a split conformal predictor a head, and look at its prediction sets elsewhere.

    Returns
    -------
    dict
        By head: ``target`` (1 − alpha), ``coverage`` (share of sets that hold the true class), ``mean_size`` (classes)
        and ``qhat``.
    """
    report = {}
    for head, probabilities in calibration.probabilities.items():
        predictor = SplitClassifier(LAC(), alpha=alpha)
        predictor.calibrate(probabilities, calibration.labels)
        sets = predictor.predict(other.probabilities[head])
        hit = sets[np.arange(len(other.labels)), other.labels]
        report[head] = {
            "target": 1 - alpha,
            "coverage": float(hit.mean()),
            "mean_size": float(set_size(sets).mean()),
            "qhat": float(predictor.qhat),
        }
    return report


def measure(
    predict: Predict, batches: Callable[[str, Noise | None], Iterable[Batch]], *, alpha: float, noise: Iterable[Noise]
) -> dict[str, Any]:
    """Run the whole protocol.

    Parameters
    ----------
    predict
        The selected model.
    batches
        From a part (``calibration``, ``validation``, ``test``) and a noise condition to its batches.
    alpha
        Miscoverage.
    noise
        Conditions of the validation and test rows, beside the clean ones.

    Returns
    -------
    dict
        ``test`` and ``validation``: by condition, ``accuracy`` and ``coverage`` by head; ``coverage``: by part, clean,
        by head. Options are chosen by ``validation``, never by ``test``. ``coverage.calibration`` is on the very rows
        that set q̂, so it can hardly miss its target; ``coverage.validation`` and ``coverage.test`` can.
    """
    calibration = Predictions.collect(predict, batches("calibration", None))
    conditions = {"clean": None} | {one.name: one for one in noise}
    report = {}
    for part in ("validation", "test"):
        seen = {name: Predictions.collect(predict, batches(part, one)) for name, one in conditions.items()}
        report[part] = {
            name: {"accuracy": one.accuracy, "coverage": coverage(calibration, one, alpha=alpha)}
            for name, one in seen.items()
        }
    clean = {part: conditions["clean"]["coverage"] for part, conditions in report.items()}
    return report | {"coverage": {"calibration": coverage(calibration, calibration, alpha=alpha)} | clean}
