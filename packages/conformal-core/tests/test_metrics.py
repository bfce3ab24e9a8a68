import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import (
    class_coverage,
    coverage,
    group_coverage,
    rolling_coverage,
    size_coverage,
)

tables = st.integers(1, 4).flatmap(
    lambda k: st.lists(
        st.tuples(st.lists(st.booleans(), min_size=k, max_size=k), st.integers(0, k - 1), st.integers(0, 2)),
        min_size=1,
        max_size=20,
    )
)


@given(tables)
def test_shares_are_counted_one_by_one(lib, table):
    sets, labels, groups = (np.asarray(column) for column in zip(*table, strict=True))
    hits = [row[y] for row, y in zip(sets, labels, strict=True)]
    sizes = sets.sum(1)
    seen = coverage(lib(sets), lib(labels))
    assert float(seen.coverage) == pytest.approx(np.mean(hits))
    assert int(seen.rows) == len(hits)
    assert (
        size_coverage(lib(sets), lib(labels)).rows.tolist() == np.bincount(sizes, minlength=sets.shape[1] + 1).tolist()
    )
    for got, key, count in (
        (class_coverage(lib(sets), lib(labels)), labels, sets.shape[1]),
        (size_coverage(lib(sets), lib(labels)), sizes, sets.shape[1] + 1),
        (group_coverage(lib(sets), lib(labels), groups=lib(groups)), groups, int(groups.max()) + 1),
    ):
        assert got.coverage.shape == (count,)
        for g in range(count):
            own = [h for h, k in zip(hits, key, strict=True) if k == g]
            assert got.rows[g] == len(own)
            if own:
                assert got.coverage[g] == pytest.approx(np.mean(own))
                assert 0 <= got.low[g] <= got.coverage[g] <= got.high[g] <= 1
            else:
                assert np.isnan([got.coverage[g], got.low[g], got.high[g]]).all()


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 8))
def test_rolling_coverage_is_the_mean_of_the_last_steps(lib, hits, window):
    got = rolling_coverage(lib(np.asarray(hits, dtype=bool)), window=window)
    wanted = [np.mean(hits[max(0, t + 1 - window) : t + 1]) for t in range(len(hits))]
    np.testing.assert_allclose(got, wanted)


def test_intervals_solve_wilsons_equation():
    """The ends are where the distance from the share is z standard errors of that end."""
    sets = np.zeros((50, 2), dtype=bool)
    sets[:37, 0] = True
    seen = coverage(sets, np.zeros(50, dtype=int), confidence=0.9)
    z = 1.6448536269514722
    for end in (float(seen.low), float(seen.high)):
        assert abs(end - 0.74) == pytest.approx(z * math.sqrt(end * (1 - end) / 50))


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        sets = np.stack([rng.random(100) < 0.9, np.ones(100, bool)], 1)
        seen = coverage(sets, np.zeros(100, dtype=int))
        inside += float(seen.low) <= 0.9 <= float(seen.high)
    assert abs(inside / 2000 - 0.95) < 4 * math.sqrt(0.05 * 0.95 / 2000) + 0.01


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: coverage(np.asarray([[0.5]]), np.asarray([0])), TypeError, "sets must hold booleans"),
        (lambda: coverage(np.asarray(True), np.asarray([0])), ValueError, r"sets must have shape \(N, K\)"),
        (lambda: coverage(np.asarray([[True]]), np.asarray([1])), ValueError, r"labels must lie in 0\.\.0, got 1"),
        (
            lambda: coverage(np.asarray([[True]]), np.asarray([0]), confidence=1),
            ValueError,
            r"confidence must lie in \(0, 1\)",
        ),
        (
            lambda: group_coverage(np.asarray([[True]]), np.asarray([0]), groups=np.asarray([-1])),
            ValueError,
            "groups must be at least 0",
        ),
        (
            lambda: group_coverage(np.asarray([[True]]), np.asarray([0]), groups=np.asarray([0, 1])),
            ValueError,
            "groups must have the shape",
        ),
        (
            lambda: group_coverage(np.asarray([[True]]), np.asarray([0]), groups=np.asarray([0.5])),
            TypeError,
            "groups must hold integers",
        ),
        (lambda: rolling_coverage(np.asarray([True]), window=0), ValueError, "window must be at least 1"),
        (lambda: rolling_coverage(np.asarray([0.5]), window=1), TypeError, "hits must hold booleans"),
        (lambda: rolling_coverage(np.asarray([[True]]), window=1), ValueError, r"hits must have shape \(T,\)"),
    ],
)
def test_bad_input_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_intervals_hold_the_coverage_as_often_as_stated():
    """Exactly, by the binomial law of the hits: at worst, and on average over true coverages of .8 to .99."""
    truth = np.linspace(0.8, 0.99, 96)
    for rows, least in ((20, 0.89), (21, 0.89), (53, 0.89), (200, 0.92)):
        low, high = np.empty(rows + 1), np.empty(rows + 1)
        for hits in range(rows + 1):
            sets = np.arange(rows)[:, None] < [hits]
            _, low[hits], high[hits], _ = coverage(sets, np.zeros(rows, dtype=int))
        counts = np.arange(rows + 1)
        ways = np.asarray([math.comb(rows, int(k)) for k in counts], dtype=np.float64)
        law = ways * truth[:, None] ** counts * (1 - truth[:, None]) ** (rows - counts)
        held = (law * ((low <= truth[:, None]) & (truth[:, None] <= high))).sum(axis=1)
        assert held.min() >= least
        assert held.mean() == pytest.approx(0.95, abs=0.01)
