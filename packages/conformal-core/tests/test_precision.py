"""Scores and thresholds of different precision: one comparison, for sets, p-values and reliabilities."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from conformal_core import (
    APS,
    LAC,
    RAPS,
    SAPS,
    CalibrationBuffer,
    ClassConditionalClassifier,
    ClusteredClassifier,
    Exponential,
    Fixed,
    History,
    Margin,
    Mondrian,
    Reservoir,
    Sketch,
    SplitClassifier,
    Window,
    p_values,
    prediction_set,
    rank_reliability,
)
from conformal_core._arrays import comparable, narrow, rounded_down, rounded_up

PRECISIONS = [(np.float64, np.float32), (np.float32, np.float64), (np.float64, np.float16), (np.float16, np.float32)]
MEMORIES = [Fixed, History, lambda: Window(99), lambda: Reservoir(99), lambda: Sketch(64), lambda: Exponential(0.9)]


def skip_half(lib, *dtypes):
    if lib.name == "strict" and np.float16 in dtypes:
        pytest.skip("the standard has no half precision")


def edge_numbers():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=2000) * 10.0 ** rng.integers(-50, 45, 2000)
    edges = [0.0, -0.0, math.inf, -math.inf, 65504.0, 65519.0, 65520.0, -65520.0, 6e-8, 1e-45, -1e-45, 5e-324, 0.1, 0.9]
    return np.concatenate([wide, edges])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rounding_goes_to_the_neighbour_on_its_side(lib, dtype):
    skip_half(lib, dtype)
    numbers = edge_numbers()
    like = lib(np.zeros(1, dtype=dtype))
    up, down = lib.back(rounded_up(lib(numbers), like.dtype)), lib.back(rounded_down(lib(numbers), like.dtype))
    assert up.dtype == down.dtype == dtype
    assert (up.astype(np.float64) >= numbers).all()
    assert (down.astype(np.float64) <= numbers).all()
    with np.errstate(over="ignore"):
        neighbours = np.nextafter(down, np.full_like(down, math.inf))
    assert ((up == down) | (up == neighbours)).all()
    assert [narrow(x, like) for x in numbers.tolist()] == up.astype(np.float64).tolist()


@pytest.mark.parametrize(("first", "then"), PRECISIONS)
def test_a_label_is_in_the_set_exactly_when_its_p_value_exceeds_alpha(lib, first, then):
    skip_half(lib, first, then)
    rng = np.random.default_rng(1)
    rows = rng.dirichlet(np.ones(4), size=99)
    labels = rng.integers(0, 4, 99)
    calibration, test = rows.astype(first), rows.astype(first).astype(then)
    scores_of = [LAC(), Margin(), APS(), RAPS(penalty=0.1, free_ranks=1), SAPS(weight=0.1)]
    for score, alpha in product(scores_of, (0.05, 0.1, 0.37, 0.5)):
        predictor = SplitClassifier(score, alpha=alpha)
        predictor.calibrate(lib(calibration), lib(labels))
        inside = lib.back(predictor.predict(lib(test)))
        assert (inside == (lib.back(predictor.p_values(lib(test))) > alpha)).all()
        scores = score(lib(test))
        assert (lib.back(prediction_set(scores, predictor.qhat)) == inside).all()
        ranks = lib.back(rank_reliability(scores, lib(labels), predictor.qhat))
        assert ((ranks > 0) == inside[np.arange(99), labels]).all()


def test_a_row_keeps_its_set_when_it_is_widened(lib):
    """The row that is the threshold is inside in either precision: 1 − p is rounded once, in the narrower one."""
    rows = np.random.default_rng(2).dirichlet(np.ones(4), size=199).astype(np.float32)
    labels = np.arange(199) % 4
    for alpha in (0.05, 0.11, 0.3, 0.5):
        predictor = SplitClassifier(LAC(), alpha=alpha)
        predictor.calibrate(lib(rows), lib(labels))
        narrow_sets = lib.back(predictor.predict(lib(rows)))
        wide_sets = lib.back(predictor.predict(lib(rows.astype(np.float64))))
        assert (wide_sets >= narrow_sets).all()
        assert wide_sets[np.arange(199), labels].sum() >= predictor.predict(lib(rows)).shape[0] * (1 - alpha)


def test_no_rounding_of_a_score_takes_it_out_of_its_set(lib):
    """Whichever of the two neighbours in float32 a score becomes, and in whichever precision the threshold is."""
    scores = np.random.default_rng(3).random(500)
    low, high = rounded_down(scores, np.float32), rounded_up(scores, np.float32)
    for qhat in scores[:50]:
        allowed = scores <= qhat
        for rounded in (low, high):
            assert lib.back(prediction_set(lib(rounded), lib(np.asarray(qhat))))[allowed].all()
            assert lib.back(prediction_set(lib(rounded), float(qhat)))[allowed].all()
            assert lib.back(p_values(lib(scores), lib(rounded)))[allowed].min() >= np.mean(scores >= qhat) * 500 / 501
        for threshold in (rounded_down(np.asarray(qhat), np.float32), rounded_up(np.asarray(qhat), np.float32)):
            assert lib.back(prediction_set(lib(scores), lib(threshold)))[allowed].all()


def test_endless_thresholds_stay_endless(lib):
    scores = np.asarray([0.0, 1e30, -1e30])
    for qhat, inside in ((math.inf, True), (-math.inf, False)):
        threshold = lib(np.asarray(qhat, dtype=np.float32))
        assert (lib.back(prediction_set(lib(scores), threshold)) == inside).all()
    assert lib.back(prediction_set(lib(np.asarray([0.0, 3e38], dtype=np.float32)), 1e300)).all()


@pytest.mark.parametrize("make", MEMORIES)
def test_memories_compare_in_the_precision_of_the_row(lib, make):
    past = np.random.default_rng(4).random(60)
    memory = make()
    memory.extend(lib(past))
    alpha = Fraction(1, 5)
    qhat = narrow(float(memory.quantile(alpha)), lib(np.zeros(1, dtype=np.float32)))
    boundary = np.asarray([qhat, np.nextafter(np.float32(qhat), np.float32(1))], dtype=np.float32)
    at, beyond = lib.back(memory.p_values(lib(boundary))).tolist()
    assert at > 0.2 >= beyond


@pytest.mark.parametrize(("first", "then"), PRECISIONS[:2])
def test_thresholds_of_classes_and_groups_compare_alike(lib, first, then):
    rng = np.random.default_rng(5)
    rows, labels = rng.dirichlet(np.ones(3), size=200), rng.integers(0, 3, 200)
    calibration, test = lib(rows.astype(first)), rows.astype(first).astype(then)
    by_class, by_group = ClassConditionalClassifier(LAC(), alpha=0.1), Mondrian(SplitClassifier(LAC(), alpha=0.1))
    clustered = ClusteredClassifier(LAC(), alpha=0.1, clusters=1)
    for predictor in (by_class, clustered):
        predictor.calibrate(calibration, lib(labels))
        wanted = lib.back(prediction_set(LAC()(lib(test))[..., None], predictor.qhat))[..., 0]
        assert (lib.back(predictor.predict(lib(test))) == wanted).all()
    by_group.calibrate(calibration, lib(labels), groups=lib(labels))
    sets = lib.back(by_group.predict(lib(test), groups=lib(labels)))
    own = np.arange(200), labels
    assert (sets[own] == lib.back(by_class.predict(lib(test)))[own]).all()


def test_a_threshold_is_compared_in_the_dtype_of_the_scores(lib):
    for like in (lib(np.zeros(1, dtype=np.float32)), lib(np.zeros(1))):
        for qhat in (0.9, lib(np.asarray(0.9)), lib(np.asarray(0.9, dtype=np.float32))):
            assert comparable(qhat, like).dtype == like.dtype


def test_a_buffer_of_a_narrower_dtype_never_lowers_its_threshold(lib):
    scores = np.random.default_rng(6).random(99)
    buffer = CalibrationBuffer(99, like=lib(np.zeros((), dtype=np.float32)))
    buffer.overwrite(lib(np.arange(99)), lib(scores))
    for alpha in (0.1, 0.2, 0.5):
        wanted = np.sort(scores)[math.ceil(100 * (1 - alpha)) - 1]
        assert wanted <= float(buffer.quantile(alpha=alpha)) <= np.nextafter(np.float32(wanted), np.float32(1))
    restored = CalibrationBuffer(99, like=lib(np.zeros((), dtype=np.float32)))
    wide = CalibrationBuffer(99, like=lib(np.zeros(())))
    wide.overwrite(lib(np.arange(99)), lib(scores))
    restored.load_state_dict(wide.state_dict())
    assert lib.back(restored.scores).tolist() == lib.back(buffer.scores).tolist()
    merged = CalibrationBuffer(99, like=lib(np.zeros((), dtype=np.float32)))
    merged.merge(wide)
    assert merged.scores.dtype == buffer.scores.dtype
    assert lib.back(merged.scores).tolist() == lib.back(buffer.scores).tolist()
