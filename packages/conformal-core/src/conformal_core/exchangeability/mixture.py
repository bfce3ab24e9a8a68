"""The mixture of several martingales."""

import math
from collections.abc import Sequence

import numpy as np

from conformal_core._settings import Saved
from conformal_core._state import State, read_floats
from conformal_core.exchangeability.base import Martingale, log_sum
from conformal_core.exchangeability.jumper import SimpleJumper

_JUMPS = (0.0001, 0.001, 0.01, 0.1, 1.0)
_ROUNDING = 1e-6


class MixtureMartingale(Saved, Martingale):
    """Mean of several martingales; its logarithm stays within log M of that of the best of M parts.

    Parameters
    ----------
    parts
        Martingales. If None, the composite jumper: simple jumpers with jumps of .0001, .001, .01, .1 and 1.

    Raises
    ------
    TypeError, ValueError
        If ``parts`` are not martingales, or there is none.

    Notes
    -----
    Vovk et al., *Retrain or not retrain: conformal test martingales for change-point detection* (2021).

    Examples
    --------
    >>> import math
    >>> from conformal_core import PowerMartingale
    >>> mixture = MixtureMartingale([PowerMartingale(epsilon=0.5), PowerMartingale(epsilon=1.0)])
    >>> round(math.exp(mixture.bet(0.0625)), 6), round(math.exp(mixture.bet(0.25)), 6)  # (2 + 1)/2, (2·1 + 1·1)/3
    (1.5, 1.0)
    """

    _kind = "MixtureMartingale"

    def __init__(self, parts: Sequence[Martingale] | None = None) -> None:
        if parts is not None and not isinstance(parts, (list, tuple)):
            raise TypeError(f"parts must be a list of martingales, got {type(parts).__name__}")
        self._parts = [SimpleJumper(jump=jump) for jump in _JUMPS] if parts is None else list(parts)
        self._given_parts = None if parts is None else self._parts
        if not self._parts:
            raise ValueError("parts must hold at least one martingale, got none")
        for part in self._parts:
            if not isinstance(part, Martingale):
                raise TypeError(f"parts must be martingales, such as SimpleJumper(), got {type(part).__name__}")
        self._logs = [-math.log(len(self._parts))] * len(self._parts)  # of the fractions of the capital, which sum to 1

    def bet(self, p_value: float, /) -> float:
        """Return the logarithm of the growth of the mean at a p-value in (0, 1]."""
        logs = [log + part.bet(p_value) for log, part in zip(self._logs, self._parts, strict=True)]
        growth = log_sum(logs)
        self._logs = [log - growth for log in logs]
        return growth

    def reset(self) -> None:
        """Forget what was learned, in all parts."""
        for part in self._parts:
            part.reset()
        super().reset()

    def _learned(self) -> State:
        return {"logs": np.asarray(self._logs), "parts": [part.state_dict() for part in self._parts]}

    def _restore(self, state: State) -> None:
        logs, parts, before = read_floats(state, "logs", length=len(self._parts)), state["parts"], self._learned()
        if not isinstance(parts, list) or len(parts) != len(self._parts):
            raise ValueError(f"state of MixtureMartingale must hold a list of {len(self._parts)} parts")
        if abs(log_sum(logs.tolist())) > _ROUNDING:
            raise ValueError("state of MixtureMartingale must hold logs of fractions that sum to 1")
        try:
            self._load(parts)
        except (TypeError, ValueError):
            self._load(before["parts"])
            raise
        self._logs = logs.tolist()

    def _load(self, states: list[State]) -> None:
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)
