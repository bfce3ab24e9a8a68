"""Two million steps and 10⁷ merged scores: no order statistic drifts, memory is bounded, a step stays as cheap."""

import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import conformal_core as cc

pytestmark = pytest.mark.slow
ALPHA, KEPT, DECAY = Fraction(1, 10), 1000, 0.99
STEPS, PIECE = 2_000_000, 100  # a threshold is asked for every 100 steps
CHUNK, CHUNKS, PARTS = 1_000_000, 10, 8


def resident() -> float:
    """Return the memory of this process, in MiB."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc")
    return int(statm.read_text(encoding="utf-8").split()[1]) * 4096 / 2**20


def of_window(scores: np.ndarray) -> float:
    """Return the threshold of the last scores."""
    return float(cc.conformal_quantile(scores[-KEPT:], alpha=ALPHA))


def of_exponential(scores: np.ndarray) -> float:
    """Return the threshold of all scores, weighted by age."""
    kept = scores[-5000:][::-1]
    order = np.argsort(kept)
    mass = np.cumsum(DECAY ** np.arange(1, len(kept) + 1)[order])
    # The new score has weight 1, that of the last step `DECAY`.
    place = np.searchsorted(mass, (mass[-1] + 1) * (1 - float(ALPHA)))
    return float(kept[order][place]) if place < len(mass) else math.inf


def of_history(scores: np.ndarray) -> float:
    """Return the threshold of all scores."""
    return float(cc.conformal_quantile(scores, alpha=ALPHA))


MEMORIES = {
    # The growth of memory allowed, in MiB: the allocator moves by a few, a sketch grows logarithmically.
    "Window": (lambda: cc.Window(KEPT), of_window, 8),
    "Exponential": (lambda: cc.Exponential(DECAY), of_exponential, 8),
    "Sketch": (cc.Sketch, of_history, 48),
    "History": (cc.History, of_history, math.inf),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_a_long_stream_that_drifts(name):
    make, exact, growth = MEMORIES[name]
    memory, scores = make(), np.random.default_rng(0).gamma(2, size=STEPS)
    scores *= 1 + np.arange(STEPS) / STEPS
    seconds, sizes = [], []
    for tenth in np.split(scores, 10):
        start = time.perf_counter()
        for piece in np.split(tenth, len(tenth) // PIECE):
            for score in piece.tolist():
                memory.add(score)
            if name != "Sketch":
                memory.quantile(ALPHA)
        seconds.append(time.perf_counter() - start)
        sizes.append(resident())
        so_far = scores[: len(seconds) * len(tenth)]
        qhat, want = memory.quantile(ALPHA), exact(so_far)
        if name == "Sketch":
            assert_within_rank_error(memory, qhat, (so_far < qhat).sum(), (so_far <= qhat).sum())
        else:
            assert qhat == want
    assert sizes[-1] - sizes[0] <= growth
    if name != "History":  # which slows down as it grows
        assert min(seconds[5:]) < 3 * min(seconds[:5])


def assert_within_rank_error(sketch, qhat, below, at_most, alpha=ALPHA):
    """Check that a threshold is at or above the exact one, by at most `rank_error` ranks."""
    n = len(sketch)
    k = n + 1 - (n + 1) * alpha.numerator // alpha.denominator
    assert at_most >= k
    assert below <= k - 1 + sketch.rank_error


def chunk(number: int) -> np.ndarray:
    """Return one chunk of scores, which are never all in memory."""
    return np.random.default_rng([0, number]).random(CHUNK)


@pytest.mark.parametrize("size", [1 << 12, 1 << 16])
def test_ten_million_scores_in_eight_sketches_that_are_merged(size):
    before = resident()
    sketches = [cc.Sketch(size) for _ in range(PARTS)]
    for part, sketch in enumerate(sketches):
        for number in range(part, CHUNKS, PARTS):
            sketch.extend(chunk(number))
    merged, *others = sketches
    merged.merge(*others)
    assert len(merged) == CHUNK * CHUNKS
    assert resident() - before < 64
    assert sum(level.nbytes for level in merged.state_dict()["levels"]) < 8e6
    for alpha in (Fraction(1, 10), Fraction(1, 100)):
        qhat = merged.quantile(alpha)
        below = sum(int((chunk(number) < qhat).sum()) for number in range(CHUNKS))
        at_most = sum(int((chunk(number) <= qhat).sum()) for number in range(CHUNKS))
        assert_within_rank_error(merged, qhat, below, at_most, alpha)
