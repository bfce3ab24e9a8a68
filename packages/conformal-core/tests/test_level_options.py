"""The options of levels: their defaults, what is learned in their place, and that a state is one of the same."""

from fractions import Fraction

import pytest

from conformal_core import ACI, SAOCP, ConformalPID, DecayingStep, DtACI, History
from conformal_core.level.base import UnitLevel

MEMORY = History()


@pytest.mark.parametrize(
    ("level", "missing"),
    [
        (DecayingStep(alpha=0.1, start=1.0), "rate of DecayingStep"),
        (DecayingStep(alpha=0.1, rate=1.0), "start of DecayingStep"),
        (ConformalPID(alpha=0.1, start=1.0, integral=1.0), "rate of ConformalPID"),
        (ConformalPID(alpha=0.1, start=1.0, rate=1.0), "integral of ConformalPID"),
        (ConformalPID(alpha=0.1, rate=1.0, integral=1.0), "start of ConformalPID"),
        (SAOCP(alpha=0.1), "scale of SAOCP"),
    ],
)
def test_what_is_neither_given_nor_learned_is_named(level, missing):
    with pytest.raises(ValueError, match=f"^{missing} must be given, or learned by calibrate"):
        level.threshold(MEMORY)
    with pytest.raises(ValueError, match=f"^{missing} must be given, or learned by calibrate"):
        level.update(0.5, 0.5, MEMORY)


@pytest.mark.parametrize(
    ("level", "key"),
    [
        (DecayingStep(alpha=0.5, start=7.0), "qhat"),
        (DecayingStep(alpha=0.5, rate=7.0), "step"),
        (ConformalPID(alpha=0.5, start=7.0), "tracked"),
        (ConformalPID(alpha=0.5, rate=7.0), "step"),
        (ConformalPID(alpha=0.5, integral=7.0), "gain"),
        (SAOCP(alpha=0.5, scale=7.0), "length"),
    ],
)
def test_what_was_given_is_not_learned(level, key):
    level.calibrate([1.0, 3.0, 5.0])
    assert level.state_dict()[key] == 7


def test_the_units_of_a_controller_are_shares_of_the_spread():
    level = ConformalPID(alpha=0.5)
    level.calibrate([1.0, 3.0, 5.0])  # the quantile is 3, which is 2 above the smallest
    state = level.state_dict()
    assert (state["tracked"], state["step"], state["gain"]) == (3.0, 0.1, 0.4)


def test_a_level_of_units_says_how_it_takes_them():
    methods = dict.fromkeys(("threshold", "update", "state_dict", "load_state_dict"))
    with pytest.raises(TypeError, match="take_units"):
        type("Half", (UnitLevel,), methods)()


def test_what_levels_are_without_options():
    assert ACI(alpha=0.1).gamma == Fraction(1, 200)
    dynamic = DtACI(alpha=0.1).state_dict()
    assert dynamic["window"] == 500
    assert [float(Fraction(one["gamma"])) for one in dynamic["experts"]] == [0.001 * 2**k for k in range(8)]
    assert DecayingStep(alpha=0.1).state_dict()["epsilon"] == 0.1
    assert ConformalPID(alpha=0.1).state_dict()["saturation"] == 1


@pytest.mark.parametrize(
    ("here", "saved", "name"),
    [
        (ACI(alpha=0.2), ACI(alpha=0.1), "alpha"),
        (ACI(alpha=0.2), ACI(alpha=0.2, gamma=0.1), "gamma"),
        (DtACI(alpha=0.2, window=50), DtACI(alpha=0.2), "window = 50 as here, got 500"),
        (DtACI(alpha=0.2), DtACI(alpha=0.1), "alpha"),
        (DecayingStep(alpha=0.2), DecayingStep(alpha=0.1), "alpha"),
        (DecayingStep(alpha=0.2), DecayingStep(alpha=0.2, start=1.0), "start"),
        (DecayingStep(alpha=0.2), DecayingStep(alpha=0.2, rate=1.0), "rate"),
        (DecayingStep(alpha=0.2), DecayingStep(alpha=0.2, epsilon=0.2), "epsilon"),
        (ConformalPID(alpha=0.2), ConformalPID(alpha=0.1), "alpha"),
        (ConformalPID(alpha=0.2), ConformalPID(alpha=0.2, start=1.0), "start"),
        (ConformalPID(alpha=0.2), ConformalPID(alpha=0.2, rate=1.0), "rate"),
        (ConformalPID(alpha=0.2), ConformalPID(alpha=0.2, integral=1.0), "integral"),
        (ConformalPID(alpha=0.2), ConformalPID(alpha=0.2, saturation=2.0), "saturation"),
        (SAOCP(alpha=0.2), SAOCP(alpha=0.1), "alpha"),
        (SAOCP(alpha=0.2), SAOCP(alpha=0.2, scale=1.0), "scale"),
        (SAOCP(alpha=0.2), SAOCP(alpha=0.2, lifetime=2), "lifetime"),
    ],
)
def test_every_option_is_part_of_the_state(here, saved, name):
    with pytest.raises(ValueError, match=rf"^state of \w+ must have {name}"):
        here.load_state_dict(saved.state_dict())


@pytest.mark.parametrize(
    ("level", "key"),
    [
        (DecayingStep(alpha=0.2, start=1.0, rate=1.0), "qhat"),
        (DecayingStep(alpha=0.2, start=1.0, rate=1.0), "step"),
        (ConformalPID(alpha=0.2, start=0.5, rate=0.05, integral=0.2), "tracked"),
        (ConformalPID(alpha=0.2, start=0.5, rate=0.05, integral=0.2), "step"),
        (ConformalPID(alpha=0.2, start=0.5, rate=0.05, integral=0.2), "gain"),
        (SAOCP(alpha=0.2, scale=1.0), "length"),
    ],
)
def test_what_was_given_is_no_gap_in_a_state(level, key):
    with pytest.raises(ValueError, match=key):
        level.load_state_dict({**level.state_dict(), key: None})


def test_a_level_that_no_steps_reach_is_refused():
    level = ACI(alpha=0.2, gamma=0.05)
    message = r"^state of ACI must hold a level that steps of 1/20 reach, got 1/3$"
    with pytest.raises(ValueError, match=message):
        level.load_state_dict({**level.state_dict(), "current": "1/3"})
    assert level.current == Fraction(1, 5)
