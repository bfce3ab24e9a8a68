"""What a level learns is what was issued: labels that come in batches, late, in another order, or never."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformal_core import (
    ACI,
    APS,
    CQR,
    LAC,
    RAPS,
    SAOCP,
    SAPS,
    AbsoluteResidual,
    ConformalPID,
    Constant,
    DecayingStep,
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
from conformal_core.level.base import Level

LEVELS = {
    "aci": lambda: ACI(alpha=0.2, gamma=0.05),
    "dtaci": lambda: DtACI(alpha=0.2, window=50),
    "dtaci of one": lambda: DtACI(alpha=0.2, gammas=[0.05]),
    "decaying": lambda: DecayingStep(alpha=0.2, start=0.5, scale=0.5),
    "pid": lambda: ConformalPID(alpha=0.2, start=0.5, rate=0.05, integral=0.2),
    "saocp": lambda: SAOCP(alpha=0.2, scale=1.0, lifetime=2),
}
MEMORIES = {
    "history": History,
    "window": lambda: Window(7),
    "exponential": lambda: Exponential(0.8),
    "reservoir": lambda: Reservoir(9, seed=0),
    "fixed": Fixed,
    "sketch": lambda: Sketch(8),
}
# Eighths and tenths: scores that are exact in every precision and scores that are not; many lie on a threshold.
POOL = np.asarray([[e / 8, 1 - e / 8] for e in range(9)] + [[e / 10, 1 - e / 10] for e in (1, 2, 3, 4, 6, 7, 8, 9)])


class Spy(Level):
    """A level that learns as another one does, and writes down what it was told."""

    def __init__(self, inner):
        self.inner, self.told = inner, []

    def threshold(self, memory, /):
        return self.inner.threshold(memory)

    def update(self, score, threshold, memory, /):
        self.told.append((score, float(threshold)))
        self.inner.update(score, threshold, memory)

    def calibrate(self, scores, /):
        self.inner.calibrate(scores)

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)


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


def test_a_label_in_another_precision_finds_its_row(lib):
    predictor = OnlineClassifier(LAC(), memory=Window(9), level=ACI(alpha=0.5))
    predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))
    rows = lib(POOL[:4].astype(np.float32))
    predictor.predict(rows)
    assert predictor.pending == 4
    predictor.update(POOL[:4].astype(np.float32).astype(np.float64), np.zeros(4, dtype=int))
    assert predictor.pending == 0


def test_rows_of_half_precision_are_remembered():
    torch = pytest.importorskip("torch")
    predictor = OnlineClassifier(LAC(), level=ACI(alpha=0.5))
    predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))
    for dtype in (torch.float16, torch.bfloat16):
        rows = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=dtype)
        predictor.predict(rows)
        predictor.update(rows.flip(0), torch.tensor([0, 1]))
        assert predictor.pending == 0


def test_regression_rows_of_two_columns_are_rows():
    predictor = OnlineRegressor(CQR(), level=ACI(alpha=0.5))
    rows = np.asarray([[0.0, 1.0], [0.0, 2.0], [1.0, 2.0]])
    predictor.calibrate(rows, np.asarray([0.5, 3.0, 0.0]))
    predictor.predict(rows)
    assert predictor.pending == 3
    predictor.update(rows[1:2], np.asarray([1.0]))
    assert predictor.pending == 2
    predictor.update(rows[[2, 0]], np.asarray([1.0, 1.0]))
    assert predictor.pending == 0


def test_a_constant_level_has_nothing_to_wait_for():
    predictor = OnlineClassifier(LAC(), level=Constant(0.1))
    predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))
    predictor.predict(POOL, ids=range(len(POOL)))
    assert predictor.pending == 0
    predictor.update(POOL[0], 0, ids=7)
    assert len(predictor.memory) == len(POOL) + 1


def calibrated(**options):
    predictor = OnlineClassifier(LAC(), memory=Window(30), level=ACI(alpha=0.5, gamma=0.1), **options)
    predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))
    return predictor


def test_the_oldest_rows_are_forgotten_with_one_warning():
    predictor = calibrated(max_pending=3)
    with pytest.warns(UserWarning, match=r"more than max_pending = 3 predicted rows still wait"):
        predictor.predict(POOL[:5])
    predictor.predict(POOL[5:7])  # a second warning would be an error
    assert predictor.pending == 3
    predictor.update(POOL[4:7], np.zeros(3, dtype=int))
    assert predictor.pending == 0


def test_a_second_prediction_with_an_id_replaces_the_first():
    predictor = calibrated()
    predictor.predict(POOL[:2], ids=[7, 8])
    predictor.predict(POOL[2:3], ids=[7])
    assert predictor.pending == 2
    predictor.update(POOL[:2], np.zeros(2, dtype=int), ids=np.asarray([8, 7]))
    assert predictor.pending == 0


def test_a_number_and_its_digits_are_two_ids():
    predictor = calibrated()
    predictor.predict(POOL[:2], ids=[7, "7"])
    assert predictor.pending == 2


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        ([1, 2, 9], ValueError, "still wait for a label, got 9: for a row that was not predicted, omit ids"),
        ([1, 2, 2], ValueError, "still wait for a label, got 2 twice"),
        ([1, 2], ValueError, "ids must name each of the 3 rows, got 2"),
        (1, ValueError, "ids must name each of the 3 rows, got 1"),
        ([1, 2, 3.0], TypeError, "ids must be integers or strings, got float"),
        ([1, 2, True], TypeError, "ids must be integers or strings, got bool"),
        ([1, 2, None], TypeError, "ids must be integers or strings, got NoneType"),
    ],
)
def test_wrong_ids_are_refused_and_nothing_is_learned(ids, kind, message):
    predictor = calibrated()
    predictor.predict(POOL[:3], ids=[1, 2, 3])
    before = predictor.state_dict()
    with pytest.raises(kind, match=message):
        predictor.update(POOL[:3], np.zeros(3, dtype=int), ids=ids)
    np.testing.assert_equal(predictor.state_dict(), before)


@pytest.mark.parametrize("kind", ["pickle", "deepcopy"])
@pytest.mark.parametrize("level", LEVELS)
def test_copies_go_on_with_the_rows_that_wait(level, kind):
    rows, labels = np.random.default_rng(4).dirichlet(np.ones(3), size=40), [0, 1, 2, 1] * 10
    made = OnlineClassifier(LAC(), memory=Window(20), level=LEVELS[level]())
    made.calibrate(rows[:20], labels[:20])
    made.predict(rows[20:])
    other = copy.deepcopy(made) if kind == "deepcopy" else pickle.loads(pickle.dumps(made))  # noqa: S301
    for predictor in (made, other):
        predictor.update(rows[20:][::-1], labels[20:][::-1])
    np.testing.assert_equal(other.state_dict(), made.state_dict())


@pytest.mark.parametrize("score", [APS(randomized=True), RAPS(randomized=True), SAPS(randomized=True)])
@pytest.mark.parametrize("single", [False, True])
def test_a_randomized_set_is_learned_with_the_draw_it_was_issued_with(score, single):
    rng = np.random.default_rng(5)
    rows = rng.dirichlet(np.ones(4), size=400).astype(np.float32 if single else np.float64)
    labels = rng.integers(0, 4, 400)
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


def test_many_equal_rows_that_wait_are_warned_of_and_a_batch_of_them_is_not():
    predictor = calibrated()
    predictor.predict(np.tile(POOL[3], (500, 1)))
    predictor = OnlineClassifier(LAC(), memory=Window(30), level=DtACI(alpha=0.5))
    predictor.calibrate(POOL, np.zeros(len(POOL), dtype=int))
    for _ in range(63):
        predictor.predict(POOL[3])
    with pytest.warns(UserWarning, match="64 predictions with the same numbers wait for labels"):
        predictor.predict(POOL[3])
    for _ in range(200):
        predictor.predict(POOL[3])  # a second warning would be an error


def test_updates_that_never_meet_their_predictions_are_warned_of():
    predictor = calibrated()
    for i in range(49):
        predictor.predict(POOL[3], ids=i)
        predictor.update(POOL[3], 0)
    predictor.predict(POOL[3], ids=49)
    with pytest.warns(UserWarning, match="none of the last 50 updated rows is among the 50 that were predicted"):
        predictor.update(POOL[3], 0)
    predictor.update(POOL[3], 0)


def test_ids_of_many_kinds_of_columns():
    torch = pytest.importorskip("torch")
    predictor = calibrated()
    predictor.predict(POOL[:3], ids=torch.tensor([4, 5, 6]))
    predictor.update(POOL[:3], [0, 0, 0], ids=np.asarray([4, 5, 6]))
    assert predictor.pending == 0


def test_a_level_of_a_user_may_return_a_number_of_numpy():
    class Fixed07(Spy):
        def threshold(self, memory, /):
            return np.float64(0.7)

    made, other = (OnlineClassifier(LAC(), level=Fixed07(ACI(alpha=0.5))) for _ in range(2))
    made.predict(POOL[:2])
    other.load_state_dict(made.state_dict())
    assert other.pending == 2


def test_a_refused_prediction_is_not_remembered():
    predictor = calibrated()
    with pytest.raises(ValueError, match="probs must sum to 1"):
        predictor.predict(POOL * 2)
    with pytest.raises(ValueError, match="ids must name each of the 2 rows, got 3"):
        predictor.predict(POOL[:2], ids=[1, 2, 3])
    assert predictor.pending == 0


@pytest.mark.parametrize("level", LEVELS)
def test_rows_that_wait_are_part_of_the_state(level):
    rng = np.random.default_rng(3)
    rows, labels = rng.dirichlet(np.ones(3), size=80), rng.integers(0, 3, 80)
    whole, second = (OnlineClassifier(LAC(), memory=Window(20), level=LEVELS[level]()) for _ in range(2))
    whole.calibrate(rows[:20], labels[:20])
    whole.predict(rows[20:50])
    whole.update(rows[20:40:2], labels[20:40:2])
    whole.predict(rows[50:60], ids=range(10))
    second.load_state_dict(whole.state_dict())
    assert second.pending == whole.pending == 30
    for predictor in (whole, second):
        predictor.update(rows[50:55], labels[50:55], ids=[4, 3, 2, 1, 0])
        predictor.update(rows[21:50][::-1], labels[21:50][::-1])
    np.testing.assert_equal(second.state_dict(), whole.state_dict())
    assert second.pending == 5


def test_more_rows_than_may_wait_are_refused_in_a_state():
    full = calibrated()
    full.predict(POOL)
    small = calibrated(max_pending=3)
    with pytest.raises(ValueError, match="state of Issued must hold at most 3 rows, got 17"):
        small.load_state_dict(full.state_dict())


def test_too_few_scores_are_warned_of_once():
    predictor = OnlineClassifier(LAC(), alpha=0.1)
    with pytest.warns(UserWarning, match=r"0 calibration scores are too few for alpha = 0\.1"):
        predictor.predict(POOL[3])
    assert predictor.predict(POOL[3]).all()  # a second warning would be an error
