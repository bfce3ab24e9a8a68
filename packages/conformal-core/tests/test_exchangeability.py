"""``ExchangeabilityTest`` against its definition in numpy; delays, batches and states."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import ExchangeabilityTest, PluginMartingale, PowerMartingale, SimpleJumper
from conformal_core.exchangeability import OnlinePValues

SLOPES = {True: [-2.0, -1.0, -0.5, 0.0], False: [-1.0, -0.5, 0.0, 0.5, 1.0]}


def literal_p_values(scores, known, draws):
    """Ranks of each score among all before it, from the table of all comparisons."""
    before = np.tri(len(scores), k=-1, dtype=bool)
    above = (before & (scores[None, :] > scores[:, None])).sum(1)
    equal = (before & (scores[None, :] == scores[:, None])).sum(1)
    return ((above + draws * (equal + 1)) / np.arange(1, len(scores) + 1))[known:]


def literal_log_values(p_values, jump, one_sided):
    """Algorithm 1 of Vovk et al. (2021): capitals that are not normalized."""
    slopes, total, path = np.asarray(SLOPES[one_sided]), 1.0, []
    capital = np.full(len(slopes), 1 / len(slopes))
    for p in p_values:
        capital = ((1 - jump) * capital + jump / len(slopes) * total) * (1 + slopes * (p - 0.5))
        total = capital.sum()
        path.append(math.log(total))
    return np.asarray(path)


def draws_of(seed, count):
    """Draws of the smoothing: among distinct scores that rise, every p-value is u/n."""
    p_values = OnlinePValues(seed=seed)
    return np.asarray([p_values.add(float(score)) * (score + 1) for score in range(count)])


@pytest.mark.parametrize("one_sided", [True, False])
def test_streams_have_the_p_values_and_the_martingale_of_the_definition(one_sided):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        known, jump = int(rng.integers(0, 60)), float(rng.choice([0.001, 0.01, 0.2]))
        scores = rng.normal(size=known + 150)
        scores[-70:] += rng.normal() * 2
        scores = scores.round(1) if seed % 2 else scores  # with ties
        test = ExchangeabilityTest(martingale=SimpleJumper(jump=jump, one_sided=one_sided), seed=seed, delta=0.05)
        test.calibrate(scores[:known])
        steps = [(test.update(score), test.p_value, test.log_martingale) for score in scores[known:].tolist()]
        alarms, p_values, path = map(np.asarray, zip(*steps, strict=True))
        draws = np.concatenate([np.zeros(known), draws_of(seed, 150)])
        expected = literal_p_values(scores, known, draws)
        np.testing.assert_allclose(p_values, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(path, literal_log_values(expected, jump, one_sided), rtol=0, atol=1e-9)
        np.testing.assert_array_equal(alarms, np.maximum.accumulate(path) >= math.log(20))


def test_p_values_of_exchangeable_scores_are_uniform_and_independent():
    test = OnlinePValues()
    scores = np.random.default_rng(0).integers(0, 5, 20_000).astype(float)
    long = np.asarray([test.add(score) for score in scores])
    counts = np.histogram(long, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # χ² of 19 degrees of freedom: one in 10,000
    assert abs(np.corrcoef(long[1:], long[:-1])[0, 1]) < 4 / math.sqrt(20_000)
    assert long.min() > 0
    assert long.max() <= 1


def delays(shift, scale=1.0, streams=40, before=100, martingale=None, **options):
    """Mean number of steps from a change to the alarm, at most 400."""
    found = []
    for seed in range(streams):
        rng = np.random.default_rng(seed)
        test = ExchangeabilityTest(seed=seed, martingale=None if martingale is None else martingale(), **options)
        test.calibrate(rng.normal(size=200))
        test.update(rng.normal(size=before))
        if not test.alarmed:
            after = (step for step in range(1, 401) if test.update(scale * rng.normal() + shift))
            found.append(next(after, 400))
    return np.mean(found)


def test_larger_shifts_are_found_sooner():
    found = [delays(shift) for shift in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 350
    assert found[2] < 40
    assert found[4] < 20


def test_only_the_two_sided_test_finds_scores_that_are_too_small():
    assert delays(-2.0, streams=10) > 350
    assert delays(-2.0, streams=10, martingale=lambda: SimpleJumper(one_sided=False)) < 50


def test_a_plug_in_martingale_finds_scores_that_spread_or_concentrate():
    for scale in (3.0, 0.3):
        assert delays(0.0, scale, streams=10) > 350
        assert delays(0.0, scale, streams=10, martingale=PluginMartingale) < 200


@pytest.mark.parametrize("alarm", ["cusum", "shiryaev-roberts"])
def test_the_other_alarms_find_a_change_after_a_long_stream(alarm):
    late = {"streams": 10, "before": 800, "martingale": PowerMartingale}
    assert delays(2.0, alarm=alarm, delta=1e-4, **late) < 30
    assert delays(2.0, **late) > 150  # most of the capital was lost before


@pytest.mark.parametrize("alarm", ["ville", "cusum", "shiryaev-roberts"])
def test_statistics_are_those_of_the_definition(alarm):
    rng, test = np.random.default_rng(0), ExchangeabilityTest(alarm=alarm, delta=1e-3)
    assert test.log_statistic == (0.0 if alarm == "ville" else -math.inf)
    path, values, alarms = [0.0], [], []
    for score in np.concatenate([rng.normal(size=80), 2 + rng.normal(size=40)]).tolist():
        alarms.append(test.update(score))
        path.append(test.log_martingale)
        values.append(test.log_statistic)
    ratios = [np.exp(path[n] - np.asarray(path[:n])) for n in range(1, 121)]  # S_n/S_i for i < n
    expected = {"ville": lambda ratio: ratio[0], "cusum": np.max, "shiryaev-roberts": np.sum}[alarm]
    np.testing.assert_allclose(np.exp(values), [expected(ratio) for ratio in ratios], rtol=1e-9)
    np.testing.assert_array_equal(alarms, np.maximum.accumulate(values) >= math.log(1000))
    assert any(alarms)
    test.restart()
    assert test.log_statistic == (0.0 if alarm == "ville" else -math.inf)


def test_a_restart_clears_the_alarm_and_keeps_the_scores():
    rng, test = np.random.default_rng(0), ExchangeabilityTest()
    test.calibrate(rng.normal(size=300))
    assert test.update(rng.normal(size=30) + 5)
    assert test.update(rng.normal(size=2))  # an alarm lasts
    test.restart()
    assert (test.alarmed, test.log_martingale) == (False, 0.0)
    assert not test.update(rng.normal(size=50))
    test.update(4.9)
    assert 0.01 < test.p_value < 0.1  # beside the 30 scores near 5 that are still there
    test.calibrate(rng.normal(size=300))
    test.update(4.9)
    assert test.p_value < 0.01


@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_batches_are_single_scores(lib, cuts):
    scores = np.random.default_rng(0).normal(size=60)
    single, batches = ExchangeabilityTest(), ExchangeabilityTest()
    for score in scores.tolist():
        single.update(score)
    for part in np.split(scores, sorted(cuts)):
        batches.update(lib(part))
    np.testing.assert_equal(batches.state_dict(), single.state_dict())


@pytest.mark.parametrize("alarm", ["ville", "shiryaev-roberts"])
@pytest.mark.parametrize("steps", [0, 3, 1024, 1030])
def test_a_state_continues_bit_for_bit(steps, alarm):
    rng = np.random.default_rng(0)
    test, fresh = (ExchangeabilityTest(seed=5, delta=0.1, alarm=alarm) for _ in range(2))
    test.calibrate(rng.normal(size=20))
    test.update(rng.normal(size=steps))
    fresh.update(9.0)  # forgotten
    fresh.load_state_dict(test.state_dict())
    for score in rng.normal(size=30).tolist():
        assert fresh.update(score) == test.update(score)
        assert (fresh.p_value, fresh.log_statistic) == (test.p_value, test.log_statistic)
        assert fresh.log_martingale == test.log_martingale


def test_a_state_that_does_not_fit_changes_nothing():
    test = ExchangeabilityTest()
    test.update(np.arange(20.0))
    state = test.state_dict()
    martingale = state["martingale"]
    for bad, text in (
        (state | {"peak": -1.0}, "a finite number of at least 0.0 as peak, got -1.0"),
        (state | {"p_value": 2.0}, r"a p_value in \[0, 1\], got 2.0"),
        (state | {"martingale": martingale | {"stakes": np.ones(4)}}, "stakes that sum to 1, got a sum of 4.0"),
        (state | {"martingale": martingale | {"stakes": np.ones(1)}}, "an array of length 4"),
        (state | {"p_values": state["p_values"] | {"draws": -1}}, "an integer of at least 0 as draws"),
        (state | {"seed": 1}, "must have seed = 0 as here, got 1"),
        (state | {"log_statistic": math.nan}, "a finite number as log_statistic"),
        (state | {"martingale": None}, "state must be a dict"),
    ):
        with pytest.raises((ValueError, TypeError), match=text):
            test.load_state_dict(bad)
        np.testing.assert_equal(test.state_dict(), state)


def test_scores_that_are_infinite_count_as_the_largest():
    test, large = ExchangeabilityTest(), ExchangeabilityTest()
    for one, value in ((test, math.inf), (large, 1e308)):
        one.calibrate([1.0, 2.0])
        one.update([value, 3.0])
    assert test.p_value == large.p_value
    assert ExchangeabilityTest().update([math.inf] * 20) is False  # all equal: exchangeable


def test_long_streams_of_certain_novelty_do_not_overflow():
    bets = SimpleJumper()
    assert sum(bets.bet(1e-9) for _ in range(3000)) > 2000  # a factor beyond double precision
    assert math.isfinite(sum(bets.bet(1.0) for _ in range(3000)))
    test = ExchangeabilityTest(alarm="shiryaev-roberts", martingale=PowerMartingale(epsilon=0.1))
    test.calibrate(np.arange(9.0))
    test.update(np.arange(9.0, 3009.0))
    assert 2000 < test.log_statistic < math.inf


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ExchangeabilityTest(delta=0.0), ValueError, r"delta must lie in \(0, 1\), got 0.0"),
        (lambda: ExchangeabilityTest(martingale=0.1), TypeError, r"a Martingale, such as SimpleJumper\(\), got float"),
        (lambda: ExchangeabilityTest(martingale=SimpleJumper), TypeError, "such as SimpleJumper"),
        (lambda: ExchangeabilityTest(alarm="page"), ValueError, "alarm must be one of 'ville', 'cusum', 'shiryaev-"),
        (lambda: ExchangeabilityTest(seed=-1), ValueError, "seed must be at least 0, got -1"),
        (lambda: ExchangeabilityTest().update("x"), TypeError, "scores must hold real floating-point numbers"),
        (lambda: ExchangeabilityTest().update(math.nan), ValueError, "must not be NaN or -inf, got nan at index 0"),
        (lambda: ExchangeabilityTest().calibrate([0.0, -math.inf]), ValueError, "got -inf at index 1"),
    ],
)
def test_bad_use_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
