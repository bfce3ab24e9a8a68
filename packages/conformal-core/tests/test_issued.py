"""What a level learns is what was issued: labels that come in batches, late, in another order, or never."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformal_core import (
    ACI,
    APS,
    LAC,
    RAPS,
    SAOCP,
    SAPS,
    AbsoluteResidual,
    Constant,
    DtACI,
    Exponential,
    Fixed,
    History,
    OnlineClassifier,
    OnlineRegressor,
    Reservoir,
    Sketch,
    Window,
)
from issuing import LEVELS, POOL, Spy

MEMORIES = {
    "history": History,
    "window": lambda: Window(7),
    "exponential": lambda: Exponential(0.8),
    "reservoir": lambda: Reservoir(9, seed=0),
    "fixed": Fixed,
    "sketch": lambda: Sketch(8),
}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("predict"), st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=5)),
        st.tuples(st.just("update"), st.lists(st.integers(0, 10**6), min_size=1, max_size=4)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("level", LEVELS)
@given(steps=steps, single=st.booleans(), named=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_what_the_level_counts_is_what_was_issued(level, memory, steps, single, named, seed):
    """Rows are predicted in batches; their labels come in any order, some of them never."""
    rng = np.random.default_rng(seed)
    pool = POOL.astype(np.float32 if single else np.float64)
    spy = Spy(LEVELS[level]())
    predictor = OnlineClassifier(LAC(), memory=MEMORIES[memory](), level=spy)
    predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))  # in double precision, whatever comes later
    waiting, number = [], 0  # (id, row, the set it was given)
    for action, chosen in steps:
        if action == "predict":
            ids = [f"row {number + i}" for i in range(len(chosen))]
            number += len(chosen)
            sets = predictor.predict(pool[chosen], ids=ids if named else None)
            waiting += zip(ids, chosen, sets, strict=True)
            continue
        for draw in chosen[: len(waiting)]:
            place = draw % len(waiting)
            if not named:  # of equal rows the oldest is meant
                place = next(i for i, (_, row, _) in enumerate(waiting) if row == waiting[place][1])
            name, row, given_set = waiting.pop(place)
            label = int(rng.integers(2))
            predictor.update(pool[row], label, ids=name if named else None)
            score, threshold = spy.told[-1]
            assert (score <= threshold) == bool(given_set[label])
    assert predictor.pending == len(waiting)


@pytest.mark.parametrize("level", LEVELS)
def test_one_row_after_another_is_as_ever(level):
    """Where each label comes at once, to predict first or not makes no difference."""
    rng = np.random.default_rng(0)
    rows, labels = POOL[rng.integers(0, len(POOL), 60)], rng.integers(0, 2, 60).tolist()
    asked, silent = (OnlineClassifier(LAC(), memory=Window(20), level=LEVELS[level]()) for _ in range(2))
    for predictor in (asked, silent):
        predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))
    for row, label in zip(rows, labels, strict=True):
        asked.predict(row)
        asked.update(row, label)
        silent.update(row, label)
        assert asked.qhat == silent.qhat
    assert asked.pending == 0


def test_batches_of_a_series_that_grows_are_counted_as_they_were_issued():
    """y = t in batches of ten: once .896 was counted where .030 had been issued."""
    alpha, gamma, size = Fraction(1, 10), Fraction(1, 200), 10
    predictor = OnlineRegressor(AbsoluteResidual(), memory=Window(200), level=ACI(alpha=alpha, gamma=gamma))
    predictor.calibrate(np.zeros(200), np.arange(200.0))
    missed = steps = 0
    for start in range(200, 8200, size):
        targets = np.arange(float(start), start + size)
        ends = predictor.predict(np.zeros(size))
        missed += int(((targets < ends[:, 0]) | (targets > ends[:, 1])).sum())
        predictor.update(np.zeros(size), targets)
        steps += size
        assert predictor.level.current == alpha + gamma * (steps * alpha - missed)
    assert abs(missed / steps - 0.1) <= (0.9 + size * gamma) / (gamma * steps)  # a batch overshoots by its size


def test_a_random_walk_a_day_ahead_is_covered():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=24 * 400))
    predictor = OnlineRegressor(AbsoluteResidual(), memory=Window(500), level=ACI(alpha=0.1, gamma=0.01))
    hits = []
    for day in range(1, 400):
        today, before = walk[24 * day : 24 * day + 24], np.full(24, walk[24 * day - 1])
        if day > 20:
            ends = predictor.predict(before)
            hits.append((ends[:, 0] <= today) & (today <= ends[:, 1]))
        predictor.update(before, today)
    assert np.mean(hits) == pytest.approx(0.9, abs=0.01)


def delayed(level, delay=20, rows=600):
    """Return the thresholds of a stream whose labels come ``delay`` rows late."""
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(3), size=rows)
    labels = rng.integers(0, 3, rows).tolist()
    predictor = OnlineClassifier(LAC(), memory=Window(100), level=level)
    predictor.calibrate(probs[:50], np.asarray(labels[:50]))
    thresholds, hits = [], []
    for t in range(50, rows):
        thresholds.append(predictor.qhat)
        hits.append(bool(predictor.predict(probs[t])[labels[t]]))
        if t >= 50 + delay:
            predictor.update(probs[t - delay], labels[t - delay])
    return thresholds, hits


def test_dtaci_with_one_step_and_a_delay_is_aci_with_it():
    assert delayed(DtACI(alpha=0.1, gammas=[0.02]))[0] == delayed(ACI(alpha=0.1, gamma=0.02))[0]


@pytest.mark.parametrize("level", LEVELS)
def test_a_delay_of_twenty_rows_costs_little_coverage(level):
    assert np.mean(delayed(LEVELS[level](), rows=3000)[1]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("make", [LEVELS["dtaci"], LEVELS["saocp"]])
def test_learners_are_judged_by_the_thresholds_they_had(make):
    """The same score after the same stream, issued before or after it: two lessons."""
    learned = []
    for early in (True, False):
        level, memory = make(), History()
        memory.extend(np.linspace(0.0, 1.0, 30))
        first = level.threshold(memory)
        for score in np.linspace(0.0, 0.3, 25).tolist():
            level.update(score, level.threshold(memory), memory)
        level.update(0.5, first if early else level.threshold(memory), memory)
        learned.append(float(level.threshold(memory)))
    assert learned[0] != learned[1]


@pytest.mark.parametrize("make", [LEVELS["dtaci"], LEVELS["saocp"]])
@pytest.mark.parametrize("threshold", [0.5, math.inf, math.nan])
def test_a_threshold_that_the_level_did_not_issue_is_refused(make, threshold):
    level = make()
    before = level.state_dict()
    with pytest.raises(TypeError, match="threshold must be one that"):
        level.update(0.5, threshold, History())
    np.testing.assert_equal(level.state_dict(), before)


def test_saocp_bets_at_most_its_scale_on_a_score_beyond_it():
    level = SAOCP(alpha=0.1, scale=1.0)
    for score in (0.2, 0.4, 1e6, 0.3, -1e6, 1e300):
        level.update(score, level.threshold(History()), History())
        born, _, _, gains, _ = level.state_dict()["learners"].T
        assert (np.abs(gains) <= len(born) + 1).all()
        assert np.isfinite(level.threshold(History()))


def test_a_constant_level_has_nothing_to_wait_for():
    predictor = OnlineClassifier(LAC(), level=Constant(alpha=0.1))
    predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))
    predictor.predict(POOL, ids=range(len(POOL)))
    assert predictor.pending == 0
    predictor.update(POOL[0], 0, ids=7)
    assert len(predictor.memory) == len(POOL) + 1


@pytest.mark.parametrize("score", [APS(randomized=True), RAPS(randomized=True), SAPS(randomized=True)])
@pytest.mark.parametrize("form", ["double", "single", "tensor"])
def test_a_randomized_set_is_learned_with_the_draw_it_was_issued_with(score, form):
    rng = np.random.default_rng(5)
    rows = rng.dirichlet(np.ones(4), size=400).astype(np.float64 if form == "double" else np.float32)
    labels = rng.integers(0, 4, 400)
    if form == "tensor":
        torch = pytest.importorskip("torch")
        rows, labels = torch.from_numpy(rows), torch.from_numpy(labels)
    spy = Spy(ACI(alpha=0.3, gamma=0.02))
    predictor = OnlineClassifier(score, memory=Window(50), level=spy)
    predictor.calibrate(rows[:50], labels[:50])
    for start in range(50, 400, 10):
        part = slice(start, start + 10)
        sets = predictor.predict(rows[part])
        order = rng.permutation(10)
        predictor.update(rows[part][order], labels[part][order])
        told = [s <= q for s, q in spy.told[-10:]]
        assert told == sets[order, labels[part][order]].tolist()


def test_a_level_of_a_user_may_return_a_number_of_numpy():
    class Fixed07(Spy):
        def threshold(self, memory, /):
            return np.float64(0.7)

    made, other = (OnlineClassifier(LAC(), level=Fixed07(ACI(alpha=0.5))) for _ in range(2))
    made.predict(POOL[:2])
    other.load_state_dict(made.state_dict())
    assert other.pending == 2
