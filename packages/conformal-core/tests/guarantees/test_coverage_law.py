"""Coverage in 1,000 simulated runs of every score, memory and level, against the law that it must follow.

Split prediction: with N calibration rows and without ties, the hits among M test rows are beta-binomial with parameters
k and N + 1 − k, where k = ⌈(N + 1)(1 − α)⌉; the mean and the variance over all runs are compared with that law. Scores
with ties and online memories must cover at least 1 − α on exchangeable streams. Levels must stay within the bound that
each documents, on a stream whose scale doubles; DtACI and SAOCP document no bound on coverage: their mean must lie
within 0.03. All limits are 4.5 standard deviations, so all tests together fail by chance once in about 5,000 runs.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import conformal_core as cc

stats = pytest.importorskip("scipy.stats")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ALPHA, N, M, K, LIMIT = 0.1, 199, 100, 10, 4.5  # N calibration rows, M test rows, K classes
RUNS = 1000
STEPS = 500  # of a stream


def draw_classes(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Draw rows of probabilities, and labels from them."""
    probs = rng.dirichlet(np.full(K, 0.4), rows)
    return probs, (probs.cumsum(-1) < rng.random((rows, 1))).sum(-1).clip(0, K - 1)


def draw_targets(columns: int) -> Callable[[np.random.Generator, int], tuple[Any, Any]]:
    """Return what draws predictions with so many columns, and targets."""

    def draw(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
        centre, scale = rng.normal(size=rows), rng.uniform(0.5, 2, rows)
        targets = centre + scale * rng.standard_t(3, rows)
        return {1: centre, 2: np.stack([centre, scale], -1), 3: np.stack([centre - scale, centre + scale], -1)}[
            columns
        ], targets

    return draw


SCORES: dict[str, tuple[Any, Callable[..., tuple[Any, Any]], bool]] = {
    "LAC": (cc.LAC(), draw_classes, True),
    "Margin": (cc.Margin(), draw_classes, True),
    "APS, randomized": (cc.APS(randomized=True), draw_classes, True),
    "RAPS, randomized": (cc.RAPS(randomized=True), draw_classes, True),
    "SAPS, randomized": (cc.SAPS(randomized=True), draw_classes, True),
    "APS": (cc.APS(), draw_classes, False),
    "RAPS": (cc.RAPS(), draw_classes, False),
    "SAPS": (cc.SAPS(), draw_classes, False),
    "AbsoluteResidual": (cc.AbsoluteResidual(), draw_targets(1), True),
    "NormalizedResidual": (cc.NormalizedResidual(), draw_targets(2), True),
    "CQR": (cc.CQR(), draw_targets(3), True),
}
MEMORIES: dict[str, Callable[[], Any]] = {
    "History": cc.History,
    "Window(99)": lambda: cc.Window(99),
    "Reservoir(99)": lambda: cc.Reservoir(99),
    "Exponential(0.98)": lambda: cc.Exponential(0.98),
    "Sketch(16)": lambda: cc.Sketch(16),
    "Fixed": cc.Fixed,
}
LEVELS: dict[str, tuple[Callable[[], Any], float | None]] = {
    "ACI": (lambda: cc.ACI(alpha=ALPHA, gamma=0.02), (0.9 + 0.02) / 0.02),
    "quantile tracking": (lambda: cc.ConformalPID(alpha=ALPHA, start=1.0, rate=0.1, integral=0.0), (1.0 + 0.1) / 0.1),
    "DtACI": (lambda: cc.DtACI(alpha=ALPHA), None),
    "DecayingStep": (lambda: cc.DecayingStep(alpha=ALPHA, start=1.0, rate=1.0), (1.0 + 1.0) * STEPS**0.6),
    "ConformalPID": (
        lambda: cc.ConformalPID(alpha=ALPHA, start=1.0, rate=0.05, integral=0.2),
        math.pi / 2 * STEPS / math.log(STEPS) + 2,
    ),
    "SAOCP": (lambda: cc.SAOCP(alpha=ALPHA, scale=1.0), None),
}


@pytest.mark.parametrize("name", SCORES)
def test_hits_of_split_prediction_follow_the_law(name):
    score, draw, continuous = SCORES[name]
    rng, hits = np.random.default_rng(0), np.empty(RUNS)
    kind = cc.SplitClassifier if draw is draw_classes else cc.SplitRegressor
    for run in range(RUNS):
        predictor = kind(score, alpha=ALPHA)
        predictor.calibrate(*draw(rng, N))
        rows, targets = draw(rng, M)
        regions = predictor.predict(rows)
        if draw is draw_classes:
            hits[run] = regions[np.arange(M), targets].sum()
        else:
            hits[run] = ((regions[:, 0] <= targets) & (targets <= regions[:, 1])).sum()
    k = cc.quantile_rank(N, alpha=ALPHA)
    law = stats.betabinom(M, k, N + 1 - k)
    error = (hits.mean() - law.mean()) / (law.std() / math.sqrt(RUNS))
    if not continuous:
        assert error >= -LIMIT
        return
    assert abs(error) <= LIMIT
    # The standard deviation of the variance, from the fourth moment of the law.
    wide = LIMIT * math.sqrt((float(law.stats(moments="k")) + 2) / RUNS)
    assert abs(hits.var() / law.var() - 1) <= wide


@pytest.mark.parametrize("name", MEMORIES)
def test_a_memory_at_a_constant_level_covers(name):
    """Coverage in steps 100 to 250 of an exchangeable stream."""
    rng, level, coverage = np.random.default_rng(0), cc.Constant(alpha=ALPHA), np.empty(RUNS)
    for run in range(RUNS):
        memory, scores, hits = MEMORIES[name](), rng.gamma(2, size=250), 0
        memory.extend(scores[:100])
        for score in scores[100:].tolist():
            hits += score <= level.threshold(memory)
            memory.add(score)
        coverage[run] = hits / 150
    assert (coverage.mean() - (1 - ALPHA)) / (coverage.std() / math.sqrt(RUNS)) >= -LIMIT


@pytest.mark.parametrize("name", LEVELS)
def test_a_level_keeps_its_bound_where_the_scale_doubles(name):
    make, bound = LEVELS[name]
    rng, coverage = np.random.default_rng(0), np.empty(RUNS)
    for run in range(RUNS):
        memory, level, hits = cc.Window(100), make(), 0
        scores = rng.beta(2, 5, STEPS) * np.where(np.arange(STEPS) < STEPS // 2, 0.5, 1.0)
        for score in scores.tolist():
            threshold = level.threshold(memory)
            hits += score <= threshold
            level.update(score, threshold, memory)
            memory.add(score)
        coverage[run] = hits / STEPS
    if bound is None:
        assert abs(coverage.mean() - (1 - ALPHA)) <= 0.03
    else:
        assert np.abs(coverage - (1 - ALPHA)).max() <= bound / STEPS
