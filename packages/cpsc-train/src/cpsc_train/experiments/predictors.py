"""Conformal predictors on a stream: each predicts a row, then receives its label.

Shapes: N calibration rows, T rows of the stream, C classes, d feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conformal_core import (
    ACI,
    LAC,
    SAOCP,
    DtACI,
    OnlineClassifier,
    Window,
    prediction_set,
    rolling_coverage,
    set_size,
    weighted_conformal_quantile,
)
from cpsc_train.evaluation import Predictions

Floats = NDArray[np.float64]

ONLINE: dict[str, Callable[[float, int], OnlineClassifier]] = {
    "window": lambda alpha, rows: OnlineClassifier(LAC(), alpha=alpha, memory=Window(rows)),
    "aci": lambda alpha, rows: OnlineClassifier(LAC(), memory=Window(rows), level=ACI(alpha=alpha, gamma=0.02)),
    "dtaci": lambda alpha, rows: OnlineClassifier(LAC(), memory=Window(rows), level=DtACI(alpha=alpha)),
    "saocp": lambda alpha, _: OnlineClassifier(LAC(), level=SAOCP(alpha=alpha, scale=1.0)),
}
"""By name, a function from the miscoverage and the number of calibration rows (the window) to a predictor."""
PREDICTORS = ("split", "weighted", *ONLINE)
"""``split`` and ``weighted`` are not updated; ``weighted`` uses the features of the whole stream, without labels."""


@dataclass(frozen=True)
class Followed:
    """Prediction sets of a predictor on a stream."""

    hits: NDArray[np.bool_]
    """(T,) whether the set of a row contains its label."""
    sizes: NDArray[np.int64]
    """(T,) classes in the set."""

    def figures(self, window: int) -> dict[str, float]:
        """Return ``coverage``, ``mean_size``, and ``worst``, the lowest coverage of `window` steps in a row."""
        rolling = rolling_coverage(self.hits, window=window)[min(window, len(self.hits)) - 1 :]
        return {
            "coverage": float(self.hits.mean()),
            "worst": float(rolling.min()),
            "mean_size": float(self.sizes.mean()),
        }


def follow(
    calibration: Predictions,
    stream: Predictions,
    head: str,
    *,
    alpha: float,
    predictors: Iterable[str] = PREDICTORS,
    ratios: tuple[Floats, Floats] | None = None,
) -> dict[str, Followed]:
    """Run calibrated predictors, some of `PREDICTORS`, over the T rows of a stream, in order.

    `head` is the one whose probabilities are used. `ratios` are density ratios, stream over calibration, of the N
    calibration rows and of those of the stream, as from `density_ratios`; if None, ``weighted`` is left out.
    """
    known, rows = (np.asarray(one.probabilities[head]) for one in (calibration, stream))
    scores = LAC()(known, calibration.labels)
    found = {}
    for name in predictors:
        if name in ONLINE:
            found[name] = _online(ONLINE[name](alpha, len(known)), known, calibration.labels, rows, stream.labels)
            continue
        if name == "weighted" and ratios is None:
            continue
        weights, own = (np.ones(len(known)), np.ones(len(rows))) if name == "split" or ratios is None else ratios
        qhat = weighted_conformal_quantile(scores, weights, own, alpha=alpha)
        found[name] = _followed(prediction_set(LAC()(rows), qhat), stream.labels)
    return found


def density_ratios(calibration: Floats, stream: Floats) -> tuple[Floats, Floats]:
    """Estimate the density ratio of features, stream (T, d) over calibration (N, d), without labels.

    Returns the ratios of the calibration rows (N,) and of the stream's (T,), up to a common factor. Both densities
    are modelled as Gaussians with one covariance, so the logarithm of the ratio is linear and has the closed form of
    linear discriminant analysis.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> of_calibration, of_stream = density_ratios(rng.normal(size=(500, 2)), rng.normal(size=(500, 2)) + [3.0, 0.0])
    >>> bool(np.median(of_stream) > 100 * np.median(of_calibration))
    True
    """
    centres = calibration.mean(0), stream.mean(0)
    apart = np.concatenate([calibration - centres[0], stream - centres[1]])
    covariance = apart.T @ apart / len(apart)
    covariance += 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    direction = np.linalg.solve(covariance, centres[1] - centres[0])
    middle = (centres[0] + centres[1]) / 2
    logs = (calibration - middle) @ direction, (stream - middle) @ direction
    highest = max(part.max() for part in logs)
    return np.exp(logs[0] - highest), np.exp(logs[1] - highest)


def _online(
    predictor: OnlineClassifier,
    known: Floats,
    labels: NDArray[np.int64],
    rows: Floats,
    true: NDArray[np.int64],
) -> Followed:
    if isinstance(predictor.level, SAOCP):  # SAOCP has no memory of scores, so the calibration rows are streamed, too
        predictor.update(known, labels)
    else:
        predictor.calibrate(known, labels)
    sets = np.empty(rows.shape, dtype=np.bool_)
    for step, (row, label) in enumerate(zip(rows, true.tolist(), strict=True)):
        sets[step] = predictor.predict(row)
        predictor.update(row, label)
    return _followed(sets, true)


def _followed(sets: NDArray[np.bool_], labels: NDArray[np.int64]) -> Followed:
    return Followed(sets[np.arange(len(labels)), labels], np.asarray(set_size(sets)))
