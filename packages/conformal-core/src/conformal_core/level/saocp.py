"""Strongly adaptive online conformal prediction."""

import math
from fractions import Fraction

import numpy as np

from conformal_core._checks import is_count
from conformal_core._rank import miscoverage
from conformal_core._state import State, check_state, read_count, read_floats
from conformal_core.level.base import positive
from conformal_core.memory.base import Memory
from conformal_core.quantile import Alpha


class SAOCP:
    """Strongly adaptive online conformal prediction: short-lived learners of the threshold, combined by betting.

    A learner is born at every step t and lives lifetime · 2ᵏ steps, where 2ᵏ is the largest power of two that divides
    t: some see the last few scores only, some the last thousands. Each is scale-free online gradient descent (SF-OGD)
    on the pinball loss; the threshold is their mean, weighted by coin betting.

    Parameters
    ----------
    alpha
        Miscoverage, in (0, 1).
    scale
        Largest score D > 0 that is to be expected; 1 for LAC and APS.
    lifetime
        Steps that the shortest-lived learner lives, at least 1.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number in its range.

    Notes
    -----
    Guarantee: on every interval of every length k the regret in pinball loss is Õ(√k), so coverage recovers after a
    change; long-run coverage tends to 1 − α. Bhatnagar, Wang, Xiong and Bai, *Improved online conformal prediction via
    strongly adaptive online learning* (2023). The memory is never asked. O(log t) a step.

    Examples
    --------
    >>> from conformal_core import History
    >>> level = SAOCP(alpha=0.1)
    >>> for _ in range(200):
    ...     level.update(0.5, level.threshold(History()), History())
    >>> 0.5 <= level.threshold(History()) < 0.7
    True
    """

    def __init__(self, *, alpha: Alpha, scale: float = 1.0, lifetime: int = 8) -> None:
        self.alpha: Fraction = miscoverage(alpha)
        self._scale = float(positive("scale", scale))
        self._lifetime = is_count("lifetime", lifetime)
        self._steps = 0
        # One row a living learner: born, threshold, Σ gradient², Σ gain, Σ weight · gain.
        self._learners = np.empty((0, 5))
        self._spawn()

    def threshold(self, memory: Memory, /) -> float:
        """Return the weighted mean of the learners' thresholds."""
        return float(self._shares() @ self._learners[:, 1])

    def update(self, score: float, threshold: float, memory: Memory, /) -> None:
        """Let the learners learn, settle the bets, bury and spawn."""
        alpha = float(self.alpha)
        born, own, squares, gains, bets = self._learners.T
        weights = self._weights()
        relief = (_pinball(score - threshold, alpha) - _pinball(score - own, alpha)) / self._scale
        gain = np.where(weights > 0, relief, np.maximum(relief, 0.0))
        gains += gain
        bets += weights * gain
        gradient = np.where(score > own, alpha - 1.0, alpha)
        squares += gradient**2
        own -= self._scale / math.sqrt(3) * gradient / np.sqrt(squares)
        self._steps += 1
        alive = self._steps + 1 - born < [self._life(int(b)) for b in born]
        self._learners = self._learners[alive]
        self._spawn()

    def state_dict(self) -> State:
        """Return the learners and the number of steps."""
        return {
            "kind": "SAOCP",
            "version": 1,
            **self._settings(),
            "steps": self._steps,
            "learners": self._learners.copy(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state; ValueError says what does not fit."""
        check_state(state, "SAOCP", {"steps", "learners"}, **self._settings())
        steps, learners = read_count(state, "steps"), read_floats(state, "learners", columns=5)
        born, _, squares, _, _ = learners.T
        if not len(born) or born.min() < 1 or born.max() > steps + 1 or (born % 1).any() or (squares < 0).any():
            raise ValueError(f"state of SAOCP must hold learners born in 1..{steps + 1}, got others")
        self._steps, self._learners = steps, learners

    def _settings(self) -> State:
        return {"alpha": str(self.alpha), "scale": self._scale, "lifetime": self._lifetime}

    def _life(self, born: int) -> int:
        return self._lifetime * (born & -born)

    def _spawn(self) -> None:
        """Add the learner of the next step; it starts where the ensemble is, so that nothing is learned twice."""
        start = float(self._shares() @ self._learners[:, 1]) if len(self._learners) else self._scale
        self._learners = np.vstack([self._learners, [self._steps + 1, start, 0.0, 0.0, 0.0]])

    def _weights(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Coin betting: (Σ gain) (1 + Σ weight · gain) over the age."""
        born, _, _, gains, bets = self._learners.T
        age = self._steps + 1 - born
        return np.asarray(np.where(age > 0, gains * (1.0 + bets) / np.maximum(age, 1), 0.0))

    def _shares(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        born = self._learners[:, 0]
        prior = 1.0 / (born**2 * (1.0 + np.floor(np.log2(born))))
        bets = prior * np.maximum(self._weights(), 0.0)
        shares = bets if bets.sum() > 0 else prior
        return np.asarray(shares / shares.sum())


def _pinball(residual: np.ndarray | float, alpha: float) -> np.ndarray:
    """Pinball loss of the (1 − α)-quantile, for the residual score − threshold."""
    return np.maximum((1 - alpha) * np.asarray(residual), -alpha * np.asarray(residual))
