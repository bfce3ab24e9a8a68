"""Guarantee of ``benjamini_hochberg`` on conformal p-values: a false discovery rate of at most α.

All rows are compared with one calibration set, so their p-values depend on one another. With normal scores and scores
with ties, with and without novelties.
"""

import math

import numpy as np
import pytest

from conformal_core import NoveltyGate, benjamini_hochberg


@pytest.mark.parametrize("runs", [300, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("novel", [0, 20])
def test_few_discoveries_are_false(runs, ties, novel):
    rng, alpha, rates, found = np.random.default_rng(0), 0.2, [], 0
    for _ in range(runs):
        rows = np.abs(rng.normal(size=(300, 1)))
        rows[:novel] += 3
        rows = np.ceil(rows * 2) / 2 if ties else rows
        gate = NoveltyGate(lambda features: features[..., 0], alpha=0.1)
        gate.calibrate(rows[100:])
        selected = benjamini_hochberg(gate.p_values(rows[:100]), alpha=alpha)
        rates.append(selected[novel:].sum() / max(1, selected.sum()))
        found += selected[:novel].sum()
    assert np.mean(rates) <= alpha * (100 - novel) / 100 + 4 * math.sqrt(alpha / runs)
    assert found >= 0.8 * runs * novel
