"""``ConfidenceSequence`` against its definition, other intervals, and bad use."""

import math

import numpy as np
import pytest

from conformal_core import ConfidenceSequence, coverage


def after(values, **options):
    sequence = ConfidenceSequence(**options)
    sequence.update(values)
    return sequence


def log_mixture(mean, values):
    """The definition, one exponent at a time."""
    exponents = [sign * 2.0**k for sign in (-1, 1) for k in range(-10, 4)]
    logs = [x * values.sum() - len(values) * math.log(1 + mean * (math.exp(x) - 1)) for x in exponents]
    return max(logs) + math.log(sum(math.exp(log - max(logs)) for log in logs) / len(logs))


@pytest.mark.parametrize("count", [3, 50, 2000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9999])
def test_the_ends_are_where_the_mixture_reaches_its_limit(count, confidence):
    values = np.random.default_rng(count).beta(2, 1, count)
    mean, low, high, rows = map(float, after(values, confidence=confidence).interval)
    assert (mean, rows) == (pytest.approx(values.mean()), count)
    assert low < mean < high
    for end, limit in ((low, 0.0), (high, 1.0)):
        if end != limit:
            assert log_mixture(end, values) == pytest.approx(-math.log(1 - confidence), abs=1e-5)
        else:
            assert log_mixture(end, values) < -math.log(1 - confidence)


def test_it_is_less_than_twice_as_wide_as_an_interval_for_one_look():
    rng = np.random.default_rng(0)
    for count in (20, 300, 10_000):
        hits = rng.random(count) < 0.9
        one = coverage(np.stack([hits, ~hits], axis=1), np.zeros(count, dtype=int))
        always = after(hits).interval
        assert one.high - one.low < always.high - always.low < 2 * (one.high - one.low)


def test_hits_that_never_or_always_happen_leave_one_end_open():
    assert float(after([True] * 100).interval.high) == 1.0
    assert float(after([0] * 100).interval.low) == 0.0
    assert float(after([0] * 100).interval.high) == pytest.approx(1 - float(after([1] * 100).interval.low))
    assert float(after(np.ones(10**6)).interval.low) > 0.9999


def test_nothing_is_known_before_the_first_value():
    interval = ConfidenceSequence().interval
    assert math.isnan(interval.coverage)
    assert (interval.low, interval.high, interval.rows) == (0, 1, 0)


def test_batches_of_any_library_are_single_values(lib):
    values = np.random.default_rng(0).random(60)
    single = ConfidenceSequence()
    for value in values.tolist():
        single.update(value)
    batches = after(lib(values[:20].reshape(4, 5)))
    batches.update(lib(values[20:]))
    assert batches.state_dict() == single.state_dict()
    assert after(lib(values > 0.5)).interval == after((values > 0.5).tolist()).interval


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ConfidenceSequence(confidence=1.0), ValueError, r"confidence must lie in \(0, 1\), got 1.0"),
        (lambda: after([0.5, 1.5]), ValueError, r"values must lie in \[0, 1\], got 1.5"),
        (lambda: after(math.nan), ValueError, r"values must lie in \[0, 1\], got nan"),
        (lambda: after("x"), TypeError, "values must hold numbers or booleans, got <U1"),
        (
            lambda: ConfidenceSequence().load_state_dict(after([1]).state_dict() | {"total": 2.0}),
            ValueError,
            "a total of at most 1, got 2.0",
        ),
    ],
)
def test_bad_use_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_values_that_are_refused_add_nothing():
    sequence = after([1.0])
    with pytest.raises(ValueError, match="values must"):
        sequence.update([0.5, -1.0])
    assert sequence.state_dict() == after([1.0]).state_dict()
