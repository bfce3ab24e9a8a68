"""Inputs on which other libraries of this field were seen to fail. Each has its right answer here."""

import math
import warnings

import numpy as np
import pytest

from conformal_core import APS, LAC, SplitClassifier, conformal_quantile, p_values, prediction_set, quantile_rank


def test_the_rank_where_floats_are_one_too_high():
    assert [quantile_rank(n, alpha=alpha) for n, alpha in ((9, 0.7), (19, 0.85), (24, 0.44), (149, 0.18))] == [
        3,
        3,
        14,
        123,
    ]


def test_just_enough_scores():
    assert quantile_rank(9, alpha=0.1) == 9
    assert float(conformal_quantile(np.arange(9.0), alpha=0.1)) == 8.0


def test_one_score_too_few():
    predictor = SplitClassifier(LAC(), alpha=0.05)
    predictor.calibrate(np.full((9, 2), 0.5), np.zeros(9, dtype=int))
    with pytest.warns(UserWarning, match=r"9 calibration scores.*1/10 = 0\.1"):
        sets = predictor.predict(np.asarray([[0.9, 0.1]]))
    assert sets.all()
    predictor.predict(np.asarray([[0.9, 0.1]]))  # a second warning would be an error here


def test_a_p_value_exactly_at_the_level_is_outside():
    for n, level in ((19, 0.05), (99, 0.01)):
        calibration = np.arange(1.0, n + 1)
        p = p_values(calibration, np.asarray([n + 0.5]))
        assert p[0] == level
        assert not prediction_set(np.asarray([n + 0.5]), conformal_quantile(calibration, alpha=level)).any()


def test_aps_of_one_row_does_not_depend_on_its_batch():
    row = np.asarray([0.5, 0.3, 0.2])
    for size in (1, 2, 3):
        assert APS().sets(np.tile(row, (size, 1)), 0.9)[0].tolist() == [True, True, False]


def test_certain_probabilities_do_not_bring_all_classes_in():
    assert APS().sets(np.asarray([1.0, 0.0, 0.0]), 0.99).tolist() == [False, False, False]
    assert APS().sets(np.asarray([1.0, 0.0, 0.0]), 1.0).tolist() == [True, False, False]


def test_more_scores_than_a_float32_can_count():
    scores = np.zeros(2**24 + 3, dtype=np.float32)
    scores[-1] = 1.0
    assert float(conformal_quantile(scores, alpha=1e-7)) == 1.0
    assert float(conformal_quantile(scores, alpha=2e-7)) == 0.0


def test_online_p_values_without_smoothing():
    assert p_values(np.full(5, 0.9), np.asarray([0.01])).tolist() == [1.0]


def test_smoothed_p_value_of_a_known_case():
    assert p_values(np.asarray([0.3, 0.4, 0.5, 0.6, 0.7]), np.asarray([0.55]), u=0.25).tolist() == [0.375]


def test_a_nan_among_good_scores_or_in_a_test_row():
    with pytest.raises(ValueError, match="got nan at index 4"):
        conformal_quantile(np.asarray([0.1, 0.2, 0.3, 0.4, math.nan]), alpha=0.5)
    with pytest.raises(ValueError, match="probs must be finite"):
        LAC().sets(np.asarray([[0.5, math.nan]]), math.inf)


def test_labels_outside_the_classes():
    for label in (-1, 3):
        with pytest.raises(ValueError, match=rf"labels must lie in 0\.\.2, got {label} at row 1"):
            LAC()(np.full((2, 3), 1 / 3), np.asarray([0, label]))


def test_three_classes_of_which_calibration_saw_two():
    predictor = SplitClassifier(APS(), alpha=0.25)
    predictor.calibrate(np.full((3, 3), 1 / 3), np.asarray([0, 1, 1]))
    assert predictor.predict(np.full((1, 3), 1 / 3)).tolist() == [[True, True, True]]


def test_a_list_of_levels_gives_nested_sets():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strict, loose = conformal_quantile(np.arange(40.0), alpha=[0.1, 0.05])
    assert strict <= loose


def test_half_and_single_precision_rows_that_sum_to_one_within_rounding():
    for dtype in (np.float16, np.float32):
        row = np.random.default_rng(0).dirichlet(np.ones(50)).astype(dtype)
        LAC()(row[None])


def test_the_boundary_point_agrees_in_single_and_double_precision():
    for dtype in (np.float32, np.float64):
        probs = np.asarray([[0.7, 0.3], [0.1, 0.9], [0.6, 0.4]], dtype=dtype)
        predictor = SplitClassifier(LAC(), alpha=0.25)
        predictor.calibrate(probs, np.asarray([0, 1, 0]))
        assert predictor.predict(probs).tolist() == [[True, False], [False, True], [True, False]]
