"""Predictors of groups and classes: each has the threshold and the p-values of its own rows, offline and on streams."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from conformal_core import (
    ACI,
    APS,
    CQR,
    LAC,
    AbsoluteResidual,
    AsymmetricRegressor,
    ClassConditionalClassifier,
    ClusteredClassifier,
    Horizons,
    Mondrian,
    OnlineClassifier,
    OnlineRegressor,
    SplitClassifier,
    SplitRegressor,
    Window,
    flatten_state,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")
RNG = np.random.default_rng(0)
PROBS, LABELS = RNG.dirichlet(np.ones(3), 90), RNG.integers(0, 3, 90)
PREDICTIONS, TARGETS = RNG.normal(size=90), RNG.normal(size=90)
NAMES = RNG.choice(["north", "south", "east"], 90).tolist()

KINDS = {
    "split sets": (lambda: SplitClassifier(LAC(), alpha=0.1), PROBS, LABELS),
    "online sets": (lambda: OnlineClassifier(APS(), level=ACI(alpha=0.1), memory=Window(20)), PROBS, LABELS),
    "sets by class": (lambda: ClassConditionalClassifier(LAC(), alpha=0.2), PROBS, LABELS),
    "sets by cluster": (lambda: ClusteredClassifier(LAC(), alpha=0.2, clusters=2), PROBS, LABELS),
    "split intervals": (lambda: SplitRegressor(AbsoluteResidual(), alpha=0.1), PREDICTIONS, TARGETS),
    "online intervals": (lambda: OnlineRegressor(AbsoluteResidual(), level=ACI(alpha=0.1)), PREDICTIONS, TARGETS),
    "asymmetric intervals": (
        lambda: AsymmetricRegressor(
            *(OnlineRegressor(CQR(side=side), alpha=0.1, memory=Window(30)) for side in ("lower", "upper"))
        ),
        np.stack([PREDICTIONS - 1, PREDICTIONS + 1], -1),
        TARGETS,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_group_has_a_predictor_of_its_own_rows(lib, kind):
    make, rows, labels = KINDS[kind]
    predictor, apart = Mondrian(make()), {name: make() for name in sorted(set(NAMES), key=NAMES.index)}
    predictor.calibrate(lib(rows[:60]), lib(labels[:60]), groups=NAMES[:60])
    predictor.update(lib(rows[60:]), lib(labels[60:]), groups=NAMES[60:])
    for name, one in apart.items():
        mine = np.asarray(NAMES) == name
        one.calibrate(lib(rows[:60][mine[:60]]), lib(labels[:60][mine[:60]]))
        one.update(lib(rows[60:][mine[60:]]), lib(labels[60:][mine[60:]]))
        np.testing.assert_equal(flatten_state(predictor.predictors[name].state_dict()), flatten_state(one.state_dict()))
    got = lib.back(predictor.predict(lib(rows), groups=np.asarray(NAMES)))
    wanted = np.stack([lib.back(apart[n].predict(lib(rows[i]))) for i, n in enumerate(NAMES)])
    np.testing.assert_array_equal(got, wanted)
    assert predictor.qhat.shape[0] == 3
    targets = () if rows is PROBS else (lib(labels),)
    p = lib.back(predictor.p_values(lib(rows), *targets, groups=NAMES, u=0.5))
    assert p[7].tolist() == lib.back(apart[NAMES[7]].p_values(lib(rows), *targets, u=0.5))[7].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_rows_and_a_new_group_starts_by_itself(kind):
    make, rows, labels = KINDS[kind]
    one, many = Mondrian(make()), Mondrian(make())
    many.update(rows, labels, groups=NAMES)
    for row, label, name in zip(rows, labels.tolist(), NAMES, strict=True):
        one.update(row, label, groups=name)
    np.testing.assert_equal(one.state_dict(), many.state_dict())
    assert list(one.predictors) == list(dict.fromkeys(NAMES))
    full = many.predict(rows[:2], groups=[7, "north"])[0]
    assert full.all()
    assert np.isinf(full).all() or full.dtype == bool


def test_labels_that_come_late_find_the_threshold_of_their_group():
    predictor = Mondrian(OnlineRegressor(AbsoluteResidual(), level=ACI(alpha=0.5, gamma=0.1)))
    predictor.calibrate(np.zeros(4), [1.0, 2.0, 3.0, 4.0], groups=[0, 0, 1, 1])
    predictor.predict(np.zeros(3), groups=[0, 1, 0], ids=["a", "b", "c"])
    predictor.update(np.zeros(2), [9.0, 0.0], groups=[1, 0], ids=["b", "c"])
    assert {name: one.pending for name, one in predictor.predictors.items()} == {0: 1, 1: 0}
    assert [one.level.current for one in predictor.predictors.values()] == [Fraction(11, 20), Fraction(9, 20)]


def test_a_refused_step_changes_no_group():
    predictor = Mondrian(OnlineClassifier(LAC(), level=ACI(alpha=0.1)))
    predictor.calibrate(PROBS, LABELS, groups=NAMES)
    predictor.predict(PROBS[:2], groups=NAMES[:2], ids=[0, 1])
    before = predictor.state_dict()
    bad = np.concatenate([PROBS[:3], PROBS[:1] * 2])
    for step in (
        lambda: predictor.calibrate(bad, LABELS[:4], groups=[1, 2, 3, 4]),
        lambda: predictor.predict(bad, groups=[1, "north", "south", "east"]),
        lambda: predictor.update(bad, LABELS[:4], groups=[1, "north", "south", "east"]),
        lambda: predictor.update(PROBS[:2], LABELS[:2], groups=NAMES[:2], ids=[0, 2]),
        lambda: predictor.update(PROBS[:2], LABELS[:3], groups=NAMES[:2]),
        lambda: predictor.predict(PROBS[:2], groups=NAMES[:2], ids=[0]),
        lambda: predictor.load_state_dict(before | {"groups": ["north"]}),
    ):
        with pytest.raises(ValueError, match="must"):
            step()
        np.testing.assert_equal(predictor.state_dict(), before)
    with pytest.raises(TypeError, match="groups must be integers or strings, got float"):
        predictor.predict(PROBS[:2], groups=[0.0, 1.0])
    with pytest.raises(TypeError, match=r"predictor must be a predictor such as .*, got Horizons"):
        Mondrian(Horizons(OnlineRegressor(AbsoluteResidual(), alpha=0.1), 2))


def test_no_rows_and_rows_of_one_group():
    predictor = Mondrian(SplitRegressor(AbsoluteResidual(), alpha=0.5))
    predictor.calibrate(PREDICTIONS, TARGETS, groups="north")
    assert predictor.predict(np.zeros(0), groups=[]).shape == (0, 2)
    assert predictor.p_values(np.zeros(0), np.zeros(0), groups=[]).shape == (0,)
    np.testing.assert_array_equal(
        predictor.predict(PREDICTIONS, groups="north"), predictor.predict(PREDICTIONS, groups=["north"] * 90)
    )


def test_groups_lie_on_the_device_of_the_rows():
    strict = pytest.importorskip("array_api_strict")
    probs, labels = (strict.asarray(a, device=strict.Device("device1")) for a in (PROBS, LABELS))
    predictor = Mondrian(SplitClassifier(LAC(), alpha=0.2))
    predictor.calibrate(probs, labels, groups=NAMES)
    assert predictor.predict(probs, groups=NAMES).device == strict.Device("device1")


# Classes


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), max_size=30), st.sampled_from(["0.25", "0.4"]))
def test_p_values_of_classes_are_those_of_their_rows(lib, rows, alpha):
    probs = np.asarray([[e / 8, (1 - e / 8) / 2, (1 - e / 8) / 2] for e, _ in rows]).reshape(-1, 3)
    labels = np.asarray([label for _, label in rows], dtype=np.int64)
    predictor = ClassConditionalClassifier(LAC(), alpha=alpha)
    predictor.calibrate(lib(probs[:10]), lib(labels[:10]))
    predictor.update(lib(probs[10:]), lib(labels[10:]))
    own, test = LAC()(probs, labels), lib(probs)
    p = lib.back(predictor.p_values(test))
    wanted = [
        [float(reference.p_value(own[labels == k].tolist(), s)) for k, s in enumerate(row)] for row in LAC()(probs)
    ]
    assert p.tolist() == wanted
    np.testing.assert_array_equal(p > float(alpha), lib.back(predictor.predict(test)))
    smoothed = lib.back(predictor.p_values(test, u=lib(np.full((len(rows), 3), 0.25))))
    for i, row in enumerate(LAC()(probs)):
        exact = [reference.p_value(own[labels == k].tolist(), s, u=0.25) for k, s in enumerate(row)]
        np.testing.assert_allclose(smoothed[i], [float(x) for x in exact], rtol=1e-15)


def test_updates_of_classes_are_one_calibration(lib):
    parts, whole = ClassConditionalClassifier(LAC(), alpha=0.2), ClassConditionalClassifier(LAC(), alpha=0.2)
    parts.update(lib(PROBS[:30]), lib(LABELS[:30]))
    parts.update(lib(PROBS[30:]), lib(LABELS[30:]))
    whole.calibrate(lib(PROBS), lib(LABELS))
    np.testing.assert_equal(flatten_state(parts.state_dict()), flatten_state(whole.state_dict()))
    before = parts.state_dict()
    with pytest.raises(ValueError, match="probs must have the 3 classes of calibration, got 2"):
        parts.update(lib(np.full((1, 2), 0.5)), lib(np.zeros(1, dtype=np.int64)))
    np.testing.assert_equal(flatten_state(parts.state_dict()), flatten_state(before))
    with pytest.raises(ValueError, match="must hold the places where the scores of classes start"):
        parts.load_state_dict(before | {"starts": np.asarray([0, 95, 90])})


def test_classes_without_rows_have_a_p_value_of_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ClassConditionalClassifier(LAC(), alpha=0.1).p_values(np.asarray([0.5, 0.5])).tolist() == [1.0, 1.0]
    assert math.isinf(ClassConditionalClassifier(LAC(), alpha=0.1).qhat)
