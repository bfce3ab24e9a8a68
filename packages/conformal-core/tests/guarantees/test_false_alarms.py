"""False alarms of ``ExchangeabilityTest`` on exchangeable streams.

| guarantee | test |
|---|---|
| Ville: P(an alarm at any time) ≤ δ, for every martingale | any_alarm_is_as_rare_as_promised |
| CUSUM, Shiryaev–Roberts: at least 1/δ scores before an alarm on average | alarms_are_as_far_apart_as_promised |
"""

import math

import numpy as np
import pytest

from conformal_core import ExchangeabilityTest, MixtureMartingale, PluginMartingale, PowerMartingale, SimpleJumper

MARTINGALES = {
    "one-sided": SimpleJumper,
    "two-sided": lambda: SimpleJumper(jump=0.1, one_sided=False),
    "power": PowerMartingale,
    "plug-in": lambda: PluginMartingale(stake=0.9),
    "composite": MixtureMartingale,
}
FEW = [(name, 300, 0.1) for name in MARTINGALES]
MANY = [pytest.param(name, 2000, 0.05, marks=pytest.mark.slow) for name in MARTINGALES]


@pytest.mark.parametrize(("name", "streams", "delta"), FEW + MANY)
def test_any_alarm_is_as_rare_as_promised(name, streams, delta):
    """Streams of 200 exchangeable rows after 50 for calibration; four standard errors, one in 16,000."""
    scores, alarms = np.random.default_rng(1).exponential(size=(streams, 250)), 0
    for seed, stream in enumerate(scores):
        test = ExchangeabilityTest(delta=delta, martingale=MARTINGALES[name](), seed=seed)
        test.calibrate(stream[:50])
        alarms += test.update(stream[50:])
    assert alarms / streams <= delta + 4 * math.sqrt(delta * (1 - delta) / streams)
    assert alarms > 0  # of a test that can alarm


@pytest.mark.parametrize("alarm", ["cusum", "shiryaev-roberts"])
@pytest.mark.parametrize(
    ("name", "streams"), [("power", 60), *(pytest.param(name, 300, marks=pytest.mark.slow) for name in MARTINGALES)]
)
def test_alarms_are_as_far_apart_as_promised(name, alarm, streams):
    """Scores with ties before an alarm at 1/δ = 20: at least 20 on average, less four standard errors."""
    counts = []
    for seed in range(streams):
        rng = np.random.default_rng(seed)
        test = ExchangeabilityTest(delta=0.05, martingale=MARTINGALES[name](), alarm=alarm, seed=seed)
        test.calibrate(rng.integers(0, 20, 30))
        scores = rng.integers(0, 20, 500).astype(float).tolist()
        counts.append(next((n for n, score in enumerate(scores, 1) if test.update(score)), 500))
    assert np.mean(counts) >= 20 - 4 * np.std(counts) / math.sqrt(streams)
    assert min(counts) < 500  # it can alarm
