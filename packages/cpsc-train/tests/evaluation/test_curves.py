from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_train.evaluation.curves import area, curves, held_out, means_by_use


def part(modality, kind, level, share=1.0):
    return {"modality": modality, "kind": kind, "severity": 0.1, "share": share, "level": level}


def results(conditions, accuracies, **more):
    figures = {name: {"accuracy": {"fused": a, "pix": a / 2}} for name, a in accuracies.items()}
    return {"conditions": conditions, "test": figures} | more


MEASURED = results(
    {
        "pix:blur@5": [part("pix", "blur", 5)],
        "pix:blur@1": [part("pix", "blur", 1)],
        "pix:jpeg@3": [part("pix", "jpeg", 3)],
        "both@2": [part("pix", "gaussian", 2), part("fou", "gaussian", 2)],
        "both@4": [part("pix", "gaussian", 4), part("fou", "gaussian", 4)],
        "uneven": [part("pix", "blur", 3), part("fou", "gaussian", 4)],
        "pix-blur-9": [part("pix", "blur", None)],
        "half": [part("pix", "blur", 2, share=0.5)],
        "qmf:GS@0": [],
    },
    {
        "clean": 0.9,
        "pix:blur@1": 0.8,
        "pix:blur@5": 0.4,
        "pix:jpeg@3": 0.7,
        "both@2": 0.6,
        "both@4": 0.2,
        "uneven": 0.5,
        "pix-blur-9": 0.1,
        "half": 0.85,
        "qmf:GS@0": 0.9,
        "without-pix": 0.3,
    },
    seen={"training": ["pix:gaussian"]},
)


@given(st.dictionaries(st.integers(0, 5), st.floats(0, 1), min_size=2))
def test_the_area_is_that_of_numpy_and_lies_between_the_values(levels):
    x = sorted(levels)
    expected = np.trapezoid([levels[level] for level in x], x) / (x[-1] - x[0])
    assert area(levels) == pytest.approx(expected, abs=1e-9)
    assert min(levels.values()) - 1e-9 <= area(levels) <= max(levels.values()) + 1e-9


def test_an_area_needs_two_levels():
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        area({0: 1.0})


def test_curves_are_of_kinds_with_several_levels():
    found = curves(MEASURED)
    assert set(found) == {"pix:blur", "pix:gaussian+fou:gaussian"}
    blur = found["pix:blur"]
    assert blur["levels"] == [0, 1, 5]
    assert blur["accuracy"]["fused"] == [0.9, 0.8, 0.4]
    assert blur["area"]["fused"] == pytest.approx((0.85 + 4 * 0.6) / 5)
    assert blur["area"]["pix"] == pytest.approx(blur["area"]["fused"] / 2)
    assert found["pix:gaussian+fou:gaussian"]["levels"] == [0, 2, 4]


def test_results_without_conditions_have_no_curves():
    assert curves({"test": {"clean": {"accuracy": {"fused": 1.0}}}}) == {}
    assert held_out({}) == {}


def test_a_condition_is_held_out_if_none_of_its_corruptions_was_used():
    unseen = held_out(MEASURED)
    assert [name for name, is_unseen in unseen.items() if not is_unseen] == ["both@2", "both@4"]
    assert "qmf:GS@0" not in unseen
    fitted = MEASURED | {"inference": {"read": {"seen": ["pix:blur"]}, "dasp": {}}}
    assert not held_out(fitted, "read")["uneven"]
    assert held_out(fitted, "dasp") == unseen


def test_means_are_separate_for_corruptions_that_were_used():
    values = {name: figures["accuracy"]["fused"] for name, figures in MEASURED["test"].items()}
    found = means_by_use(values, MEASURED)
    assert found["seen"] == pytest.approx((0.6 + 0.2) / 2)
    assert found["held out"] == pytest.approx(np.mean([0.8, 0.4, 0.7, 0.5, 0.1, 0.85]))
    assert set(means_by_use(values, MEASURED | {"seen": {}})) == {"held out"}


def test_curves_of_a_variant_at_inference():
    figures = {name: {"accuracy": {"fused": 0.5}} for name in MEASURED["test"]}
    found = curves(MEASURED | {"inference": {"dasp": {"test": figures}}}, variant="dasp")
    assert found["pix:blur"]["area"] == {"fused": 0.5}
