"""False alarms of ``ExchangeabilityTest`` on exchangeable streams: at any time, with probability at most δ."""

import math

import numpy as np
import pytest

from conformal_core import ExchangeabilityTest


@pytest.mark.parametrize(("streams", "delta"), [(2000, 0.05), pytest.param(20_000, 0.01, marks=pytest.mark.slow)])
def test_false_alarms_are_as_rare_as_promised(streams, delta):
    """Streams of 200 exchangeable rows after 50 for calibration; four standard errors, one in 16,000."""
    scores, alarms = np.random.default_rng(1).exponential(size=(streams, 250)), 0
    for seed, stream in enumerate(scores):
        test = ExchangeabilityTest(delta=delta, seed=seed)
        test.calibrate(stream[:50])
        alarms += test.update(stream[50:])
    assert alarms / streams <= delta + 4 * math.sqrt(delta * (1 - delta) / streams)
    assert alarms > 0  # of a test that can alarm
