"""Models and predictors of MAPIE that return what they are given."""

from decimal import Decimal

import inputs
import numpy as np
import peers
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, RegressorMixin


class Column(RegressorMixin, BaseEstimator):
    """Fitted regressor that returns a column of its input."""

    def __init__(self, column: int) -> None:
        self.column = column
        self.fitted_ = True

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Column":
        """Do nothing."""
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the column."""
        return x[:, self.column]


def levels(n: int, rows: int | None = None) -> list[tuple[float, float]]:
    """Return those of :func:`all_levels` that MAPIE accepts for N scores, or for another number of rows."""
    enough = n if rows is None else rows
    return [(confidence, alpha) for confidence, alpha in all_levels(n) if enough >= max(1 / alpha, 1 / (1 - alpha))]


def all_levels(n: int) -> list[tuple[float, float]]:
    """Return confidences for N scores, with the alpha that MAPIE computes from each."""
    confidences = [float(1 - Decimal(str(alpha))) for alpha in inputs.alphas(n)]
    return [(confidence, float(1 - Decimal(str(confidence)))) for confidence in confidences]


def classifier(case: inputs.Rows, pairs: list[tuple[float, float]], score: str) -> SplitConformalClassifier:
    """Return a calibrated classifier of MAPIE for several confidences."""
    predictor = SplitConformalClassifier(
        peers.identity_classifier(case.probs.shape[1]),
        confidence_level=[confidence for confidence, _ in pairs],
        conformity_score=score,
        random_state=0,
    )
    return predictor.conformalize(case.probs, case.labels)


def sets(predictor: SplitConformalClassifier, case: inputs.Rows, *, last: bool | str) -> tuple[np.ndarray, np.ndarray]:
    """Return the sets (m, K, levels) and the thresholds (levels,) of MAPIE."""
    theirs = predictor.predict_set(case.test, {"include_last_label": last})[1]
    return theirs, np.asarray(predictor._mapie_classifier.quantiles_).ravel()
