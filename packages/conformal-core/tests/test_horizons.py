"""Forecasts of several horizons: equal to predictors written by hand, and coverage in simulation."""

import numpy as np
import pytest

from conformal_core import (
    ACI,
    APS,
    CQR,
    LAC,
    SAOCP,
    AbsoluteResidual,
    ConformalPID,
    DtACI,
    Horizons,
    MaxResidual,
    OnlineClassifier,
    OnlineRegressor,
    SplitRegressor,
    Streams,
    Window,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")
H, STEPS = 4, 90
RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=STEPS).cumsum()
SERIES[RNG.random(STEPS) < 0.1] = np.nan
FORECASTS = np.nan_to_num(SERIES)[:, None] + RNG.normal(size=(STEPS, H))
LEVELS = {
    "constant": lambda: {"alpha": 0.2},
    "aci": lambda: {"level": ACI(alpha=0.2, gamma=0.05), "memory": Window(20)},
    "dtaci": lambda: {"level": DtACI(alpha=0.2, window=20)},
    "pid": lambda: {"level": ConformalPID(alpha=0.2, start=1.0, rate=0.1, integral=0.2)},
    "saocp": lambda: {"level": SAOCP(alpha=0.2, scale=1.0)},
}


def one(level="aci"):
    return OnlineRegressor(AbsoluteResidual(), **LEVELS[level]())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("every", [1, 3, H])
@pytest.mark.parametrize("level", LEVELS)
def test_horizons_are_predictors_written_by_hand(level, every, shared):
    together, hand = Horizons(one(level), H, shared=shared), [one(level) for _ in range(1 if shared else H)]
    waiting = {}
    for now in range(STEPS):
        if now % every == 0:
            intervals = together.predict(FORECASTS[now])
            for k in range(H):
                row = FORECASTS[now, k]
                np.testing.assert_array_equal(hand[0 if shared else k].predict(row, ids=f"{now} {k}"), intervals[k])
                waiting.setdefault(now + k, []).append((k, row, f"{now} {k}"))
        together.update(SERIES[now])
        for k, row, key in waiting.pop(now, []):
            if np.isfinite(SERIES[now]):
                hand[0 if shared else k].update(row, SERIES[now], ids=key)
            else:
                hand[0 if shared else k].forget(key)
        assert together.pending == sum(map(len, waiting.values()))
    for k, predictor in enumerate(together.predictors):
        single = hand[0 if shared else k]
        assert (together.qhat[k], predictor.pending) == (float(single.qhat), single.pending)


def test_series_beside_each_other_are_horizons_of_each():
    rows, seen = RNG.normal(size=(STEPS, H, 3)), RNG.normal(size=(STEPS, 3))
    seen[RNG.random((STEPS, 3)) < 0.2] = np.nan
    many, each = Horizons(Streams(one(), 3), H), [Horizons(one(), H) for _ in range(3)]
    past = np.where(RNG.random((20, H, 3)) < 0.2, np.nan, RNG.normal(size=(20, H, 3)))
    many.calibrate(rows[:20], past)
    for i, single in enumerate(each):
        single.calibrate(rows[:20, :, i], past[..., i])
    for now in range(STEPS):
        intervals = many.predict(rows[now])
        many.update(seen[now])
        for i, single in enumerate(each):
            np.testing.assert_array_equal(single.predict(rows[now, :, i]), intervals[:, i])
            single.update(seen[now, i])


@pytest.mark.parametrize("score", [LAC(), APS(randomized=True)])
def test_classes_have_horizons(score):
    settings = OnlineClassifier(score, memory=Window(200), level=ACI(alpha=0.2, gamma=0.05))
    predictor, hits, sets = Horizons(settings, 2), [], {}
    probs, labels = RNG.dirichlet(np.ones(3), (500, 2)), RNG.integers(-1, 3, 500)  # −1: missing
    for now in range(500):
        sets[now] = predictor.predict(probs[now])[0]
        predictor.update(labels[now])
        hits += [sets.pop(now)[labels[now]]] if labels[now] >= 0 else []
    assert abs(np.mean(hits) - 0.8) < (0.8 + 0.05) / 0.05 / len(hits)  # the bound of ACI
    assert predictor.pending == 1


def test_outputs_may_be_joint():
    together, hand = (OnlineRegressor(MaxResidual((1.0, 2.0)), level=ACI(alpha=0.2, gamma=0.1)) for _ in range(2))
    together = Horizons(together, 1)
    rows, seen = RNG.normal(size=(60, 2)), RNG.normal(size=(60, 2))
    seen[RNG.random((60, 2)) < 0.2] = np.nan
    here = ~np.isnan(seen).any(1)
    together.calibrate(rows[:20, None], seen[:20, None])
    hand.calibrate(rows[:20][here[:20]], seen[:20][here[:20]])
    for now in range(20, 60):
        np.testing.assert_array_equal(together.predict(rows[now, None])[0], hand.predict(rows[now], ids=now))
        together.update(seen[now])
        if here[now]:
            hand.update(rows[now], seen[now], ids=now)


def test_calibration_is_by_horizon_or_pooled():
    rows, seen = RNG.normal(size=(30, H)), RNG.normal(size=(30, H))
    seen[5, 1] = np.nan
    own, shared = Horizons(one("saocp"), H), Horizons(one("saocp"), H, shared=True)
    for predictor in (own, shared):
        predictor.predict(rows[0])
        predictor.update(1.0)
        predictor.calibrate(rows, seen)
        assert predictor.time == predictor.pending == 0
    for k, predictor in enumerate(own.predictors):
        single, here = one("saocp"), np.isfinite(seen[:, k])
        single.calibrate(rows[here, k], seen[here, k])
        np.testing.assert_equal(predictor.state_dict(), single.state_dict())
    pooled, here = one("saocp"), np.isfinite(seen)
    pooled.calibrate(rows[here], seen[here])
    np.testing.assert_equal(shared.predictors[0].state_dict(), pooled.state_dict())


def test_a_gap_lies_between_the_last_observation_and_the_first_forecast():
    predictor = Horizons(OnlineRegressor(AbsoluteResidual(), alpha=0.5), 2)
    predictor.predict([0.0, 0.0], gap=2)
    for observation in (9.0, 9.0, 1.0, 2.0):
        predictor.update(observation)
    assert [predictor.memory.state_dict()["scores"].tolist() for predictor in predictor.predictors] == [[1.0], [2.0]]
    predictor.predict([0.0, 0.0])
    predictor.predict([5.0, 5.0])  # replaces it
    predictor.update(4.0)
    assert predictor.predictors[0].memory.state_dict()["scores"].tolist() == [1.0, 1.0]


def walk(rng, days):
    """An AR(1) process with a coefficient near 1, forecast by its conditional expectation."""
    series = np.zeros(24 * days)
    for t, noise in enumerate(rng.normal(size=24 * days - 1)):
        series[t + 1] = 0.95 * series[t] + noise
    return series, lambda now: series[max(now - 1, 0)] * 0.95 ** np.arange(1, 25)


def seasonal(rng, days):
    """Noise that depends on the hour, forecast by the day before."""
    hour = np.arange(24 * days) % 24
    series = 10 * np.sin(hour * np.pi / 12) + (1 + hour / 4) * rng.normal(size=24 * days)
    return series, lambda now: series[now - 24 : now] if now else np.zeros(24)


@pytest.mark.parametrize("at_once", [False, True], ids=["through the day", "the next day"])
@pytest.mark.parametrize("series", [walk, seasonal])
def test_a_day_ahead_covers_at_every_hour(series, at_once):
    days = 600
    values, forecast = series(np.random.default_rng(1), days)
    level = ACI(alpha=0.1, gamma=0.02)
    predictor = Horizons(OnlineRegressor(AbsoluteResidual(), memory=Window(200), level=level), 24)
    covered = np.zeros((days, 24), dtype=bool)
    for day in range(days):
        now = 24 * day
        if not at_once or not day:
            low, high = predictor.predict(forecast(now)).T
        else:  # the forecast is due before the observations of the day before
            low, high = predictor.predict(forecast(now - 24), gap=24).T
        today = values[now : now + 24]
        covered[day] = (low <= today) & (today <= high)
        for observation in values[now - 24 : now] if at_once else today:
            predictor.update(observation)
    waiting = int(at_once)  # sets of the same hour that wait
    bound = (0.9 + (waiting + 1) * 0.02) / 0.02 / (days - waiting)
    assert np.abs(covered[: days - waiting].mean(0) - 0.9).max() <= bound + 1e-9
    assert np.abs(covered.mean(0) - 0.9).max() < 0.02


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Horizons(SplitRegressor(CQR(), alpha=0.1), 2),
            TypeError,
            "predictor must be an OnlineRegressor, ",
        ),
        (lambda: Horizons(one(), 0), ValueError, "horizons must be at least 1, got 0"),
        (lambda: Horizons(one(), 2, shared=1), TypeError, "shared must be True or False, got int"),
        (lambda: Horizons(one(), 2).predict([1.0]), ValueError, r"forecasts must have shape \(2,\), got \(1,\)"),
        (lambda: Horizons(one(), 2).predict(1.0), ValueError, r"forecasts must have shape \(2,\), got \(\)"),
        (lambda: Horizons(one(), 2).predict([1.0, 2.0], gap=-1), ValueError, "gap must be at least 0, got -1"),
        (lambda: Horizons(one(), 2).update("much"), TypeError, "observation must hold real floating-point numbers"),
        (
            lambda: Horizons(one(), 2).calibrate([[1.0, 2.0]], [1.0, 2.0]),
            ValueError,
            r"\(N, 2, ...\), got \(1, 2\) and",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bad_input_changes_nothing():
    predictor = Horizons(one(), H)
    predictor.calibrate(FORECASTS[:9], np.zeros((9, H)))
    predictor.predict(FORECASTS[0])
    before = predictor.state_dict()
    bad = FORECASTS[:9].copy()
    bad[0, -1] = np.inf
    for call, message in (
        (lambda: predictor.update(np.inf), "targets must be finite"),
        (lambda: predictor.update([1.0, 2.0]), "targets must"),
        (lambda: predictor.predict(bad[0]), "predictions must be finite"),
        (lambda: predictor.predict(np.zeros((H, 2))), r"must have shape \(4,\), got \(4, 2\)"),
        (lambda: predictor.calibrate(bad, np.zeros((9, H))), "predictions must be finite"),
        (
            lambda: predictor.load_state_dict(before | {"predictors": before["predictors"][:2]}),
            "must hold 4 predictors",
        ),
        (lambda: predictor.load_state_dict(before | {"time": 7}), "steps from 7 on"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        np.testing.assert_equal(predictor.state_dict(), before)
