"""Guarantee of ``ConfidenceSequence``: the interval holds at all times at once, with the promised probability.

| sentence | test |
|---|---|
| it contains the mean of E[X_t given the past] at every time, for any sequence in [0, 1] | the_interval_always_holds |
| an interval for one look misses if it is looked at again and again | an_interval_for_one_look_does_not |
"""

import math

import numpy as np
import pytest

from conformal_core import ConfidenceSequence, coverage

TIMES = sorted({int(1.8**k) for k in range(12)})  # 1 to 642


def streams(kind, rng, steps):
    """Values and their conditional expectations."""
    if kind == "hits":
        return rng.random(steps) < 0.9, np.full(steps, 0.9)
    if kind == "drift":
        means = np.linspace(0.99, 0.5, steps)
        return rng.random(steps) < means, means
    if kind == "losses":
        return rng.beta(1, 9, steps), np.full(steps, 0.1)
    values, means, previous = np.empty(steps), np.empty(steps), 1.0
    for step in range(steps):  # rare after a hit, frequent after a miss
        means[step] = 0.05 if previous else 0.9
        previous = values[step] = float(rng.random() < means[step])
    return values, means


def misses(kind, streams_count, contains):
    """Fraction of streams on which the mean of the expectations leaves the interval at one of the times."""
    left = 0
    for seed in range(streams_count):
        values, means = streams(kind, np.random.default_rng(seed), TIMES[-1])
        averages = means.cumsum() / np.arange(1, len(means) + 1)
        left += not contains(values, averages)
    return left / streams_count


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *((kind, 100) for kind in ("hits", "dependent")),
        *(pytest.param(kind, 500, marks=pytest.mark.slow) for kind in ("hits", "drift", "losses", "dependent")),
    ],
)
def test_the_interval_always_holds(kind, count):
    confidence = 0.8

    def contains(values, averages):
        sequence, start = ConfidenceSequence(confidence=confidence), 0
        for time in TIMES:
            sequence.update(values[start:time])
            start, interval = time, sequence.interval
            if not interval.low <= averages[time - 1] <= interval.high:
                return False
        return True

    assert misses(kind, count, contains) <= 0.2 + 4 * math.sqrt(0.2 * 0.8 / count)


def test_an_interval_for_one_look_does_not():
    def contains(values, averages):
        sets = np.stack([values, ~values], axis=1)
        for time in TIMES:
            one = coverage(sets[:time], np.zeros(time, dtype=int), confidence=0.8)
            if not one.low <= averages[time - 1] <= one.high:
                return False
        return True

    assert misses("hits", 100, contains) > 0.5
