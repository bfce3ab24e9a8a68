"""APS and RAPS: scores that sum probabilities in descending order.

Tied labels have equal scores. Sums run in blocks of about √K terms, by plain additions in a fixed order: all array
libraries return the same bits, and a prediction set needs only one block in detail.
"""

import math
import operator
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformal_core._arrays import array_namespace, device
from conformal_core.checks import check_nonnegative
from conformal_core.scores._rows import NO_MASS, descending, over_ties, row_scores, row_set, scratch, to_labels
from conformal_core.scores.base import ClassificationScore
from conformal_core.sets import take_label

Array = Any


class _Cumulative(ClassificationScore):
    """Fraction of mass down to the label, plus a penalty for deep ranks."""

    sorts: ClassVar[bool] = True
    if TYPE_CHECKING:

        @property
        def penalty(self) -> float: ...
        @property
        def free_ranks(self) -> int: ...

    def compute(self, probs: Array, labels: Array | int | None, u: Array | None) -> Array:
        """Fraction of the row's mass down to the label, plus the penalty of its rank."""
        if type(probs) is np.ndarray and probs.ndim == 1:
            return row_scores(probs, labels, u, self.penalty, self.free_ranks)
        if labels is None:
            return self._all_labels(probs, None if u is None else u[..., None])
        xp = array_namespace(probs=probs)
        blocks = _blocks(probs, xp)
        ends = _ends(blocks, xp)
        own = take_label(probs, labels)
        rank = xp.sum(xp.astype(probs >= own[..., None], xp.int64), axis=-1)
        through = _mass_of(rank, blocks, ends, xp)
        less = None
        if u is not None:
            better = xp.sum(xp.astype(probs > own[..., None], xp.int64), axis=-1)
            less = xp.where(better > 0, _mass_of(better, blocks, ends, xp), xp.zeros_like(through))
        return self._score(own, through, less, _positive(ends[-1, ...], xp), rank, u, xp)

    def compute_sets(self, probs: Array, qhat: Array | float, u: Array | None) -> Array:
        """Return the sets of all classes more probable than the first that does not fit."""
        if type(probs) is np.ndarray and probs.ndim == 1:
            return row_set(probs, float(qhat), u, self.penalty, self.free_ranks)
        if u is not None:
            return super().compute_sets(probs, qhat, u)
        xp = array_namespace(probs=probs)
        qhat = xp.asarray(qhat, dtype=probs.dtype, device=device(probs))
        blocks = _blocks(probs, xp)
        count, width = blocks.shape[:2]
        ends = _ends(blocks, xp)
        total = _positive(ends[-1, ...], xp)
        ranks = xp.reshape(xp.arange(1, count * width + 1, device=device(probs)), (-1, *(1 for _ in total.shape)))
        # Scores never fall from one rank to the next: the blocks that fit come first, the crossing is in the next.
        scores = self._penalized(ends[1:, ...] / total, ranks[width - 1 :: width, ...], xp)
        fit = xp.sum(xp.astype(scores <= qhat, xp.int64), axis=0)
        crossing = xp.where(fit < count, fit, xp.full_like(fit, count - 1))
        block = _block(crossing, blocks, xp)
        within = xp.take_along_axis(ends, crossing[None, ...], axis=0) + xp.stack(_partial_sums(block))
        scores = self._penalized(within / total, crossing * width + ranks[:width, ...], xp)
        fit = xp.sum(xp.astype(scores <= qhat, xp.int64), axis=0)
        last = xp.take_along_axis(block, xp.where(fit < width, fit, xp.full_like(fit, width - 1))[None, ...], axis=0)
        bound = xp.where(fit < width, last[0, ...], xp.zeros_like(total))
        no_mass = self._penalized(xp.full_like(total, NO_MASS), ranks[probs.shape[-1] - 1, ...], xp)
        return probs > xp.where(qhat >= no_mass, -xp.ones_like(bound), bound)[..., None]

    def _all_labels(self, probs: Array, u: Array | None) -> Array:
        xp = array_namespace(probs=probs)
        classes = probs.shape[-1]
        ordered, order = descending(probs, xp)
        blocks = _blocks(probs, xp)
        ends = _ends(blocks, xp)
        mass = xp.stack([ends[:-1, ...] + part for part in _partial_sums(xp.moveaxis(blocks, 1, 0))], axis=1)
        mass = xp.reshape(mass, (mass.shape[0] * mass.shape[1], *probs.shape[:-1]))
        mass, total = xp.moveaxis(mass[:classes, ...], 0, -1), _positive(ends[-1, ...], xp)[..., None]
        before = None
        if u is not None:
            before = xp.concat([xp.zeros_like(mass[..., :1]), mass[..., :-1]], axis=-1)
            before = over_ties(ordered, before, xp, last=False)
        through = over_ties(ordered, mass, xp, last=True)
        rank = xp.broadcast_to(xp.arange(1, classes + 1, device=device(probs)), mass.shape)
        if self.penalty:
            rank = over_ties(ordered, rank, xp, last=True)
        return to_labels(self._score(ordered, through, before, total, rank, u, xp), order, xp)

    def _score(  # noqa: PLR0917  # the parts of one formula
        self, own: Array, through: Array, before: Array | None, total: Array, rank: Array, u: Array | None, xp: Any
    ) -> Array:
        if before is not None:
            part = before + u * (through - before)
            # Rounding must not raise the randomized score above the deterministic one.
            through = xp.where(part < through, part, through)
        fraction = xp.where(own > 0, through / total, xp.full_like(own, NO_MASS))
        return self._penalized(fraction, rank, xp)

    def _penalized(self, fraction: Array, rank: Array, xp: Any) -> Array:
        if not self.penalty:
            return fraction
        deep = xp.astype(rank - self.free_ranks, fraction.dtype)
        return fraction + self.penalty * xp.where(deep > 0, deep, xp.zeros_like(deep))


@dataclass(frozen=True, kw_only=True, repr=False)
class APS(_Cumulative):
    """Adaptive prediction sets, s(x, y) = Σ p_j over the labels j at least as probable as y.

    Parameters
    ----------
    randomized
        Whether the mass of the label and of labels tied with it is multiplied by a uniform draw u. Scores of labels
        with mass then never tie, and coverage is less than 1/(N + 1) above 1 − α.
    normalized
        Whether rows must sum to 1. Mass is relative to the row's sum in any case.

    Notes
    -----
    Romano, Sesia and Candès, *Classification with valid and adaptive coverage* (2020). Scores lie in [0, 1]; a label
    without mass scores 2, so it comes last and a threshold of 1 excludes it. The deterministic set of a row is
    contained in every randomized one of the same threshold.

    Examples
    --------
    >>> import numpy as np
    >>> APS()(np.asarray([0.25, 0.5, 0.0, 0.25]))
    array([1. , 0.5, 2. , 1. ])
    """

    randomized: bool = False
    normalized: bool = True
    penalty: ClassVar[float] = 0.0
    free_ranks: ClassVar[int] = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class RAPS(_Cumulative):
    """Regularized adaptive prediction sets, APS + penalty · max(0, rank − free_ranks).

    The rank of a label is the number of labels at least as probable.

    Parameters
    ----------
    penalty
        Added for each rank beyond the free ones, at least 0.
    free_ranks
        Number of ranks without penalty, at least 0.
    randomized, normalized
        As for :class:`APS`.

    Raises
    ------
    ValueError
        If ``penalty`` or ``free_ranks`` is negative or not finite.

    Notes
    -----
    Angelopoulos, Bates, Malik and Jordan, *Uncertainty sets for image classifiers using conformal prediction* (2021).

    Examples
    --------
    >>> import numpy as np
    >>> RAPS(penalty=0.1, free_ranks=1)(np.asarray([0.5, 0.375, 0.125]))
    array([0.5  , 0.975, 1.2  ])
    """

    penalty: float = 0.01
    free_ranks: int = 5
    randomized: bool = False
    normalized: bool = True

    def __post_init__(self) -> None:
        for name in ("penalty", "free_ranks"):
            check_nonnegative(name, getattr(self, name))
            if isinstance(getattr(self, name), np.generic):
                object.__setattr__(self, name, getattr(self, name).item())


def _blocks(probs: Array, xp: Any) -> Array:
    """Rows sorted from the largest down, padded with zeros and cut into blocks: (blocks, width, ...)."""
    lead, classes = probs.shape[:-1], probs.shape[-1]
    width = math.isqrt(classes - 1) + 1
    count = -(-classes // width)
    missing = count * width - classes
    if isinstance(probs, np.ndarray):
        rows = scratch("rows", probs.shape, probs.dtype)
        rows[...] = probs
        rows.sort(axis=-1)
        ordered = scratch("ordered", (count * width, *lead), probs.dtype)
        ordered[:classes] = np.moveaxis(rows, -1, 0)[::-1]
        ordered[classes:] = 0
    else:
        ordered = xp.flip(xp.moveaxis(xp.sort(probs, axis=-1, stable=False), -1, 0), axis=0)
        padding = xp.zeros((missing, *lead), dtype=probs.dtype, device=device(probs))
        ordered = xp.concat([ordered, padding]) if missing else ordered
    return xp.reshape(ordered, (count, width, *lead))


def _partial_sums(values: Array) -> list[Array]:
    return list(accumulate(values[j, ...] for j in range(values.shape[0])))


def _ends(blocks: Array, xp: Any) -> Array:
    terms = (blocks[:, j, ...] for j in range(blocks.shape[1]))
    if isinstance(blocks, np.ndarray):
        sums = next(terms).copy()
        for term in terms:
            sums += term
    else:
        sums = reduce(operator.add, terms)
    return xp.stack([xp.zeros_like(sums[0, ...]), *_partial_sums(sums)])


def _block(which: Array, blocks: Array, xp: Any) -> Array:
    places = xp.broadcast_to(which[None, None, ...], (1, *blocks.shape[1:]))
    return xp.take_along_axis(blocks, places, axis=0)[0, ...]


def _mass_of(rank: Array, blocks: Array, ends: Array, xp: Any) -> Array:
    """Mass of each row's ``rank`` most probable labels, (...); rank 0 reads whatever stands at the end."""
    width = blocks.shape[1]
    place = xp.where(rank > 0, rank - 1, xp.zeros_like(rank))
    which, place = place // width, place % width
    within = xp.stack(_partial_sums(_block(which, blocks, xp)))
    part = xp.take_along_axis(within, place[None, ...], axis=0)
    return (xp.take_along_axis(ends, which[None, ...], axis=0) + part)[0, ...]


def _positive(total: Array, xp: Any) -> Array:
    """Row sums to divide by: 1 for a row without mass, none of whose labels has a fraction."""
    return xp.where(total > 0, total, xp.ones_like(total))
