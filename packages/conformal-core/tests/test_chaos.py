"""Wrong answers that fuzzing found, where an error or another answer was due."""

from fractions import Fraction

import numpy as np
import pytest

from conformal_core import (
    APS,
    LAC,
    AbsoluteResidual,
    CalibrationBuffer,
    Exponential,
    Fixed,
    History,
    NormalizedResidual,
    Reservoir,
    Sketch,
    SplitClassifier,
    Window,
    class_coverage,
    conformal_quantile,
    coverage,
    group_coverage,
    p_values,
    prediction_set,
    rank_reliability,
    set_size,
    weighted_conformal_quantile,
)

LARGE = 1e308


def test_weights_whose_sum_overflows_are_compared_all_the_same(lib):
    scores = lib([1.0, 2.0])
    for unit in (1.0, LARGE, 5e-324):
        got = weighted_conformal_quantile(scores, lib(np.full(2, unit)), lib(np.full(1, unit)), alpha=0.1)
        assert lib.back(got).tolist() == [np.inf]
        got = weighted_conformal_quantile(scores, lib(np.full(2, unit)), lib(np.full(1, unit)), alpha=0.6)
        assert lib.back(got).tolist() == [2.0]


def test_p_values_of_two_precisions_compare_in_the_coarser(lib):
    narrow = np.asarray([0.1], dtype=np.float32)  # larger than 0.1, and the smallest float32 that is
    assert lib.back(p_values(lib(narrow), lib(np.asarray([0.1])))).tolist() == [1.0]
    assert lib.back(p_values(lib(np.asarray([0.1])), lib(narrow))).tolist() == [1.0]
    assert lib.back(p_values(lib(np.asarray([0.1])), lib(np.nextafter(narrow, narrow + 1)))).tolist() == [0.5]


def test_a_calibration_set_keeps_the_wider_precision(lib):
    memory = Fixed()
    memory.extend(lib(np.asarray([0.5], dtype=np.float32)))
    memory.extend(lib(np.asarray([0.1])))
    assert float(memory.quantile(Fraction(1, 2))) == 0.5
    assert float(memory.quantile(Fraction(2, 3))) == 0.1


def test_an_index_of_bytes_is_no_mask(lib):
    buffer = CalibrationBuffer(3, like=lib(np.zeros(1)))
    buffer.overwrite(lib(np.asarray([2, 0], dtype=np.uint8)), lib(np.asarray([0.2, 0.1])))
    assert lib.back(buffer.scores).tolist() == [0.1, np.inf, 0.2]


def test_labels_of_narrow_and_unsigned_integers(lib):
    probs = lib(np.full((1, 300), 1 / 300))
    for dtype in (np.int8, np.uint8, np.uint64):
        assert lib.back(LAC()(probs, lib(np.asarray([5], dtype=dtype)))) == pytest.approx([1 - 1 / 300])


@pytest.mark.parametrize("memory", [History(), Window(3), Reservoir(3), Exponential(0.9), Sketch(2)])
def test_no_memory_takes_nan(memory):
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="score must be finite"):
            memory.add(wrong)
    assert len(memory) == 0


def test_scalars_and_empty_arrays(lib):
    assert lib.back(p_values(lib(np.zeros(0)), lib(np.asarray(0.1)), u=0.5)) == pytest.approx(0.5)
    assert lib.back(APS()(lib(np.zeros((0, 1))))).shape == (0, 1)
    assert lib.back(NormalizedResidual()(lib(np.zeros((1, 0, 2))), lib(np.zeros((1, 0))))).shape == (1, 0)
    sets = lib(np.asarray([[True, False], [True, True]]))
    assert class_coverage(sets, lib(np.asarray([0]))).coverage[0] == 1.0
    assert float(class_coverage(sets, 1).coverage[1]) == 0.5


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda a: conformal_quantile(a([0.1, 0.2]), alpha=[]), ValueError, "alpha must hold at least one level"),
        (lambda a: set_size(a(True)), ValueError, "sets must have shape"),
        (lambda a: LAC()(a(0.5), a(0)), ValueError, "probs must have shape"),
        (lambda a: prediction_set(a([0.1]), a(False)), TypeError, "qhat must hold real floating-point numbers"),
        (lambda a: prediction_set(a([0.1]), np.nan), ValueError, "qhat must not be NaN"),
        (lambda a: rank_reliability(a([0.1]), 0, a([0.1, 0.2])), ValueError, "qhat must broadcast to shape"),
        (lambda a: LAC().sets(a([[0.5, 0.5]]), np.nan), ValueError, "qhat must not be NaN"),
        (lambda a: AbsoluteResidual().interval(a([0.1]), np.nan), ValueError, "qhat must not be NaN"),
        (lambda a: AbsoluteResidual().interval(a([0.1]), a([True, False])), TypeError, "qhat must hold real"),
        (
            lambda a: coverage(a([[True]]), a([0]), confidence="a"),
            ValueError,
            "confidence must be a number such as '0.1'",
        ),
        (
            lambda a: group_coverage(a([[True]]), a([0]), groups=a([10**12])),
            ValueError,
            "groups must be numbered 0..G-1 with G at most",
        ),
    ],
)
def test_what_has_no_right_answer_is_refused_by_name(lib, call, kind, message):
    with pytest.raises(kind, match=message):
        call(lambda values: lib(np.asarray(values)))


def test_kinds_of_arrays_that_would_lose_what_they_say():
    with pytest.raises(TypeError, match="scores must be a plain array, got MaskedArray"):
        conformal_quantile(np.ma.masked_array([0.1, 0.2], mask=[True, False]), alpha=0.5)
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="scores must be a dense tensor"):
        conformal_quantile(torch.ones(3).to_sparse(), alpha=0.5)
    with pytest.raises(TypeError, match="scores must hold real floating-point"):
        conformal_quantile(torch.ones(3).to(torch.float8_e4m3fn), alpha=0.5)


def test_a_loaded_calibration_set_is_its_own_and_in_order():
    scores = np.asarray([0.3, 0.1, 0.2])
    predictor, state = SplitClassifier(LAC(), alpha=0.5), SplitClassifier(LAC(), alpha=0.5).state_dict()
    predictor.load_state_dict(state | {"memory": state["memory"] | {"scores": scores}})
    scores[:] = 9.0
    assert float(predictor.qhat) == 0.2
