"""scikit-learn estimators that add prediction sets and intervals to another estimator.

Importing this module needs scikit-learn: ``pip install "conformal-core[sklearn]"``.
"""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from conformal_core.predictors.split import SplitClassifier, SplitRegressor
from conformal_core.quantile import Alphas
from conformal_core.scores.probability import LAC
from conformal_core.scores.regression import AbsoluteResidual

try:
    from sklearn.base import clone
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import train_test_split
    from sklearn.utils import assert_all_finite, check_array, column_or_1d, get_tags
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted
except ImportError as _error:
    raise ImportError(
        "conformal_core.sklearn needs scikit-learn 1.6 or newer: pip install 'conformal-core[sklearn]'"
    ) from _error

if TYPE_CHECKING:  # scikit-learn has no types

    class BaseEstimator:
        """Base of estimators."""

        def __sklearn_tags__(self) -> Any: ...

    class ClassifierMixin:
        """Methods of classifiers."""

    class MetaEstimatorMixin:
        """Mark of estimators that hold another."""

    class RegressorMixin:
        """Methods of regressors."""
else:
    from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin

__all__ = ["ConformalClassifier", "ConformalRegressor"]

Array = Any


class _ConformalEstimator(MetaEstimatorMixin, BaseEstimator):
    """Base of the estimators: fit on some rows, keep the others for calibration."""

    def __init__(
        self,
        estimator: Any,
        *,
        nonconformity: Any = None,
        alpha: Alphas | None = None,
        confidence: Alphas | None = None,
        calibration_size: float = 0.25,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.nonconformity = nonconformity
        self.alpha = alpha
        self.confidence = confidence
        self.calibration_size = calibration_size
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator).input_tags
        tags.input_tags.sparse, tags.input_tags.allow_nan = inner.sparse, inner.allow_nan
        return tags

    def _fit_estimator(self, X: Array, y: Array) -> tuple[Array, Array]:  # noqa: N803  # the names of scikit-learn
        check_consistent_length(X, y)
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_: Any = self.estimator
        else:
            X_fit, X, y_fit, y = train_test_split(  # noqa: N806
                X, y, test_size=self.calibration_size, random_state=self.random_state
            )
            self.estimator_ = clone(self.estimator).fit(X_fit, y_fit)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return X, y


def _levels(model: _ConformalEstimator) -> dict[str, Any]:
    default = model.alpha is None and model.confidence is None
    return {"alpha": 0.1 if default else model.alpha, "confidence": model.confidence}


def _has_probabilities(model: "ConformalClassifier") -> bool:
    if not hasattr(model.estimator, "predict_proba"):
        kind = type(model.estimator).__name__
        raise AttributeError(f"estimator must have predict_proba, got {kind}: wrap it in CalibratedClassifierCV")
    return True


class ConformalClassifier(ClassifierMixin, _ConformalEstimator):
    """A classifier with prediction sets, by split conformal prediction.

    ``fit`` draws a calibration set at random from the rows, fits a copy of the estimator on the others, and calibrates.
    If the estimator is a ``FrozenEstimator``, all rows calibrate; its model must not have been trained on them.

    Parameters
    ----------
    estimator
        Classifier with ``predict_proba``, such as a pipeline.
    nonconformity
        Nonconformity score. If None, ``LAC()``. The draws of a randomized score do not depend on ``random_state``.
    alpha
        Miscoverage in (0, 1), or a sequence of A of them: sets or intervals then have a first axis of length A. If
        neither it nor ``confidence`` is given, 0.1.
    confidence
        1 − alpha, exactly, instead of ``alpha``.
    calibration_size
        Fraction of the rows, in (0, 1), or their number: the ``test_size`` of ``train_test_split``.
    random_state
        Seed of the choice of calibration rows.

    Raises
    ------
    TypeError, ValueError, AttributeError
        From ``fit``, if a parameter is not of the kind or in the range above.

    Attributes
    ----------
    classes_ : array, shape (C,)
        Sorted class names of all rows; the columns of ``predict_set`` and ``predict_proba``.
    estimator_
        Fitted estimator.
    predictor_ : SplitClassifier
        Calibrated predictor on rows of ``predict_proba``, for p-values for example.

    Notes
    -----
    Guarantee: if the calibration rows and the new row are exchangeable, the set contains the true class with
    probability at least 1 − α.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True, as_frame=False)
    >>> names = load_iris().target_names[y]
    >>> model = ConformalClassifier(LogisticRegression(max_iter=1000), alpha=0.05, random_state=0).fit(X, names)
    >>> model.predict(X[[0, 77]])
    array(['setosa', 'virginica'], dtype='<U10')
    >>> model.predict_set(X[[0, 77]])
    array([[ True, False, False],
           [False,  True,  True]])
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator).classifier_tags
        if inner is not None:
            tags.classifier_tags.multi_class = inner.multi_class
        return tags

    def fit(self, X: Array, y: Array) -> Self:  # noqa: N803
        """Fit and calibrate on rows X (N, ...) with class names y (N,)."""
        predictor = SplitClassifier(LAC() if self.nonconformity is None else self.nonconformity, **_levels(self))
        _has_probabilities(self)
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        X, y_calibration = self._fit_estimator(X, y)  # noqa: N806
        known = self.estimator_.classes_
        if not np.isin(y_calibration, known).any():
            raise ValueError(f"y must hold classes of the estimator, such as {known[0]}, got {y_calibration[0]}")
        self.classes_: NDArray[Any] = np.union1d(known, y)
        predictor.calibrate(self._probabilities(X), np.searchsorted(self.classes_, y_calibration))
        self.predictor_ = predictor
        return self

    def predict(self, X: Array) -> Array:  # noqa: N803
        """Return the class names (N,) that the estimator predicts."""
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Array) -> Array:  # noqa: N803
        """Return the probabilities (N, C) of the estimator, in the order of ``classes_``."""
        check_is_fitted(self)
        return self._probabilities(X)

    def predict_set(self, X: Array, *, nonempty: bool = False) -> Array:  # noqa: N803
        """Return prediction sets (N, C) of bool, in the order of ``classes_``.

        ``nonempty`` adds the most probable class to empty sets.
        """
        check_is_fitted(self)
        return self.predictor_.predict(self._probabilities(X), nonempty=nonempty)

    def _probabilities(self, X: Array) -> Array:  # noqa: N803
        probs = np.asarray(self.estimator_.predict_proba(X))
        if len(self.estimator_.classes_) == len(self.classes_):
            return probs
        table = np.zeros((len(probs), len(self.classes_)), dtype=probs.dtype)
        table[:, np.searchsorted(self.classes_, self.estimator_.classes_)] = probs
        return table


class ConformalRegressor(RegressorMixin, _ConformalEstimator):
    """A regressor with prediction intervals, by split conformal prediction; guarantee as :class:`ConformalClassifier`.

    Parameters
    ----------
    estimator
        Regressor whose ``predict`` returns (N,), or (N, 2) for a score such as ``CQR()`` or ``NormalizedResidual()``.
    nonconformity
        Regression score. If None, ``AbsoluteResidual()``.
    alpha, confidence, calibration_size, random_state
        As for :class:`ConformalClassifier`.

    Raises
    ------
    TypeError, ValueError
        From ``fit``, if a parameter is not of the kind or in the range above.

    Attributes
    ----------
    estimator_
        Fitted estimator.
    predictor_ : SplitRegressor
        Calibrated predictor on outputs of the estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> X = np.arange(80.0)[:, None]
    >>> model = ConformalRegressor(LinearRegression(), alpha=0.2, random_state=0).fit(X, X[:, 0] + X[:, 0] % 2)
    >>> model.predict_interval([[100.0]]).round(1)
    array([[100. , 101.1]])
    """

    def fit(self, X: Array, y: Array) -> Self:  # noqa: N803
        """Fit and calibrate on rows X (N, ...) with targets y (N,)."""
        score = AbsoluteResidual() if self.nonconformity is None else self.nonconformity
        predictor = SplitRegressor(score, **_levels(self))
        y = check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype="numeric", input_name="y")
        X, targets = self._fit_estimator(X, y)  # noqa: N806
        predictor.calibrate(self._outputs(X, score), targets.astype(np.float64))
        self.predictor_ = predictor
        return self

    def predict(self, X: Array) -> Array:  # noqa: N803
        """Return the point predictions (N,) of the estimator."""
        check_is_fitted(self)
        return self.predictor_.score.point(self._outputs(X, self.predictor_.score))

    def predict_interval(self, X: Array) -> Array:  # noqa: N803
        """Return prediction intervals (N, 2), both ends included."""
        check_is_fitted(self)
        return self.predictor_.predict(self._outputs(X, self.predictor_.score))

    def _outputs(self, X: Array, score: Any) -> Array:  # noqa: N803
        outputs = np.asarray(self.estimator_.predict(X))
        return outputs[:, 0] if score.columns == 1 and outputs.ndim == 2 and outputs.shape[1] == 1 else outputs
