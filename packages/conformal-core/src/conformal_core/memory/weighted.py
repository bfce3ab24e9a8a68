"""Memory with exponentially decaying weights."""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformal_core._state import State, read_floats, read_number, refuse_if
from conformal_core.checks import check_finite_number, check_interval
from conformal_core.memory.base import StreamMemory

_BUCKET = 64
_LEAST = 5e-324  # smallest positive number
_FADED = 1e-18  # weight relative to the newest score that no longer changes a sum of doubles


class Exponential(StreamMemory):
    """Past scores with weight decay^age.

    The threshold is the smallest score s with Σ_{sᵢ ≤ s} wᵢ ≥ (1 − α)(Σ wᵢ + 1), where a score of i steps ago
    has weight decayⁱ and the new one weight 1; +∞ if there is none. ``add`` and ``quantile`` cost O(√m) for the m =
    41.4 / −ln(decay) scores whose weight changes a sum of doubles; older scores are removed.

    Parameters
    ----------
    decay
        Factor per step, in (0, 1); the last ln ½ / ln decay scores have half of the weight.

    Raises
    ------
    TypeError, ValueError
        If ``decay`` is not a number in (0, 1).

    Notes
    -----
    Guarantee: with a constant level, coverage of at least 1 − α − Σ w̃ᵢ dᵢ, where w̃ᵢ = wᵢ / (Σ wᵢ + 1) and dᵢ is the
    total variation distance between the sequence of scores and the same sequence with the i-th and the new one swapped,
    0 for exchangeable scores. Barber, Candès, Ramdas and Tibshirani, *Conformal prediction beyond exchangeability*
    (2023).

    Sums are rounded such that the threshold is never too low.

    Examples
    --------
    >>> from fractions import Fraction
    >>> memory = Exponential(0.5)
    >>> for score in (0.1, 0.1, 0.1, 0.9):
    ...     memory.add(score)
    >>> memory.quantile(Fraction(3, 5))  # weights .0625 .125 .25 .5, and 1 for the next
    0.9
    """

    _kind, _saved = "Exponential", ("decay",)

    def __init__(self, decay: float) -> None:
        self._decay = check_interval("decay", decay, "(0, 1)")
        self._keep = math.ceil(math.log(_FADED) / math.log(self._decay))
        self._unit = 1.0
        self._order: deque[tuple[float, float]] = deque()
        self._scores: list[list[float]] = []
        self._weights: list[list[float]] = []
        self._tops: list[float] = []
        self._sums: list[float] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, score: float) -> None:
        """Add a score; the weights of all earlier ones decay by a step."""
        check_finite_number("score", score)
        if len(self._order) == self._keep:
            self._forget(*self._order.popleft())
        # The unit grows instead of the weights shrinking, so a step writes only the new weight; rescaling all is rare.
        self._unit /= self._decay
        if self._unit > 1e150:
            self._rescale()
        weight = self._unit * self._decay
        self._order.append((score, weight))
        self._insert(score, weight)

    def quantile(self, alpha: Fraction, /) -> float:
        """Threshold at miscoverage ``alpha``; +∞ if the weights are too small for it, −∞ for ``alpha`` ≥ 1."""
        if alpha >= 1:
            return -math.inf
        sums = list(accumulate(self._sums))
        total = sums[-1] + self._unit if sums else self._unit
        wanted = (total + self._rounding(total)) * float(1 - alpha)
        bucket = bisect_left(sums, wanted)
        if bucket == len(sums):
            return math.inf
        before = sums[bucket - 1] if bucket else 0.0
        within = list(accumulate(self._weights[bucket], initial=before))[1:]
        place = bisect_left(within, wanted)
        return self._scores[bucket][min(place, len(within) - 1)]

    def _weights_above(self) -> tuple[Callable[[NDArray[np.float64]], Any], float, float]:
        ordered = np.asarray([s for bucket in self._scores for s in bucket])
        weights = np.asarray([w for bucket in self._weights for w in bucket]) / self._unit
        above = np.concatenate([np.cumsum(weights[::-1])[::-1], [0.0]])
        own = 1.0 + float(self._rounding(above[0] + 1.0))
        return lambda values: above[np.searchsorted(ordered, values, side="right")], float(above[0]), own

    def _learned(self) -> State:
        scores, weights = zip(*self._order, strict=True) if self._order else ((), ())  # oldest first
        arrays = {"scores": np.asarray(scores, dtype=np.float64), "weights": np.asarray(weights, dtype=np.float64)}
        return {"unit": self._unit, **arrays}  # the next score has weight 1

    def _restore(self, state: State) -> None:
        scores, unit = read_floats(state, "scores"), read_number(state, "unit", least=_LEAST)
        weights = read_floats(state, "weights", length=len(scores), least=_LEAST)
        refuse_if(len(scores) > self._keep, state, f"at most {self._keep} scores", len(scores))
        self.reset()
        self._unit = unit
        for score, weight in zip(scores.tolist(), weights.tolist(), strict=True):
            self._order.append((score, weight))
            self._insert(score, weight)

    def _insert(self, score: float, weight: float) -> None:
        if not self._scores:
            self._scores, self._weights, self._tops, self._sums = [[]], [[]], [score], [weight]
        b = min(bisect_left(self._tops, score), len(self._tops) - 1)
        place = bisect_left(self._scores[b], score)
        self._scores[b].insert(place, score)
        self._weights[b].insert(place, weight)
        if len(self._scores[b]) > 2 * _BUCKET:
            self._scores.insert(b + 1, self._scores[b][_BUCKET:])
            self._weights.insert(b + 1, self._weights[b][_BUCKET:])
            del self._scores[b][_BUCKET:], self._weights[b][_BUCKET:]
            self._tops.insert(b + 1, 0.0)
            self._sums.insert(b + 1, 0.0)
            self._refresh(b + 1)
        self._refresh(b)

    def _forget(self, score: float, weight: float) -> None:
        b = bisect_left(self._tops, score)
        place = bisect_left(self._scores[b], score)
        while self._weights[b][place] != weight:  # equal scores may have other weights
            place += 1
            if place == len(self._scores[b]):
                b, place = b + 1, 0
        del self._scores[b][place], self._weights[b][place]
        if self._scores[b]:
            self._refresh(b)
        else:
            del self._scores[b], self._weights[b], self._tops[b], self._sums[b]

    def _refresh(self, b: int) -> None:
        """Recompute the sum of a bucket, so rounding errors do not accumulate."""
        self._tops[b] = self._scores[b][-1]
        self._sums[b] = sum(self._weights[b])

    def _rounding(self, total: float) -> float:
        """Bound the error of a sum of weights: each is rounded twice per step of age, and once when added."""
        return total * (len(self._order) + 8) * 2.0**-49

    def _rescale(self) -> None:
        unit = self._unit
        self._unit = 1.0
        self._order = deque((score, weight / unit) for score, weight in self._order)
        self._weights = [[weight / unit for weight in bucket] for bucket in self._weights]
        self._sums = [sum(bucket) for bucket in self._weights]
