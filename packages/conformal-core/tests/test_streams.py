"""What online predictors say, and of which line: that of the caller."""

import warnings

import numpy as np
import pytest

from conformal_core import ACI, LAC, AbsoluteResidual, OnlineClassifier, OnlineRegressor

PROBS = np.asarray([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])


CALL = compile("predictor.predict(rows)", "caller.py", "exec")


def places(predictor, rows):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        exec(CALL, {"predictor": predictor, "rows": rows})  # noqa: S102  # a caller in another file than this one
    return [(one.category, one.filename, str(one.message).partition(":")[0]) for one in found]


@pytest.mark.parametrize(
    ("made", "rows"),
    [
        (lambda: OnlineClassifier(LAC(), level=ACI(alpha=0.1), max_pending=1), PROBS),
        (lambda: OnlineRegressor(AbsoluteResidual(), level=ACI(alpha=0.1), max_pending=1), PROBS[0]),
    ],
)
def test_warnings_of_a_prediction_point_to_its_caller(made, rows):
    predictor = made()
    assert places(predictor, rows) == [
        (UserWarning, "caller.py", "0 calibration scores are too few for alpha = 0.1"),
        (UserWarning, "caller.py", "more than max_pending = 1 predicted rows still wait for a label"),
    ]
    assert places(predictor, rows) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 3}, r"^level must be a Level, such as ACI\(alpha=0\.1\), got int$"),
        ({"alpha": 0.1, "memory": 3}, "^memory must have the methods of Memory, got int$"),
        ({}, "^exactly one of alpha, confidence and level must be given, got none: "),
        (
            {"alpha": 0.1, "level": ACI(alpha=0.1)},
            "^exactly one of alpha, confidence and level must be given, got alpha and level: ",
        ),
    ],
)
def test_a_part_of_another_kind_is_named(options, message):
    with pytest.raises(TypeError, match=message):
        OnlineClassifier(LAC(), **options)


def test_a_warning_of_updates_that_meet_nothing_points_to_its_caller():
    predictor = OnlineClassifier(LAC(), level=ACI(alpha=0.5))
    predictor.calibrate(PROBS, [0, 1])
    predictor.predict(np.tile(PROBS[:1], (60, 1)), ids=range(60))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call = compile("predictor.update(rows, labels)", "caller.py", "exec")
        exec(call, {"predictor": predictor, "rows": np.tile(PROBS[1:], (50, 1)), "labels": [0] * 50})  # noqa: S102
    assert [(one.filename, str(one.message)[:32]) for one in found] == [
        ("caller.py", "none of the last 50 updated rows")
    ]
