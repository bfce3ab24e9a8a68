"""Threads that share a calibrated predictor, with and without a global interpreter lock."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from conformal_core import APS, LAC, SAPS, SplitClassifier


@pytest.mark.parametrize("score", [LAC(), APS(), SAPS()], ids=lambda score: type(score).__name__)
def test_threads_may_share_a_calibrated_predictor(score):
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(20), 3000), rng.integers(0, 20, 3000)
    predictor = SplitClassifier(score, alpha=0.1)
    predictor.calibrate(probs[:1000], labels[:1000])
    parts = np.split(probs[1000:], 8)
    expected = [predictor.predict(part) for part in parts]
    p_values = [predictor.p_values(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(predictor.predict, parts), expected, strict=True):
                np.testing.assert_array_equal(got, want)
            for got, want in zip(pool.map(predictor.p_values, parts), p_values, strict=True):
                np.testing.assert_array_equal(got, want)
