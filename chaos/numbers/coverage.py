"""Coverage in 1,000 simulated runs of every score, memory and level, against the law that it must follow.

Split: with n calibration rows and without ties, the hits among m test rows are beta-binomial, with parameters k and
n + 1 − k for k = ⌈(n + 1)(1 − α)⌉. Mean and variance over all runs are compared with it. Scores that tie, and online
memories, must cover at least 1 − α on exchangeable streams. Levels are held to the bound that each documents, on a
stream whose scale jumps; DtACI and SAOCP document none on coverage, and are held to .03 in the mean. All limits are 4.5
standard deviations, so that all rows together fail by chance once in some 5,000 tries. About two minutes.
"""

import argparse
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import betabinom

import conformal_core as cc

ALPHA, N, M, K, LIMIT = 0.1, 199, 100, 10, 4.5
STEPS = 500  # of a stream


def classified(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Rows of probabilities, and labels drawn from them."""
    probs = rng.dirichlet(np.full(K, 0.4), rows)
    return probs, (probs.cumsum(-1) < rng.random((rows, 1))).sum(-1).clip(0, K - 1)


def regressed(columns: int) -> Callable[[np.random.Generator, int], tuple[Any, Any]]:
    """Predictions of so many numbers, and targets."""

    def draw(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
        centre, scale = rng.normal(size=rows), rng.uniform(0.5, 2, rows)
        targets = centre + scale * rng.standard_t(3, rows)
        return {1: centre, 2: np.stack([centre, scale], -1), 3: np.stack([centre - scale, centre + scale], -1)}[
            columns
        ], targets

    return draw


SCORES: dict[str, tuple[Any, Callable[..., tuple[Any, Any]], bool]] = {
    "LAC": (cc.LAC(), classified, True),
    "Margin": (cc.Margin(), classified, True),
    "APS, randomized": (cc.APS(randomized=True), classified, True),
    "RAPS, randomized": (cc.RAPS(randomized=True), classified, True),
    "SAPS, randomized": (cc.SAPS(randomized=True), classified, True),
    "APS": (cc.APS(), classified, False),
    "RAPS": (cc.RAPS(), classified, False),
    "SAPS": (cc.SAPS(), classified, False),
    "AbsoluteResidual": (cc.AbsoluteResidual(), regressed(1), True),
    "NormalizedResidual": (cc.NormalizedResidual(), regressed(2), True),
    "CQR": (cc.CQR(), regressed(3), True),
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
    "DecayingStep": (lambda: cc.DecayingStep(alpha=ALPHA, start=1.0, scale=1.0), (1.0 + 1.0) * STEPS**0.6),
    "ConformalPID": (
        lambda: cc.ConformalPID(alpha=ALPHA, start=1.0, rate=0.05, integral=0.2),
        math.pi / 2 * STEPS / math.log(STEPS) + 2,
    ),
    "SAOCP": (lambda: cc.SAOCP(alpha=ALPHA, scale=1.0), None),
}


def split(name: str, runs: int, rng: np.random.Generator) -> tuple[str, bool]:
    """Simulate runs of a split predictor."""
    score, draw, continuous = SCORES[name]
    hits = np.empty(runs)
    kind = cc.SplitClassifier if draw is classified else cc.SplitRegressor
    for run in range(runs):
        predictor = kind(score, alpha=ALPHA)
        predictor.calibrate(*draw(rng, N))
        rows, targets = draw(rng, M)
        found = predictor.predict(rows)
        if draw is classified:
            hits[run] = found[np.arange(M), targets].sum()
        else:
            hits[run] = ((found[:, 0] <= targets) & (targets <= found[:, 1])).sum()
    k = cc.quantile_rank(N, ALPHA) or 0
    law = betabinom(M, k, N + 1 - k)
    off = (hits.mean() - law.mean()) / (law.std() / math.sqrt(runs))
    spread = hits.var() / law.var()
    # The variance of a variance, from the fourth moment that the law has.
    wide = LIMIT * math.sqrt((float(law.stats(moments="k")) + 2) / runs)
    right = abs(off) <= LIMIT and abs(spread - 1) <= wide if continuous else off >= -LIMIT
    return f"{hits.mean() / M:.4f} of {law.mean() / M:.4f}, {off:+.1f} sd, variance x {spread:.2f}", right


def remembered(name: str, runs: int, rng: np.random.Generator) -> tuple[str, bool]:
    """Simulate runs of a memory at a constant level on an exchangeable stream: hits of steps 100 to 250."""
    level = cc.Constant(ALPHA)
    share = np.empty(runs)
    for run in range(runs):
        memory, scores = MEMORIES[name](), rng.gamma(2, size=250)
        memory.extend(scores[:100])
        hits = 0
        for score in scores[100:].tolist():
            hits += score <= level.threshold(memory)
            memory.add(score)
        share[run] = hits / 150
    off = (share.mean() - (1 - ALPHA)) / (share.std() / math.sqrt(runs))
    return f"{share.mean():.4f} of at least {1 - ALPHA:.4f}, {off:+.1f} sd", bool(off >= -LIMIT)


def leveled(name: str, runs: int, rng: np.random.Generator) -> tuple[str, bool]:
    """Simulate runs of a level over a stream in [0, 1] whose scale doubles in the middle."""
    make, bound = LEVELS[name]
    steps, share = STEPS, np.empty(runs)
    for run in range(runs):
        memory, level = cc.Window(100), make()
        hits = 0
        scores = rng.beta(2, 5, steps) * np.where(np.arange(steps) < steps // 2, 0.5, 1.0)
        for score in scores.tolist():
            threshold = level.threshold(memory)
            hits += score <= threshold
            level.update(score, threshold, memory)
            memory.add(score)
        share[run] = hits / steps
    worst, mean = float(np.abs(share - (1 - ALPHA)).max()), float(share.mean())
    if bound is not None:
        return f"{mean:.4f}, worst run {worst:.4f} off, bound {bound / steps:.4f}", worst <= bound / steps
    return f"{mean:.4f}, worst run {worst:.4f} off; asked: mean within 0.03", abs(mean - (1 - ALPHA)) <= 0.03


def main() -> int:
    """Simulate, print a line for each, and return 1 if one is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    runs, failed = 100 if options.quick else 1000, 0
    for part, (law, names) in enumerate(((split, SCORES), (remembered, MEMORIES), (leveled, LEVELS))):
        for place, name in enumerate(names):
            said, right = law(name, runs, np.random.default_rng([options.seed, part, place]))
            failed += not right
            print(f"{law.__name__ + ' ' + name:<34}{runs:>6}  {'ok' if right else 'FAILED'}  {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
