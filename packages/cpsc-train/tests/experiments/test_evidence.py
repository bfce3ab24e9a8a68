"""Evidence that a modality has changed: few false alarms over all modalities, and alarms soon after a change."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy.stats import binom

from conformal_core import ExchangeabilityTest
from cpsc_train.experiments.evidence import gather

DELTA = 0.1


def novelty(rows: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows) + shift


def test_rows_without_the_modality_are_passed_over():
    known, stream = novelty(50, 0), novelty(40, 1, shift=1.0)
    lacking = np.random.default_rng(2).random(40) < 0.3
    sparse = np.where(lacking, np.nan, stream)
    (evidence,) = gather({"a": np.append(known, np.nan)}, {"a": sparse}, delta=DELTA).values()
    test = ExchangeabilityTest(delta=DELTA)
    test.calibrate(known)
    expected = 0.0
    for step, value in enumerate(sparse):
        if not lacking[step]:
            test.update(float(value))
            expected = test.log_martingale / log(10)
        assert evidence.log10[step] == pytest.approx(expected)


def test_any_modality_raises_a_false_alarm_as_seldom_as_promised():
    streams, alarms = 150, 0
    for seed in range(streams):
        rows = np.random.default_rng(seed).normal(size=(150, 3))
        known, stream = ({m: part[:, k] for k, m in enumerate("abc")} for part in (rows[:50], rows[50:]))
        alarms += any(one.alarm is not None for one in gather(known, stream, delta=DELTA, seed=seed).values())
    assert alarms <= binom.ppf(0.999, streams, DELTA)


def test_a_larger_change_is_found_sooner_and_only_in_its_modality():
    clean = np.concatenate([novelty(100, 1), novelty(200, 2)])
    delays = []
    for shift in (0.5, 1.0, 3.0):
        stream = {"a": np.concatenate([novelty(100, 3), novelty(200, 4, shift)]), "b": clean}
        evidence = gather({"a": novelty(200, 0), "b": novelty(200, 5)}, stream, delta=DELTA)
        assert evidence["b"].alarm is None
        assert evidence["a"].alarm is not None
        delays.append(evidence["a"].alarm - 100)
    assert delays == sorted(delays, reverse=True)
    assert 0 < delays[-1] < 30


def test_the_alarm_is_the_first_row_at_the_threshold():
    stream = {"a": novelty(100, 1, shift=2.0), "b": novelty(100, 2)}
    evidence = gather({"a": novelty(80, 0), "b": novelty(80, 3)}, stream, delta=0.02)["a"]
    assert evidence.alarm == 1 + int(np.flatnonzero(10**evidence.log10 >= 2 / 0.02)[0])
    assert evidence.figures() == {
        "final": evidence.log10[-1],
        "max": evidence.log10.max(),
        "alarm": evidence.alarm,
    }
