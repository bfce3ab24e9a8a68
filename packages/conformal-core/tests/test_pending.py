"""Predicted rows that wait for their labels: how they are found, how many, and what is saved of them."""

import copy
import pickle

import numpy as np
import pytest

from conformal_core import (
    ACI,
    CQR,
    LAC,
    DtACI,
    OnlineClassifier,
    OnlineRegressor,
    Window,
)
from issuing import LEVELS, POOL


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
