"""Mondrian conformal prediction: a threshold and a guarantee for each class or group."""

import math
from typing import Any, ClassVar

import numpy as np

from conformal_core._arrays import array_namespace, beside, device
from conformal_core._convert import as_floating, as_integers, as_labels
from conformal_core._precision import comparable
from conformal_core._rank import Alpha, miscoverage
from conformal_core._settings import Saved
from conformal_core._state import State, read_classes, read_thresholds
from conformal_core._warnings import warn
from conformal_core.checks import check_count, check_score
from conformal_core.predictors._rows import as_row_scores, check_classes
from conformal_core.quantile import grouped_quantiles, warn_too_few
from conformal_core.sets import prediction_set, with_top

Array = Any


class ThresholdPerClass(Saved):
    """Base of the predictors with a threshold for each class."""

    _saved: ClassVar[tuple[str, ...]] = ("alpha", "score")

    def __init__(self, score: Any, *, alpha: Alpha) -> None:
        check_score(score)
        self.score = score
        self.alpha = alpha
        self._alpha = miscoverage(alpha)
        self._qhat: Array | None = None

    @property
    def qhat(self) -> Array:
        """Threshold of each class, (K,), or group, (G,); +∞, a 0-d array, before calibration."""
        if self._qhat is None:
            warn_too_few(0, self._alpha)
            return np.asarray(math.inf)
        return self._qhat

    def predict(self, probs: Array, *, nonempty: bool = False, check: bool | None = None) -> Array:
        """Prediction sets (..., K) of bool for probs (..., K); a class with an infinite threshold is in every set."""
        probs = as_floating("probs", probs, self._qhat)
        scores = self.score(probs, check=check)
        xp, qhat = array_namespace(probs=probs), beside(self.qhat, probs)
        check_classes(probs, qhat.shape[0] if qhat.ndim else None)
        inside = scores <= comparable(qhat, scores)
        return with_top(inside, scores, xp) if nonempty else inside


class MondrianClassifier(ThresholdPerClass):
    """Prediction sets with a guarantee within each class, or within each group of rows.

    Without ``groups`` each label has its own threshold, from the calibration rows of that class. With it, each row has
    the threshold of its group, such as a site, an age band, or the available modalities.

    Parameters
    ----------
    score
        Nonconformity score, for example ``LAC()``.
    alpha
        Miscoverage in (0, 1).
    groups
        Number of groups G, numbered 0..G−1. If None, the groups are the classes.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Guarantee: 1 − α ≤ P(y ∈ C | group) for rows exchangeable within their group. A group with fewer than 1/α − 1
    calibration rows has a threshold of +∞: such a class is in every set, and the rows of such a group have full sets.
    Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005), section 4.5. Calibration costs
    O(N log N).

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import LAC
    >>> probs = np.asarray([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.5, 0.5]])
    >>> predictor = MondrianClassifier(LAC(), alpha=0.4)
    >>> predictor.calibrate(probs, np.asarray([0, 0, 1, 1]))
    >>> predictor.qhat
    array([0.2, 0.6])
    >>> predictor.predict(np.asarray([0.6, 0.4]))
    array([False,  True])
    """

    _kind, _saved = "MondrianClassifier", ("alpha", "score", "groups")

    def __init__(self, score: Any, *, alpha: Alpha, groups: int | None = None) -> None:
        super().__init__(score, alpha=alpha)
        self._given_groups = None if groups is None else check_count("groups", groups)
        self._classes: int | None = None

    def calibrate(self, probs: Array, labels: Array, groups: Array | None = None, *, check: bool | None = None) -> None:
        """Replace the calibration rows by these: probs (N, K), labels (N,), groups (N,) of int."""
        probs = as_floating("probs", probs)
        scores = as_row_scores("labels", self.score(probs, labels, check=check))
        xp = array_namespace(probs=probs)
        by_class = self._given_groups is None
        ids = as_labels(labels, probs, check=check) if by_class else self._groups(groups, probs, xp)
        count = probs.shape[-1] if self._given_groups is None else self._given_groups
        qhat = grouped_quantiles(xp.reshape(scores, (-1,)), xp.reshape(ids, (-1,)), count, self._alpha)
        if empty := int(xp.sum(xp.astype(xp.isinf(qhat), xp.int64))):
            kind = "classes" if by_class else "groups"
            warn(
                f"calibration scores of {empty} of {count} {kind} are too few for alpha = {float(self._alpha):.6g}, "
                f"fewer than {math.ceil(1 / self._alpha - 1)}: their threshold is +inf"
            )
        self._qhat, self._classes = qhat, check_classes(probs, None)

    def predict(
        self, probs: Array, groups: Array | None = None, *, nonempty: bool = False, check: bool | None = None
    ) -> Array:
        """Prediction sets (..., K) of bool for probs (..., K), and groups (...) of int if the predictor has groups."""
        if self._given_groups is None:
            return super().predict(probs, nonempty=nonempty, check=check)
        probs = as_floating("probs", probs, self._qhat)
        check_classes(probs, self._classes)
        scores = self.score(probs, check=check)
        xp = array_namespace(probs=probs)
        ids = self._groups(groups, probs, xp)
        qhat = beside(self.qhat, probs)
        own = xp.reshape(xp.take(qhat, xp.reshape(ids, (-1,))), ids.shape) if qhat.ndim else qhat
        return prediction_set(scores, own, nonempty=nonempty, check=False)

    def _learned(self) -> State:
        return {"qhat": self._qhat, "classes": self._classes}

    def _restore(self, state: State) -> None:
        qhat, classes = read_thresholds(state, "qhat", length=self._given_groups), read_classes(state)
        self._qhat, self._classes = qhat, classes

    def _groups(self, groups: Array | None, probs: Array, xp: Any) -> Array:
        if groups is None:
            raise TypeError("groups must be given to a classifier that was made for groups, got none")
        groups = as_integers("groups", groups, probs)
        rows = tuple(probs.shape[:-1])
        if tuple(groups.shape) != rows:
            raise ValueError(f"groups must have the shape {rows} of the rows, got {tuple(groups.shape)}")
        count = self._given_groups or 0
        if math.prod(groups.shape):
            low, high = int(xp.min(groups)), int(xp.max(groups))
            if low < 0 or high >= count:
                raise ValueError(f"groups must lie in 0..{count - 1}, got {low if low < 0 else high}")
        return xp.asarray(groups, dtype=xp.int64, device=device(probs))
