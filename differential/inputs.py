"""Inputs of the comparisons: random ones, and those on which rounding, ties and small samples show."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

ALPHAS = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9)
SIZES = (1, 2, 3, 9, 19, 20, 99, 100, 150)  # of calibration sets
ROUNDING = 1e-12  # by which levels that are equal in exact arithmetic differ
SUMS = 1e-9  # relative rounding error of long sums and products
SINGLE = 1e-6  # relative rounding error of a few operations in single precision


class Scores(NamedTuple):
    """Calibration scores (N,) and scores to compare with them (m,)."""

    calibration: np.ndarray
    test: np.ndarray


class Rows(NamedTuple):
    """Probabilities (N, K) and labels (N,) of calibration rows, and probabilities (m, K) of test rows."""

    probs: np.ndarray
    labels: np.ndarray
    test: np.ndarray


class Forecasts(NamedTuple):
    """Forecasts (N,), errors (N,) and targets (N,) of calibration rows; forecasts, errors and targets of test rows."""

    predictions: np.ndarray
    sigmas: np.ndarray
    targets: np.ndarray
    test_predictions: np.ndarray
    test_sigmas: np.ndarray
    test_targets: np.ndarray

    def rows(self, *, normalized: bool) -> np.ndarray:
        """Return the calibration rows, (N,), or with their errors, (N, 2)."""
        return np.stack([self.predictions, self.sigmas], axis=1) if normalized else self.predictions

    def test_rows(self, *, normalized: bool) -> np.ndarray:
        """Return the test rows, (m,), or with their errors, (m, 2)."""
        return np.stack([self.test_predictions, self.test_sigmas], axis=1) if normalized else self.test_predictions


def alphas(n: int) -> list[float]:
    """Return levels for N scores: common ones, and k/(N + 1) with its neighbours, where the rank changes."""
    edges = {k / (n + 1) for k in (1, 2, (n + 1) // 2, n) if 0 < k < n + 1}
    near = {float(np.nextafter(edge, side)) for edge in edges for side in (0.0, 1.0)}
    return sorted({*ALPHAS, *edges, *near})


def misranked(n: int, alpha: float, rank: int) -> dict[str, bool]:
    """Return how a rank that was computed in floating point differs from ⌈(N + 1)(1 − α)⌉.

    It is too high where α (N + 1) is a whole number but for rounding, and too low where α is a decimal just below one.
    """
    product = alpha * (n + 1)
    at_edge = abs(product - round(product)) < ROUNDING * (n + 1)
    decimal = n + 1 - math.floor(Fraction(str(alpha)) * (n + 1))
    return {"rank rounded up": at_edge and rank > n + 1 - round(product), "rank rounded down": rank < decimal}


def precision(array: np.ndarray) -> float:
    """Return a few units in the last place, relative to 1."""
    return float(8 * np.finfo(array.dtype).eps)


def scores(test: int = 200) -> Iterator[Scores]:
    """Calibration and test scores of every size, in double and single precision."""
    for n in SIZES:
        rng = np.random.default_rng(n)
        normal = rng.normal(size=n), rng.normal(size=test)
        yield Scores(*normal)
        yield Scores(*(part.astype(np.float32) for part in normal))
        yield Scores(*(np.round(part) for part in normal))  # ties within and between
        yield Scores(np.zeros(n), rng.choice([-1.0, 0.0, 1.0], size=test))  # one value
        yield Scores(normal[0], np.nextafter(rng.choice(normal[0], size=test), rng.choice([-9.0, 9.0], size=test)))
        yield Scores(*(1e15 + np.round(part) for part in normal))
        yield Scores(*(1e-310 * part for part in normal))  # subnormal numbers


def rows(test: int = 100, sizes: tuple[int, ...] = SIZES) -> Iterator[Rows]:
    """Rows of probabilities for 2 to 30 classes; labels are drawn from them."""
    for n in sizes:
        for classes in (2, 5, 30):
            rng = np.random.default_rng((n, classes))
            for probs in _distributions(rng, n + test, classes):
                cumulative = np.cumsum(probs, axis=1)
                drawn = (rng.random((n + test, 1)) * cumulative[:, -1:] > cumulative).sum(axis=1)
                case = Rows(probs[:n], np.minimum(drawn, classes - 1)[:n], probs[n:])
                yield case
            yield _near(rng, case)


def _near(rng: np.random.Generator, case: Rows) -> Rows:
    """Repeat calibration rows as test rows, every second one with changes of about 1e-9."""
    probs = rng.dirichlet(np.full(case.probs.shape[1], 2.0), size=len(case.probs))
    test = np.resize(probs, case.test.shape)
    changed = test * (1 + 1e-9 * rng.normal(size=test.shape))
    test = np.where(np.arange(len(test))[:, None] % 2 == 0, test, changed / changed.sum(axis=1, keepdims=True))
    return Rows(probs, case.labels, test)


def _distributions(rng: np.random.Generator, count: int, classes: int) -> Iterator[np.ndarray]:
    peaked = rng.dirichlet(np.full(classes, 0.5), size=count)
    yield peaked
    yield peaked.astype(np.float32)
    yield rng.multinomial(256, peaked) / 256  # exact sums, so that scores can equal thresholds; labels without mass
    parts = rng.integers(1, 4, size=(count, classes)).astype(np.float64)
    yield parts / parts.sum(axis=1, keepdims=True)  # tied labels
    certain = rng.integers(0, 2, size=(count, classes)).astype(np.float64)
    certain[np.arange(count), rng.integers(0, classes, count)] = 1.0
    yield certain / certain.sum(axis=1, keepdims=True)  # ties, and labels without mass


def forecasts(test: int = 200) -> Iterator[Forecasts]:
    """Forecasts of a target with errors of unequal size."""
    for n in SIZES:
        rng = np.random.default_rng(n)
        predictions, sigmas = rng.normal(size=n + test), rng.uniform(0.5, 2.0, size=n + test)
        targets = predictions + sigmas * rng.normal(size=n + test)
        for part in (
            (predictions, sigmas, targets),
            tuple(array.astype(np.float32) for array in (predictions, sigmas, targets)),
            (np.round(predictions), np.ceil(sigmas), np.round(targets)),  # ties
            (1e6 + predictions, sigmas, 1e6 + targets),
        ):
            yield Forecasts(*(array[:n] for array in part), *(array[n:] for array in part))


def p_value_streams(seeds: int = 20) -> Iterator[np.ndarray]:
    """Streams of p-values: uniform, small, large, changing, and at the ends of the interval."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        yield rng.random(200)
        yield rng.random(200) ** 3
        yield 1.0 - rng.random(200) ** 2
        yield np.concatenate([rng.random(100), rng.beta(0.4, 1.0, size=100)])
        yield np.round(rng.random(200) * 20).clip(1, 20) / 20


def score_streams(seeds: int = 20) -> Iterator[np.ndarray]:
    """Streams of scores: exchangeable, shifted half-way, and with ties."""
    for seed in range(seeds):
        normal = np.random.default_rng(seed).normal(size=200)
        yield normal
        yield normal + np.where(np.arange(200) < 100, 0.0, 1.5)
        yield np.round(normal)


def losses() -> Iterator[np.ndarray]:
    """Tables of losses (N, L): fractions, zeros and ones, and all equal, from the least conservative threshold."""
    for n in (1, 9, 20, 100, 1000):
        rng = np.random.default_rng(n)
        yield np.sort(rng.random((n, 30)), axis=1)[:, ::-1] * rng.random()
        yield (rng.random((n, 1)) > np.linspace(0.3, 1, 30)).astype(np.float64)
        yield (rng.random((n, 1)) > np.linspace(0.9, 1, 30)).astype(np.float64)
        yield np.round(np.sort(rng.random((n, 30)), axis=1)[:, ::-1], 1)
        yield np.repeat(np.linspace(1, 0, 21)[None], n, axis=0)
