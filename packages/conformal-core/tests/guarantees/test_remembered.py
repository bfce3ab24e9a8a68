"""Guarantees of memories at a constant level, exactly: averages over all orders, or over all outcomes.

| sentence | test |
|---|---|
| `History`, `Constant`: on an exchangeable stream every set covers with probability ≥ 1 − α | exchangeable_streams |
| `Reservoir`, `Window`, `Exponential`, `Sketch`, `Fixed`: the same | exchangeable_streams |
| `Exponential`: coverage ≥ 1 − α − Σ w̃ᵢ dᵢ, dᵢ of the swapped sequence | drift_costs_no_more_than_its_distance |
| `Window`: the same with equal weights (README: minus the weighted drift within the memory) | the same |
| `Exponential`: dᵢ is at most twice the distance of two independent scores | the same |
| `Constant`: under drift none | drift_within_the_memory_costs_coverage |
| `Sketch`: never below `History`, at most `rank_error` ranks above, merged or not | tests/test_sketch.py |
| `Sketch`: at most rank_error/n further coverage | a_sketch_covers_little_more |
| `Sketch`: rank_error ≤ n/(2 size) log₂(n/size), 0 while n < 2 size | a_sketch_keeps_its_bound_on_ranks |
| `Reservoir`: every score stays with the same probability | tests/test_memories.py |
| `Exponential`: threshold never below that of exact arithmetic | tests/test_memories.py |
| `CalibrationBuffer`, `conformal_quantile` | test_exchangeable_rows.py |
| sets and p-values agree at the boundary; no rounding takes a label out | tests/test_precision.py |
"""

import math
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest

from conformal_core import Constant, Exponential, Fixed, History, Reservoir, Sketch, Window, conformal_quantile

ALPHAS = [Fraction(1, 100), Fraction(1, 10), Fraction(2, 5), Fraction(1, 2), Fraction(4, 5)]
MEMORIES = {
    "History": History,
    "Reservoir": lambda: Reservoir(3, seed=2),
    "Window": lambda: Window(3),
    "Exponential": lambda: Exponential(0.9),
    "Sketch": lambda: Sketch(2),
}


@pytest.mark.parametrize("bag", [(1.0, 2.0, 3.0, 4.0, 5.0, 1e9), (0.0, 0.0, 1.0, 1.0, 1.0, 2.0), (0.0,) * 6], ids=str)
@pytest.mark.parametrize("name", MEMORIES)
def test_exchangeable_streams(name, bag):
    """Each order has the same probability, so that coverage at a step is the fraction of orders that are covered."""
    covered, orders = {(alpha, step): 0 for alpha in ALPHAS for step in range(6)}, set(permutations(bag))
    for order in orders:
        memory = MEMORIES[name]()
        for step, score in enumerate(order):
            for alpha in ALPHAS:
                covered[alpha, step] += score <= Constant(alpha=alpha).threshold(memory)
            memory.add(score)
    for (alpha, _), count in covered.items():
        assert count >= (1 - alpha) * len(orders)


def drifting(rng, kind, steps):
    """Distributions on 0, 1, 2 of independent scores: that of the new one last."""
    if kind == "jump":
        return [(1.0, 0.0, 0.0)] * (steps - 1) + [(0.0, 0.0, 1.0)]
    if kind == "slow":
        return [(1 - t / steps, 0.0, t / steps) for t in range(1, steps + 1)]
    return [tuple(p) for p in rng.dirichlet(np.full(3, 0.5), steps).tolist()]


def distance_when_swapped(first, second):
    """Total variation between (A, B) and (B, A), for independent A and B."""
    return sum(abs(first[a] * second[b] - second[a] * first[b]) for a, b in product(range(3), repeat=2)) / 2


@pytest.mark.parametrize(("name", "size"), [("Window", 3), ("Exponential", 4)])
@pytest.mark.parametrize("kind", ["jump", "slow", "any"])
def test_drift_costs_no_more_than_its_distance(name, size, kind):
    rng = np.random.default_rng(0)
    cost = 0.0
    for _ in range(12 if kind == "any" else 1):
        laws = drifting(rng, kind, size + 1)
        distances = [distance_when_swapped(law, laws[-1]) for law in laws[:-1]]
        apart = [sum(abs(a - b) for a, b in zip(law, laws[-1], strict=True)) / 2 for law in laws[:-1]]
        assert all(d <= 2 * tv + 1e-12 for d, tv in zip(distances, apart, strict=True))
        weights = [0.9**age for age in range(size, 0, -1)] if name == "Exponential" else [1.0] * size
        loss = sum(w * d for w, d in zip(weights, distances, strict=True)) / (sum(weights) + 1)
        for alpha in ALPHAS:
            coverage = 0.0
            for outcome in product(range(3), repeat=size + 1):
                memory = Window(size) if name == "Window" else Exponential(0.9)
                memory.extend(np.asarray(outcome[:-1], dtype=np.float64))
                if outcome[-1] <= memory.quantile(alpha):
                    coverage += math.prod(law[x] for law, x in zip(laws, outcome, strict=True))
            assert coverage >= 1 - float(alpha) - loss - 1e-12
            cost = max(cost, 1 - float(alpha) - coverage)
    assert cost > 0.01 or kind == "slow"  # there is something to bound


def test_drift_within_the_memory_costs_coverage():
    """Scores that grow: all history covers none of them."""
    memory, covered = History(), 0
    for score in range(200):
        covered += score <= Constant(alpha=0.1).threshold(memory)
        memory.add(float(score))
    assert covered == 9  # while nine scores are too few


def test_a_fixed_memory_is_that_of_its_calibration():
    scores = np.random.default_rng(1).normal(size=30)
    memory = Fixed()
    memory.extend(scores)
    for alpha in ALPHAS[1:]:
        before = float(memory.quantile(alpha))
        assert before == float(conformal_quantile(scores, alpha=alpha))
        memory.add(1e9)
        assert float(memory.quantile(alpha)) == before


def test_a_sketch_covers_little_more():
    """Scores 1..n in any order: the threshold is its own rank, and coverage of the next score is rank/(n + 1)."""
    rng = np.random.default_rng(2)
    for n, size in ((50, 4), (400, 8), (1000, 64)):
        memory = Sketch(size)
        memory.extend(rng.permutation(n) + 1.0)
        for alpha in ALPHAS[1:]:
            exact = math.ceil((n + 1) * (1 - alpha))
            rank = min(memory.quantile(alpha), n + 1)
            assert exact <= rank
            assert (rank - exact) / (n + 1) <= memory.rank_error / n


@pytest.mark.parametrize("size", [2, 4, 64])
def test_a_sketch_keeps_its_bound_on_ranks(size):
    memory = Sketch(size)
    for n in range(1, 40 * size):
        memory.add(float(n % 7))
        assert memory.rank_error == 0 if n < 2 * size else memory.rank_error <= n / (2 * size) * math.log2(n / size)
