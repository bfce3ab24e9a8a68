"""Smoothed conformal p-values of a stream, each against all scores before it."""

import numpy as np

from conformal_core._settings import Saved
from conformal_core._state import State, read_count
from conformal_core.checks import check_count
from conformal_core.memory.ordered import History

_BLOCK = 1024  # draws at a time


class OnlinePValues(Saved):
    """Smoothed p-values of scores against all earlier ones: independent and uniform if the scores are exchangeable.

    p_n = (#{i < n: s_i > s_n} + u_n (#{i < n: s_i = s_n} + 1)) / n, where u_n depends only on the seed and n. Against a
    fixed calibration set, p-values are uniform but depend on one another.

    Parameters
    ----------
    seed
        Seed of the draws u_n.

    Raises
    ------
    TypeError, ValueError
        If ``seed`` is not an integer of at least 0.

    Notes
    -----
    Vovk, Gammerman and Shafer, *Algorithmic learning in a random world* (2005). O(log n) per score,
    and O(n) memory for n scores.

    Examples
    --------
    >>> p_values = OnlinePValues()
    >>> p_values.calibrate([0.5, 0.25, 0.75])
    >>> round(4 * p_values.add(1.0), 2), round(5 * p_values.add(0.3), 2)  # u, and 3 + u
    (0.36, 3.73)
    """

    _kind, _saved = "OnlinePValues", ("seed",)

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = check_count("seed", seed, least=0)
        self._memory = History()
        self._draws = 0
        self._block: list[float] = []

    def calibrate(self, scores: list[float]) -> None:
        """Replace all scores by these finite ones, which get no p-value; the draws go on."""
        self._memory.reset()
        self._memory.extend(np.asarray(scores, dtype=np.float64), check=False)

    def add(self, score: float) -> float:
        """Add a finite score and return its p-value, in (0, 1]."""
        place = self._draws % _BLOCK
        if place == 0 or not self._block:
            rng = np.random.default_rng((self._seed, self._draws // _BLOCK))
            self._block = (1.0 - rng.random(_BLOCK)).tolist()  # above 0
        self._draws += 1
        memory = self._memory
        above, equal = memory.counts(score)
        p_value: float = (above + self._block[place] * (equal + 1)) / (len(memory) + 1)
        memory.add(score)
        return p_value

    def _learned(self) -> State:
        return {"draws": self._draws, "memory": self._memory.state_dict()}

    def _restore(self, state: State) -> None:
        draws = read_count(state, "draws")
        self._memory.load_state_dict(state["memory"])
        self._draws, self._block = draws, []
