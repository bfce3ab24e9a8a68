"""Martingales against their definitions, and the rules that all of them keep."""

import math

import numpy as np
import pytest

from conformal_core import MixtureMartingale, PluginMartingale, PowerMartingale, SimpleJumper

MADE = {
    "jumper": SimpleJumper,
    "two-sided jumper": lambda: SimpleJumper(jump=0.2, one_sided=False),
    "power": lambda: PowerMartingale(epsilon=0.7),
    "plug-in": PluginMartingale,
    "all is staked": lambda: PluginMartingale(stake=1.0),
    "composite": MixtureMartingale,
    "mixture": lambda: MixtureMartingale([PowerMartingale(), PluginMartingale(), SimpleJumper()]),
}


def small_p_values(count=60, seed=0):
    return (np.random.default_rng(seed).uniform(size=count) ** 1.5).tolist()


def growth(martingale, p_values):
    return [martingale.bet(p) for p in p_values]


@pytest.mark.parametrize("name", MADE)
def test_the_growth_is_a_density(name):
    """Over p-values that are uniform the mean is 1, whatever was learned before."""
    martingale = MADE[name]()
    grid = (np.arange(4000) + 0.5) / 4000
    for p in small_p_values(20):
        martingale.bet(p)
    state = martingale.state_dict()
    factors = []
    for p in grid.tolist():
        martingale.load_state_dict(state)
        factors.append(math.exp(martingale.bet(p)))
    assert np.mean(factors) == pytest.approx(1, abs=0.01)
    assert np.std(factors) > 0.05


@pytest.mark.parametrize("name", MADE)
def test_a_state_a_clone_and_a_reset(name):
    martingale, p_values = MADE[name](), small_p_values()
    first = growth(martingale, p_values)
    clone, loaded = martingale.__sklearn_clone__(), MADE[name]()
    loaded.load_state_dict(martingale.state_dict())
    assert growth(loaded, p_values) == growth(martingale, p_values)
    assert growth(clone, p_values) == first
    martingale.reset()
    assert growth(martingale, p_values) == first


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("p_value", [5e-324, 1e-12, 1.0])
def test_extreme_p_values_leave_the_growth_finite(name, p_value):
    martingale = MADE[name]()
    growth(martingale, small_p_values(5))
    assert np.isfinite(growth(martingale, [p_value] * 50)).all()
    assert np.isfinite(growth(martingale, small_p_values(5))).all()


@pytest.mark.parametrize("name", MADE)
def test_p_values_out_of_range_are_refused_and_change_nothing(name):
    martingale, fresh = MADE[name](), MADE[name]()
    for p_value in (0.0, 1.5, math.nan, "x"):
        with pytest.raises((TypeError, ValueError), match="p_value must"):
            martingale.bet(p_value)
    assert growth(martingale, small_p_values(9)) == growth(fresh, small_p_values(9))


def test_the_power_martingale_is_its_formula():
    for epsilon in (0.05, 0.5, 1.0):
        factors = np.exp(growth(PowerMartingale(epsilon=epsilon), [0.01, 0.3, 1]))
        np.testing.assert_allclose(factors, [epsilon * p ** (epsilon - 1) for p in (0.01, 0.3, 1)])


@pytest.mark.parametrize("stake", [0.5, 1.0])
def test_the_plug_in_martingale_bets_the_beta_density_of_earlier_p_values(stake):
    beta = pytest.importorskip("scipy.stats").beta
    p_values, martingale = small_p_values(), PluginMartingale(stake=stake)
    for n, p in enumerate(p_values):
        density = 1.0
        if n >= 2:
            mean, variance = np.mean(p_values[:n]), np.var(p_values[:n], ddof=1)
            both = mean * (1 - mean) / variance - 1
            density = beta.pdf(p, mean * both, (1 - mean) * both)
        assert martingale.bet(p) == pytest.approx(math.log(1 - stake + stake * density), rel=1e-9, abs=1e-12)


def test_p_values_that_fit_no_beta_density_leave_the_last_one():
    martingale = PluginMartingale()
    growth(martingale, [1e-3, 1 - 1e-3])  # a variance above mean · (1 − mean)
    assert martingale.bet(0.3) == 0.0
    equal = PluginMartingale()
    assert growth(equal, [0.5] * 9) == [0.0] * 9  # no variance


def test_a_step_loses_no_more_than_the_stake():
    martingale = PluginMartingale(stake=0.9)
    growth(martingale, [0.5, 0.5001])
    assert martingale.bet(0.9) == pytest.approx(math.log(0.1))


def test_a_mixture_is_the_mean_of_its_parts():
    p_values = small_p_values()
    parts = [lambda: PowerMartingale(epsilon=0.3), SimpleJumper, PluginMartingale]
    each = np.cumsum([growth(make(), p_values) for make in parts], axis=1)
    mixture = np.cumsum(growth(MixtureMartingale([make() for make in parts]), p_values))
    np.testing.assert_allclose(np.exp(mixture), np.exp(each).mean(0), rtol=1e-12)
    jumps = [SimpleJumper(jump=jump) for jump in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    np.testing.assert_array_equal(growth(MixtureMartingale(), p_values), growth(MixtureMartingale(jumps), p_values))


def test_a_part_that_lost_everything_does_not_disturb_the_rest():
    mixture = MixtureMartingale([PluginMartingale(stake=1.0), PowerMartingale(epsilon=1.0)])
    growth(mixture, [0.5, 0.50001, 0.9, 0.1])
    assert mixture.bet(0.2) == pytest.approx(0.0, abs=1e-12)
    assert math.isfinite(sum(growth(mixture, [0.5] * 20)))


def test_a_state_that_does_not_fit_a_mixture_changes_nothing():
    mixture = MixtureMartingale([SimpleJumper(), PluginMartingale()])
    growth(mixture, small_p_values(9))
    state = mixture.state_dict()
    jumper, plugin = state["parts"]
    other = SimpleJumper()
    other.bet(0.01)
    for bad, text in (
        (state | {"parts": [jumper]}, "must hold 2 parts, got 1"),
        (state | {"parts": [other.state_dict(), plugin | {"mean": 2.0}]}, r"a mean in \[0, 1\], got 2.0"),
        (state | {"parts": [other.state_dict(), jumper]}, "must be of kind 'PluginMartingale', got 'SimpleJumper'"),
        (state | {"logs": np.zeros(2)}, "logs of fractions that sum to 1"),
        (state | {"logs": np.zeros(3)}, "an array of length 2"),
    ):
        with pytest.raises(ValueError, match=text):
            mixture.load_state_dict(bad)
        np.testing.assert_equal(mixture.state_dict(), state)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: SimpleJumper(jump=0), ValueError, r"jump must lie in \(0, 1\], got 0"),
        (lambda: SimpleJumper(one_sided=1), TypeError, "one_sided must be a bool, got int"),
        (lambda: PowerMartingale(epsilon=1.5), ValueError, r"epsilon must lie in \(0, 1\], got 1.5"),
        (lambda: PluginMartingale(stake=0.0), ValueError, r"stake must lie in \(0, 1\], got 0.0"),
        (lambda: MixtureMartingale([]), ValueError, "parts must hold at least one martingale, got none"),
        (lambda: MixtureMartingale(SimpleJumper()), TypeError, "parts must be a list of martingales, got SimpleJumper"),
        (lambda: MixtureMartingale([0.1]), TypeError, r"martingales, such as SimpleJumper\(\), got float"),
    ],
)
def test_bad_settings_are_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
