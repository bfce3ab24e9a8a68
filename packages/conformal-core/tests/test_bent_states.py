"""Saved states in which one entry was replaced: refused by name, or loaded and then usable.

A state may come from a file that somebody else wrote. After a refusal the object must be unchanged; after a load its
predictions must not fail.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import conformal_core as cc

PROBS = np.random.default_rng(0).dirichlet(np.ones(3), 40)
LABELS = np.random.default_rng(1).integers(0, 3, 40)
LEVELS = {
    "ACI": lambda: cc.ACI(alpha=0.1),
    "Constant": lambda: cc.Constant(alpha=0.1),
    "DtACI": lambda: cc.DtACI(alpha=0.1),
    "DecayingStep": lambda: cc.DecayingStep(alpha=0.1, start=1.0, rate=1.0),
    "ConformalPID": lambda: cc.ConformalPID(alpha=0.1, start=1.0, rate=0.05, integral=0.2),
    "SAOCP": lambda: cc.SAOCP(alpha=0.1, scale=1.0),
}
MEMORIES = {
    "History": cc.History,
    "Window": lambda: cc.Window(10),
    "Reservoir": lambda: cc.Reservoir(10),
    "Exponential": lambda: cc.Exponential(0.9),
    "Fixed": cc.Fixed,
    "Sketch": lambda: cc.Sketch(4),
}
PREDICTORS = {
    **{name: lambda make=make: cc.OnlineClassifier(cc.LAC(), level=make()) for name, make in LEVELS.items()},
    **{
        name: lambda make=make: cc.OnlineClassifier(cc.LAC(), alpha=0.1, memory=make())
        for name, make in MEMORIES.items()
    },
    "SplitClassifier": lambda: cc.SplitClassifier(cc.LAC(), alpha=0.1),
    "ClassConditionalClassifier": lambda: cc.ClassConditionalClassifier(cc.LAC(), alpha=0.1),
    "ClusteredClassifier": lambda: cc.ClusteredClassifier(cc.LAC(), alpha=0.3),
    "Streams": lambda: cc.Streams(cc.OnlineClassifier(cc.LAC(), memory=cc.Window(9), level=cc.ACI(alpha=0.1)), 40),
    "Horizons": lambda: cc.Horizons(cc.OnlineClassifier(cc.LAC(), level=cc.ACI(alpha=0.1)), 40, shared=True),
}
JUNK: list[Any] = [None, "x", "1/0", float("nan"), 10**400, [], np.asarray([np.nan]), np.asarray(["a"])]
JUNK += [np.zeros((1, 1, 1))]
MORE_JUNK: list[Any] = [True, -1, 0, 3, 0.5, float("inf"), -0.0, "", "0.1", b"x", {}, (), object(), [{}], [1, 2, 3]]
MORE_JUNK += [
    np.asarray([np.inf, 0.1]),
    np.asarray([[0.1, 0.2]]),
    np.asarray([0.9, 0.1, 0.5]),
    np.asarray(0.3),
    np.zeros(0),
    np.zeros((0, 5)),
    np.asarray([0.1, 0.2, 0.3], dtype=np.complex64),
    np.full((2, 5), np.nan),
    np.asarray([None]),
    np.zeros(3, dtype=np.int8),
    np.arange(10.0)[::-1],
    np.full(8, -1.0),
]


def places(state, path=()):
    """Yield the path of every entry of a state."""
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def bent(state, path, value):
    """Return a copy of a state with another value at a path."""
    if not path:
        return value
    new = dict(state) if isinstance(state, dict) else list(state)
    new[path[0]] = bent(state[path[0]], path[1:], value)
    return new


def calibrated(name):
    predictor = PREDICTORS[name]()
    online = isinstance(predictor, (cc.OnlineClassifier, cc.Streams)) and name != "Fixed"
    rows, labels = (PROBS[None], LABELS[None]) if name == "Horizons" else (PROBS, LABELS)
    (predictor.update if online else predictor.calibrate)(rows, labels)
    predictor.predict(PROBS if name in {"Streams", "Horizons"} else PROBS[:2])
    return predictor


def load(predictor, state, before):
    """Load a state; fail unless it is refused without a change, or usable."""
    try:
        predictor.load_state_dict(state)
    except (TypeError, ValueError) as error:
        assert "state" in str(error)  # noqa: PT017  # some bent states may be loaded
        np.testing.assert_equal(predictor.state_dict(), before)
        return
    try:
        assert predictor.predict(PROBS).shape == PROBS.shape
    except ValueError as error:  # such as thresholds of other classes, as of another model
        assert "calibrat" in str(error)  # noqa: PT017
        return
    if isinstance(predictor, cc.OnlineClassifier):
        try:
            predictor.update(PROBS[:3], LABELS[:3])
        except TypeError as error:  # thresholds that were issued by a DtACI with another number of experts
            assert "threshold must be one that DtACI.threshold returned" in str(error)  # noqa: PT017
        assert not np.isnan(predictor.qhat)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("junk", [JUNK, pytest.param(MORE_JUNK, marks=pytest.mark.slow)], ids=["some", "more"])
@pytest.mark.parametrize("name", PREDICTORS)
def test_a_bent_state_is_refused_or_usable(name, junk):
    predictor = calibrated(name)
    state = predictor.state_dict()
    with np.errstate(all="ignore"):
        for path in places(state):
            for value in junk:
                load(copy.deepcopy(predictor), bent(state, path, value), state)
