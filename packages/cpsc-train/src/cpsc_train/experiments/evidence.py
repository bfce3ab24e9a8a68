"""Evidence, row by row, that the inputs of a modality have changed since calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from conformal_core import ExchangeabilityTest

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Course of the exchangeability martingale of one modality over T rows."""

    log10: Floats
    """(T,) base-10 logarithm of the martingale after each row."""
    alarm: int | None
    """Number of rows at the first alarm, from 1; None without an alarm."""

    def figures(self) -> dict[str, float | int | None]:
        """Return ``final`` and ``max``, base-10 logarithms of the martingale, and ``alarm``."""
        return {"final": float(self.log10[-1]), "max": float(self.log10.max()), "alarm": self.alarm}


def gather(
    calibration: Mapping[str, Floats], stream: Mapping[str, Floats], *, delta: float, seed: int = 0
) -> dict[str, Evidence]:
    """Test for each modality whether its novelty on a stream is exchangeable with that of calibration rows.

    - `calibration`: by modality, (N_m,) novelty of calibration rows, in nats; nan for rows that lack the modality.
    - `stream`: by modality, (T,) novelty of the stream, in nats; nan for rows that lack the modality, which are passed
      over.
    - `delta`: probability of any false alarm, in (0, 1).
    - `seed`: seed of the draws between equal novelties.

    Returns
    -------
    dict
        By modality of `stream`, its evidence.

    Notes
    -----
    If the rows of the stream are exchangeable with the calibration rows, P(any alarm, in any modality, ever) ≤ delta:
    each of the M modalities raises its alarm when its martingale reaches M / delta (Ville's inequality, and the union
    bound). A modality whose alarm is raised stays alarmed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> known, same, changed = rng.normal(size=200), rng.normal(size=200), rng.normal(size=200) + 2
    >>> evidence = gather({"a": known, "b": known}, {"a": same, "b": changed}, delta=0.01)
    >>> evidence["a"].alarm is None, evidence["b"].alarm < 50
    (True, True)
    """
    each = delta / len(stream)
    return {m: _follow(calibration[m], scores, each, seed + place) for place, (m, scores) in enumerate(stream.items())}


def _follow(known: Floats, scores: Floats, delta: float, seed: int) -> Evidence:
    test = ExchangeabilityTest(delta=delta, seed=seed)
    test.calibrate(known[~np.isnan(known)])
    logs, alarm = np.empty(len(scores)), None
    for step, score in enumerate(scores.tolist()):
        if not np.isnan(score) and test.update(score) and alarm is None:
            alarm = step + 1
        logs[step] = test.log_martingale
    return Evidence(logs / log(10), alarm)
