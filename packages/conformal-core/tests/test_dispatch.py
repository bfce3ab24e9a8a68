"""Number of Python calls inside this package: array libraries are looked up once a call, not once a check."""

import sys
from pathlib import Path

import numpy as np
import pytest

import conformal_core
from conformal_core import LAC, AbsoluteResidual, OnlineClassifier, SplitClassifier, SplitRegressor

HOME = str(Path(conformal_core.__file__).parent)
LOOKUPS = ("array_api_compat", "common", "_helpers.py")


def calls(function, *arguments) -> int:
    """Count calls of Python functions of conformal_core, comprehensions too, and look-ups by array_api_compat.

    Its functions on arrays do not count: NumPy 2.0 needs more of them than later versions.
    """
    function(*arguments)  # what is cached on first use is cached now
    count = 0

    def on_event(frame, event, _):
        nonlocal count
        if event == "call":
            file = frame.f_code.co_filename
            count += file.startswith(HOME) or Path(file).parts[-3:] == LOOKUPS

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    return count


def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(5), size=200), rng.integers(0, 5, 200)


@pytest.mark.parametrize(("method", "most"), [("calibrate", 21), ("update", 26), ("predict", 20)])
def test_a_split_classifier_makes_few_calls(method, most):
    probs, labels = sample()
    predictor = SplitClassifier(LAC(), alpha=0.1)
    predictor.calibrate(probs, labels)
    arguments = (probs,) if method == "predict" else (probs, labels)
    assert calls(getattr(predictor, method), *arguments) <= most


def test_a_split_regressor_makes_few_calls():
    rng = np.random.default_rng(0)
    predictions, targets = rng.normal(size=(2, 200))
    predictor = SplitRegressor(AbsoluteResidual(), alpha=0.1)
    assert calls(predictor.calibrate, predictions, targets) <= 29
    assert calls(predictor.predict, predictions) <= 24


def test_one_row_of_a_stream_makes_few_calls():
    probs, labels = sample()
    split, online = SplitClassifier(LAC(), alpha=0.1), OnlineClassifier(LAC(), alpha=0.1)
    for predictor in (split, online):
        predictor.calibrate(probs, labels)
    assert calls(split.predict, probs[0]) <= 11
    assert calls(online.predict, probs[0]) <= 17
    assert calls(online.update, probs[0], 1) <= 17
