"""Predictors of groups: names in errors, checks, and where thresholds live."""

import numpy as np
import pytest

from conformal_core import LAC, MondrianClassifier

PROBS, LABELS, GROUPS = np.full((40, 2), 0.5), np.arange(40) % 2, np.arange(40) % 4 // 2


def by_group():
    predictor = MondrianClassifier(LAC(), alpha=0.2, groups=2)
    predictor.calibrate(PROBS, LABELS, GROUPS)
    return predictor


def test_rows_and_labels_are_called_by_their_names():
    predictor = by_group()
    with pytest.raises(TypeError, match=r"^probs must hold real floating-point numbers"):
        predictor.calibrate([[True, False]], [0], [0])
    with pytest.raises(ValueError, match=r"^labels must have shape \(N,\)"):
        predictor.calibrate(np.full((3, 2, 2), 0.5), np.zeros((3, 2), dtype=int), np.zeros((3, 2), dtype=int))
    with pytest.raises(TypeError, match=r"^probs must hold real floating-point numbers"):
        predictor.predict([[True, False]], [0])


@pytest.mark.parametrize("group", [-1, 2])
def test_a_group_outside_the_range_is_named(group):
    predictor = by_group()
    for groups in (np.where(GROUPS == 1, group, GROUPS), np.where(GROUPS == 0, group, GROUPS)):
        with pytest.raises(ValueError, match=rf"^groups must lie in 0\.\.1, got {group}$"):
            predictor.predict(PROBS, groups)


def test_checks_of_values_can_be_left_out():
    predictor = by_group()
    with pytest.raises(ValueError, match="probs must"):
        predictor.calibrate(PROBS * 2, LABELS, GROUPS)
    with pytest.raises(ValueError, match="probs must"):
        predictor.predict(PROBS * 2, GROUPS)
    assert predictor.predict(PROBS * 2, GROUPS, check=False).shape == (40, 2)
    predictor.calibrate(PROBS * 2, LABELS, GROUPS, check=False)


def test_groups_lie_on_the_device_of_the_rows():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    probs, labels, groups = (strict.asarray(a, device=device) for a in (PROBS, LABELS, GROUPS))
    predictor = MondrianClassifier(LAC(), alpha=0.2, groups=2)
    predictor.calibrate(probs, labels, groups)
    assert predictor.qhat.device == device
    for given in (groups, strict.asarray(GROUPS), GROUPS.tolist()):
        assert predictor.predict(probs, given).device == device
