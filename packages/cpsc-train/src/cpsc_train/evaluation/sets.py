"""Prediction sets with a threshold for each pattern of missing modalities, and for ranges of typicality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core import LAC, prediction_set, set_size
from cpsc_train.evaluation.bins import TypicalityBins, quantile
from cpsc_train.evaluation.outcomes import Outcomes
from cpsc_train.evaluation.predictions import Predictions
from cpsc_train.evaluation.probabilities import row_parts

Calibrate = Callable[[tuple[str, ...]], Iterable[Predictions]]
"""From the modalities to leave out to the predictions for the calibration rows without them: clean, then those of
corrupted copies, if there are any. Called by every process, in the same order."""


@dataclass(frozen=True)
class Group:
    """Rows with one threshold."""

    rows: NDArray[np.int64]
    """(n,) places of the rows."""
    qhat: float
    """Threshold; ∞ makes full sets."""
    calibration: int
    """Number of rows, or copies of rows, that it is calibrated on."""
    absent: tuple[str, ...] = ()
    """Modalities that the rows lack."""
    unusual: bool = False
    """Whether a modality of the rows is unusual; their sets have at least one class."""
    bin: tuple[str, float] | None = None
    """Least typical modality, and largest mean typicality, if the rows are in a bin."""

    def describe(self) -> dict[str, Any]:
        """Return the entry in result files."""
        least, typicality = self.bin or (None, None)
        return {
            "absent": list(self.absent),
            "unusual": self.unusual,
            "least_typical": least,
            "typicality": typicality,
            "threshold": self.qhat,
            "rows": len(self.rows),
            "calibration": self.calibration,
        }


class Thresholds:
    """Thresholds of prediction sets (score LAC) by what a row has and how typical that is.

    - `calibrate`: returns the predictions for the calibration rows without some modalities; called when a
      pattern is first met.
    - `alpha`: miscoverage.

    Notes
    -----
    Fused decision: the threshold of a row that lacks some modalities is that of the calibration rows that have the
    others, with those modalities left out, too. If it does not depend on the sample which modalities it lacks, these
    rows and the new one are exchangeable, so sets cover with probability at least 1 − α given the pattern (Zaffran,
    Dieuleveut, Josse and Romano, *Conformal prediction with missing values*, 2023). Too few such rows make full sets.
    The head of a single modality uses the calibration rows that have it.

    With a variant that measures typicality, rows in which it is 1 for every modality have a threshold of their own,
    from the clean calibration rows of this kind: a category of a Mondrian predictor, with the same guarantee for clean
    rows. That of the other, unusual rows holds for a mixture of the kinds of corruption of the copies; see
    `TypicalityBins`. Their sets have at least the most probable class.
    """

    def __init__(self, calibrate: Calibrate, *, alpha: float) -> None:
        self.alpha = alpha

        @lru_cache(maxsize=1)  # serves all heads of a pattern
        def outcomes(absent: tuple[str, ...]) -> list[Outcomes]:
            return [one.outcomes for one in calibrate(absent)]

        self._calibration = outcomes
        self._fitted: Callable[[tuple[str, ...], str], _Pattern] = cache(self._fit)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Thresholds:
        """Return the thresholds of a head that `state_dict` returned; rows of any other pattern get full sets."""
        patterns = {frozenset(one["absent"]): _Pattern.from_state(one) for one in state["patterns"]}
        thresholds = cls(_no_calibration_rows, alpha=state["alpha"])
        thresholds._fitted = lambda absent, _head: patterns.get(frozenset(absent), _Pattern(absent, float("inf"), 0))
        return thresholds

    def state_dict(self, head: str, patterns: Iterable[tuple[str, ...]]) -> dict[str, Any]:
        """Return the thresholds of a head for patterns of missing modalities, as lists, texts and numbers."""
        return {"alpha": self.alpha, "patterns": [self._fitted(absent, head).state_dict() for absent in patterns]}

    def groups(self, outcomes: Outcomes, head: str) -> list[Group]:
        """Return the rows of a head by threshold; each of its rows is in one group."""
        found = []
        for absent, mask in outcomes.lacking(head).items():
            rows, pattern = np.flatnonzero(mask), self._fitted(absent, head)
            if pattern.bins is None:
                found.append(Group(rows, pattern.full, pattern.calibration, absent))
            else:
                names, typicality = _typicality(outcomes, head, absent)
                found += _divided(rows, typicality[rows], names, pattern.bins, pattern)
        return found

    def _fit(self, absent: tuple[str, ...], head: str) -> _Pattern:
        copies = self._calibration(absent)
        clean = copies[0]
        complete = [clean.rows(m) for m in ([head] if head in clean.modalities else clean.modalities)]
        rows = np.flatnonzero(np.logical_and.reduce([clean.rows(head), *complete]))
        scores = [copy.heads[head].scores[rows] for copy in copies]
        if not clean.typicality:
            return _Pattern(absent, quantile(scores[0], self.alpha), len(rows))
        typicality = [_typicality(copy, head, absent)[1][rows] for copy in copies]
        full = scores[0][(typicality[0] == 1).all(1)]
        qhat = quantile(full, self.alpha)
        of = np.tile(np.arange(len(rows)), len(copies))
        bins = TypicalityBins.fit(np.concatenate(typicality), np.concatenate(scores), of, qhat, alpha=self.alpha)
        return _Pattern(absent, qhat, len(full), bins)


@dataclass(frozen=True)
class _Pattern:
    """Thresholds of the rows that lack the same modalities."""

    absent: tuple[str, ...]
    full: float
    """Threshold of rows in which no modality is unusual."""
    calibration: int
    bins: TypicalityBins | None = None

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> _Pattern:
        bins = None if state["bins"] is None else TypicalityBins.from_state(state["bins"])
        return cls(tuple(state["absent"]), state["full"], state["calibration"], bins)

    def state_dict(self) -> dict[str, Any]:
        bins = None if self.bins is None else self.bins.state_dict()
        return {"absent": list(self.absent), "full": self.full, "calibration": self.calibration, "bins": bins}


def _no_calibration_rows(absent: tuple[str, ...]) -> Sequence[Predictions]:
    raise RuntimeError(f"thresholds that were saved have no calibration rows (without {absent})")


def _divided(
    rows: NDArray[np.int64],
    typicality: NDArray[np.float64],
    names: Sequence[str],
    bins: TypicalityBins,
    pattern: _Pattern,
) -> list[Group]:
    """Return rows of one pattern by threshold, from the typicality (n, M) of the modalities that they have."""
    absent = pattern.absent
    full = (typicality == 1).all(1)
    places = np.where(full, -2, bins.of(typicality))
    found = [Group(rows[full], pattern.full, pattern.calibration, absent)]
    found += [
        Group(rows[places == place], one.qhat, one.calibration, absent, True, (names[one.least], one.high))
        for place, one in enumerate(bins.bins)
    ]
    found.append(Group(rows[places == -1], bins.other, 0, absent, True))
    return [group for group in found if len(group.rows)]


def coverage(thresholds: Thresholds, other: Predictions) -> dict[str, dict[str, Any]]:
    """Return the coverage of the prediction sets of each head.

    Parameters
    ----------
    thresholds
        Calibrated thresholds.
    other
        Predictions whose sets are evaluated.

    Returns
    -------
    dict
        By head of `other`: ``target`` (1 − alpha), ``coverage`` (fraction of sets with the true class), ``mean_size``
        (classes), ``threshold``, that of most rows, ``thresholds``, all of them with their rows and coverage,
        ``rule``, what they depend on (``split``: nothing, ``pattern`` of missing modalities, ``typicality``, or
        ``pattern and typicality``), ``class_coverage`` (by class; None for a class without rows) and ``sizes``: by
        number of classes in the set, the number of rows (``count``) and the accuracy of the most probable class
        (``accuracy``).
    """
    return {head: _of_head(thresholds, other, head) for head in other.probabilities}


def prediction_sets(thresholds: Thresholds, predictions: Predictions, head: str) -> NDArray[np.bool_]:
    """Return which classes are in the prediction set of each row of a head, (n, C)."""
    inside = np.zeros(predictions.probabilities[head].shape, np.bool_)
    for rows, sets in _sets(thresholds.groups(predictions.outcomes, head), predictions, head):
        inside[rows] = sets
    return inside


def _sets(
    groups: Sequence[Group], predictions: Predictions, head: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield places of rows that this process holds, (n,), and which classes are in their sets, (n, C)."""
    probabilities, share = predictions.probabilities[head], predictions.share
    of = np.full(len(predictions.outcomes.labels), -1)
    for place, group in enumerate(groups):
        of[group.rows] = place
    of = share.of(of)
    for place, group in enumerate(groups):
        rows = np.flatnonzero(of == place)
        for part in row_parts(len(rows), probabilities.shape[1]):
            scores = LAC()(probabilities[rows[part]])
            yield rows[part], prediction_set(scores, group.qhat, nonempty=group.unusual)


def _sizes(groups: Sequence[Group], predictions: Predictions, head: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the sizes of the prediction sets of all rows, (N,), and whether the true class is in them, (N,)."""
    found = np.zeros((len(predictions.labels), 2), np.int64)
    for rows, sets in _sets(groups, predictions, head):
        found[rows, 0] = set_size(sets)
        found[rows, 1] = sets[np.arange(len(rows)), predictions.labels[rows]]
    sizes, covered = predictions.share.gather(found).T
    return sizes, covered == 1


def _of_head(thresholds: Thresholds, other: Predictions, head: str) -> dict[str, Any]:
    rows, outcome = other.outcomes.rows(head), other.outcomes.of(head)
    groups = thresholds.groups(other.outcomes, head)
    sizes, covered = _sizes(groups, other, head)
    entries = [group.describe() | {"coverage": float(covered[group.rows].mean())} for group in groups]
    sizes, covered = sizes[rows], covered[rows]
    classes = other.probabilities[head].shape[1]
    counts, hits = (np.bincount(labels, minlength=classes) for labels in (outcome.labels, outcome.labels[covered]))
    return {
        "target": 1 - thresholds.alpha,
        "coverage": float(covered.mean()),
        "mean_size": float(sizes.mean()),
        "threshold": max(groups, key=lambda group: len(group.rows)).qhat,
        "rule": _rule(groups),
        "thresholds": entries,
        "class_coverage": [float(hit / count) if count else None for hit, count in zip(hits, counts, strict=True)],
        "sizes": {
            str(size): {"count": int((sizes == size).sum()), "accuracy": float(outcome.right[sizes == size].mean())}
            for size in np.unique(sizes)
        },
    }


def _rule(groups: Sequence[Group]) -> str:
    names = ["pattern"] * any(group.absent for group in groups) + ["typicality"] * any(
        group.unusual for group in groups
    )
    return " and ".join(names) or "split"


def _typicality(outcomes: Outcomes, head: str, absent: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    of = outcomes.typicality
    names = [head] if head in of else [m for m in of if m not in absent]
    return names, np.stack([of[m] for m in names], 1)
