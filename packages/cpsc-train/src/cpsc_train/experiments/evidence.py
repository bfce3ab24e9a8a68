"""Order of the rows of a stream, the corruption of each, and the evidence that inputs have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conformal_core import ExchangeabilityTest
from cpsc_train.errors import UserError
from cpsc_train.training.setup import Setup

Order = Literal["data", "group", "random"]
"""Order of the rows: that of the data set, one ``group`` (such as a speaker) after another, or at random."""


@dataclass(frozen=True)
class Course:
    """T steps of a stream over N rows under several conditions."""

    rows: NDArray[np.int64]
    """(T,) row of each step, in [0, N)."""
    condition: NDArray[np.int64]
    """(T,) condition of each step; 0 is clean."""

    @classmethod
    def drifting(cls, rows: NDArray[np.int64], conditions: int) -> Course:
        """Return a course over `rows`: the first half is clean, the second has `conditions` in equal parts, in order.

        With no conditions, all of it is clean.

        Examples
        --------
        >>> Course.drifting(np.array([3, 1, 0, 2, 4, 5]), 2).condition.tolist()
        [0, 0, 0, 1, 1, 2]
        """
        condition = np.zeros(len(rows), dtype=np.int64)
        half = len(rows) // 2
        rest = len(rows) - half
        if conditions:
            condition[half:] = 1 + np.arange(rest) * conditions // rest
        return cls(rows, condition)

    def along(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the value of each step, (T, ...), from arrays (N, ...) by condition."""
        return np.stack(values)[self.condition, self.rows]

    def each(self, values: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return the values of each step by name, from mappings by condition with the same names."""
        return {name: self.along([by_name[name] for by_name in values]) for name in values[0]}


def ordered(setup: Setup, order: Order) -> NDArray[np.int64]:
    """Return the test rows in an order, as places in the part; UserError if the data set has no groups."""
    rows = setup.splits.test
    if order == "data":
        return np.argsort(rows, kind="stable")
    if order == "random":
        return np.random.default_rng(setup.config.seed).permutation(len(rows))
    groups = setup.dataset.groups
    if groups is None:
        raise UserError(f"{setup.config.data.name} has no groups to order the rows by: use --order data or random")
    return np.argsort(np.array([groups[row] for row in rows]), kind="stable")


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
