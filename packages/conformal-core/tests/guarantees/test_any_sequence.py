"""Guarantees of levels for any sequence: checked after every step, on sequences made to break them.

| sentence | test |
|---|---|
| `ACI`: mean err within (max(α, 1 − α) + γ)/(γT) of α, any sequence and memory | aci_keeps_its_bound |
| `ACI`: (max(α, 1 − α) + (d + 1)γ)/(γT) where d sets wait | aci_keeps_its_bound_with_late_labels |
| `Horizons`: that bound with d = k − 1 at horizon k | aci_keeps_its_bound_at_every_horizon |
| `ACI`: α_t may leave [0, 1]; clipped, the bound breaks | a_clipped_level_would_break_its_bound |
| `ACI.update_loss`: mean loss at most α + (α + γ)/(γT) if the full set has no loss | aci_bounds_a_mean_loss |
| `OnlineClassifier`: the guarantee is that of memory and level | what_is_issued_keeps_the_bound_of_its_level |
| `DtACI`: loss of any I steps at most (log(K/σ) + 2σI)/η + η/2 Σ w ℓ² above the best expert | dtaci_keeps_up |
| `DtACI`: each expert has the guarantee of ACI | dtaci_keeps_up |
| `DtACI`: mean err near α on uniform scores, far below where scores tie | dtaci_covers_more_where_scores_tie |
| `DecayingStep`: (B/rate + 1) T^(ε − ½), scores and start in an interval B long | a_decaying_step_keeps_its_bound |
| `DecayingStep`: converges on i.i.d. scores for 0 < ε < ½ | a_decaying_step_converges |
| `ConformalPID`: π/2 · C_sat / log T + 2/T, any scores and forecast | the_integrator_keeps_its_bound |
| `ConformalPID`, integral 0: (B + η)/(ηT) | quantile_tracking_keeps_its_bound |
| `SAOCP`: regret of any k steps at most 15 D √(k (log T + 1)) | saocp_has_little_regret_on_every_interval |
| `SAOCP`: coverage .92 .87 .77 on uniform scores, .76 .75 .70 on 0, 1, 0, 1, … | saocp_is_biased |
"""

import math
from collections import deque

import numpy as np
import pytest

from conformal_core import (
    ACI,
    LAC,
    SAOCP,
    AbsoluteResidual,
    ConformalPID,
    DecayingStep,
    DtACI,
    Exponential,
    Fixed,
    History,
    Horizons,
    OnlineClassifier,
    OnlineRegressor,
    Window,
)

ALPHAS = [0.01, 0.1, 0.5]
STEPS = 600


def bounded():
    """Sequences in [0, 1]; None is an adversary that misses whenever a score can."""
    rng = np.random.default_rng(0)
    half = np.where(np.arange(STEPS) < STEPS // 2, 0.1, 1.0)
    return {
        "uniform": rng.random(STEPS),
        "alternating": np.arange(STEPS) % 2 * 1.0,
        "constant": np.full(STEPS, 0.5),
        "ones and zeros": (rng.random(STEPS) < 0.5) * 1.0,
        "jump": half * rng.random(STEPS),
        "drift": np.linspace(0, 1, STEPS),
        "always missed": None,
    }


def unbounded():
    rng = np.random.default_rng(1)
    return {
        **bounded(),
        "heavy tails": np.abs(rng.standard_cauchy(STEPS)),
        "growing": np.arange(STEPS) * 1.0,
        "shrinking": -np.arange(STEPS) * 1.0,
        "exploding": 1.05 ** np.arange(STEPS),
    }


def run(level, scores, memory=None, *, largest=math.inf, delay=0):
    """Return whether each step missed; labels come `delay` steps late, and the level learns against what was issued."""
    memory, waiting, missed = History() if memory is None else memory, deque(), []
    for step in range(STEPS):
        threshold = level.threshold(memory)
        if scores is None:  # finite, and as far above the threshold as it may be
            score = min(largest, 1.0 if math.isinf(threshold) else threshold + 1.0)
        else:
            score = float(scores[step])
        missed.append(score > threshold)
        waiting.append((score, threshold))
        if len(waiting) > delay:
            level.update(*waiting.popleft(), memory)
            memory.add(score)
    return np.asarray(missed)


def farthest(missed, alpha, bounds):
    """How far the mean error goes beyond a bound for each number of steps, at worst."""
    steps = np.arange(1, len(missed) + 1)
    return float((np.abs(missed.cumsum() / steps - alpha) - bounds(steps)).max())


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gamma", [0.005, 0.05, 1.0])
def test_aci_keeps_its_bound(alpha, gamma):
    for name, scores in unbounded().items():
        for memory in (History(), Window(20), Exponential(0.9), Fixed()):
            missed = run(ACI(alpha=alpha, gamma=gamma), scores, memory)
            bound = (max(alpha, 1 - alpha) + gamma) / gamma
            assert farthest(missed, alpha, lambda t: bound / t) <= 1e-9, name  # noqa: B023


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("delay", [1, 9, 40])
def test_aci_keeps_its_bound_with_late_labels(alpha, delay):
    """The mean is over the labels that have come."""
    beyond = []
    for name, scores in unbounded().items():
        missed = run(ACI(alpha=alpha, gamma=0.05), scores, Window(20), delay=delay)[: STEPS - delay]
        bound = (max(alpha, 1 - alpha) + (delay + 1) * 0.05) / 0.05
        assert farthest(missed, alpha, lambda t: bound / t) <= 1e-9, name  # noqa: B023
        beyond.append(farthest(missed, alpha, lambda t: (max(alpha, 1 - alpha) + 0.05) / 0.05 / t))
    assert max(beyond) > 0 or delay < 40  # the bound for labels on time would not do


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gamma", [0.005, 0.05, 1.0])
def test_aci_bounds_a_mean_loss(alpha, gamma):
    """The loss is the distance of the score beyond the threshold, at most 1, or the worst, 1 for all but full sets."""
    for name, scores in unbounded().items():
        for worst in (False, True):
            level, memory, losses = ACI(alpha=alpha, gamma=gamma), Window(20), []
            for draw in range(STEPS):
                threshold = level.threshold(memory)
                score = float(draw) if scores is None else float(scores[draw])
                excess = max(0.0, score - threshold)
                losses.append(float(threshold < math.inf) if worst else min(1.0, excess))
                level.update_loss(losses[-1])
                memory.add(score)
            steps = np.arange(1, STEPS + 1)
            bound = alpha + (alpha + gamma) / (gamma * steps)
            assert (np.cumsum(losses) / steps <= bound + 1e-9).all(), (name, worst)


@pytest.mark.filterwarnings("ignore:.*too few")
def test_aci_keeps_its_bound_at_every_horizon():
    for name, scores in unbounded().items():
        one = OnlineRegressor(AbsoluteResidual(), memory=Window(20), level=ACI(alpha=0.1, gamma=0.05))
        predictor = Horizons(one, 5)
        missed, ends = [[] for _ in range(5)], {}
        for step, score in enumerate([] if scores is None else scores):
            ends[step] = predictor.predict(np.zeros(5))[:, 1]
            predictor.update(score)
            for k in range(min(5, step + 1)):  # what was forecast k steps before
                missed[k].append(abs(score) > ends[step - k][k])
        for k, own in enumerate(missed):
            bound = (0.9 + (k + 1) * 0.05) / 0.05
            assert not own or farthest(np.asarray(own), 0.1, lambda t: bound / t) <= 1e-9, (name, k)  # noqa: B023


def test_a_clipped_level_would_break_its_bound():
    class Clipped(ACI):
        def update(self, score, threshold, memory, /):
            super().update(score, threshold, memory)
            self._now = max(self._now, self._whole // 100)

    scores = np.arange(STEPS) * 1.0
    bound = (0.9 + 0.05) / 0.05
    assert farthest(run(ACI(alpha=0.1, gamma=0.05), scores), 0.1, lambda t: bound / t) <= 1e-9
    assert farthest(run(Clipped(alpha=0.1, gamma=0.05), scores), 0.1, lambda t: bound / t) > 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("batch", [1, 24])
def test_what_is_issued_keeps_the_bound_of_its_level(dtype, batch):
    """Sets that are predicted many at a time, then learned; also where memory and rows differ in precision."""
    rng = np.random.default_rng(2)
    probs = rng.dirichlet(np.ones(3), 480)
    hard = np.argsort(probs, axis=1)[:, 0]  # the least probable label, later and later in the stream more often
    labels = np.where(rng.random(480) < np.linspace(0, 1, 480), hard, probs.argmax(axis=1))
    predictor = OnlineClassifier(LAC(), memory=Window(50), level=ACI(alpha=0.1, gamma=0.05))
    predictor.calibrate(probs[:50], labels[:50])
    missed = []
    for start in range(0, 480, batch):
        rows, truth = probs[start : start + batch].astype(dtype), labels[start : start + batch]
        missed.extend(~predictor.predict(rows)[np.arange(batch), truth])
        predictor.update(rows, truth)
    missed = np.asarray(missed)
    assert farthest(missed, 0.1, lambda t: (0.9 + batch * 0.05) / 0.05 / t) <= 1e-9
    assert float(predictor.level.current) == pytest.approx(0.1 + 0.05 * (0.1 * 480 - missed.sum()))


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_dtaci_keeps_up(alpha):
    window, gammas = 40, [0.005, 0.05, 0.5]
    for name, scores in unbounded().items():
        level, memory = DtACI(alpha=alpha, gammas=gammas, window=window), History()
        eta, sigma = level._eta, level._sigma
        own, mean, mixed, missed = [], [], [], []
        for step in range(STEPS // 2):
            score = float(scores[step]) if scores is not None else step * 1.0
            weights = level.state_dict()["weights"]
            threshold = level.threshold(memory)
            p = float(memory.p_values(np.asarray([score]))[0])
            levels = np.asarray([tag for tag, _ in threshold.parts])
            missed.append([score > q for _, q in threshold.parts])
            losses = alpha * (p - levels) - np.minimum(0, p - levels)
            own.append(losses)
            mixed.append(weights @ losses**2)
            at = float(level.current)
            mean.append(alpha * (p - at) - min(0, p - at))
            level.update(score, threshold, memory)
            memory.add(score)
        sums = [np.concatenate([[0], np.cumsum(x)]) for x in (*np.transpose(own), mean, mixed)]
        *best, ours, squares = (s[window:] - s[:-window] for s in sums)
        bound = (math.log(len(gammas) / sigma) + 2 * sigma * window) / eta + eta / 2 * squares
        assert (ours - np.min(best, axis=0) <= bound + 1e-9).all(), name
        for gamma, errors in zip(gammas, np.transpose(missed), strict=True):
            assert farthest(errors, alpha, lambda t: (max(alpha, 1 - alpha) + gamma) / gamma / t) <= 1e-9  # noqa: B023


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_a_decaying_step_keeps_its_bound(alpha, epsilon, scale):
    for name, scores in bounded().items():
        for start in (0.0, 1.0):
            level = DecayingStep(alpha=alpha, start=start, rate=scale, epsilon=epsilon)
            missed = run(level, scores, largest=1.0)
            assert farthest(missed, alpha, lambda t: (1 / scale + 1) * t ** (epsilon - 0.5)) <= 1e-9, name
    outside = DecayingStep(alpha=alpha, start=100.0, rate=scale, epsilon=epsilon)  # not in the interval of the scores
    assert run(outside, np.zeros(STEPS)).sum() == 0


def test_a_decaying_step_converges():
    scores = np.random.default_rng(3).random(20_000)
    for epsilon in (0.1, 0.4):
        level, memory = DecayingStep(alpha=0.1, start=1.0, rate=1.0, epsilon=epsilon), History()
        for score in scores.tolist():
            level.update(score, level.threshold(memory), memory)
        assert level.threshold(memory) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("saturation", [0.01, 0.2, 1.0])
def test_the_integrator_keeps_its_bound(alpha, saturation):
    """Whatever the tracker and the forecast do: one is as wrong as it can be."""
    bound = math.pi / 2 * saturation
    for name, scores in unbounded().items():
        for forecast in (None, lambda last: -1e6 if last is None else -1e3 * last):
            level = ConformalPID(
                alpha=alpha, start=0.0, rate=0.01, integral=0.1, saturation=saturation, forecast=forecast
            )
            beyond = farthest(run(level, scores), alpha, lambda t: bound / np.log(np.maximum(t, 2)) + 2 / t)
            assert beyond <= 1e-9, name


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_quantile_tracking_keeps_its_bound(alpha, rate):
    for name, scores in bounded().items():
        for start in (0.0, 1.0):
            level = ConformalPID(alpha=alpha, start=start, rate=rate, integral=0.0)
            missed = run(level, scores, largest=1.0)
            assert farthest(missed, alpha, lambda t: (1 + rate) / rate / t) <= 1e-9, name


def coverage(level, scores):
    """Coverage after each step."""
    memory, hits = History(), []
    for score in scores.tolist():
        threshold = level.threshold(memory)
        hits.append(score <= threshold)
        level.update(score, threshold, memory)
        memory.add(score)
    return np.cumsum(hits) / np.arange(1, len(hits) + 1)


@pytest.mark.parametrize("steps", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_dtaci_covers_more_where_scores_tie(steps):
    """The figures of the docstring."""
    uniform = coverage(DtACI(alpha=0.1), np.random.default_rng(0).random(steps))
    assert uniform[-1] == pytest.approx(0.9, abs=0.015)
    alternating = coverage(DtACI(alpha=0.1), np.arange(steps) % 2 * 1.0)
    places = [place for place in (1000, 3000, 10_000) if place <= steps]
    wanted = [0.963, 0.988, 0.996][: len(places)]
    assert alternating[np.asarray(places) - 1] == pytest.approx(wanted, abs=0.001)


@pytest.mark.parametrize("steps", [1000, pytest.param(16_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("alpha", "uniform", "tied"), [(0.05, 0.92, 0.76), (0.1, 0.87, 0.75), (0.2, 0.77, 0.70)])
def test_saocp_is_biased(alpha, uniform, tied, steps):
    """The figures of the docstring; those on 0, 1, 0, 1, … are reached more slowly, from above."""
    seen = coverage(SAOCP(alpha=alpha, scale=1.0), np.random.default_rng(0).random(steps))
    assert seen[-1] == pytest.approx(uniform, abs=0.02)
    assert abs(seen[-1] - (1 - alpha)) > 0.02
    seen = coverage(SAOCP(alpha=alpha, scale=1.0), np.arange(steps) % 2 * 1.0)
    assert tied - 0.01 < seen[-1] < tied + (0.065 if steps == 1000 else 0.01)


def test_saocp_has_little_regret_on_every_interval():
    """Against the best constant threshold of each interval: the order statistic of its scores."""
    alpha, steps = 0.1, 3000
    rng = np.random.default_rng(4)
    level, memory, loss = SAOCP(alpha=alpha, scale=1.0), History(), []
    scores = np.repeat([0.05, 0.9, 0.4, 1.0], steps // 4) * rng.random(steps) ** 0.2
    for score in scores.tolist():
        threshold = level.threshold(memory)
        loss.append(max((1 - alpha) * (score - threshold), alpha * (threshold - score)))
        level.update(score, threshold, memory)
    total = np.concatenate([[0], np.cumsum(loss)])
    for k in (100, 500, 1000, 2500, 3000):
        for first in range(0, steps - k + 1, 100):
            own = scores[first : first + k]
            away = own - np.quantile(own, 1 - alpha, method="inverted_cdf")
            best = np.maximum((1 - alpha) * away, -alpha * away).sum()
            regret = total[first + k] - total[first] - best
            assert regret <= 15 * math.sqrt(k * (math.log(steps) + 1))
            assert regret <= 2 * math.sqrt(k)  # as measured, far below the bound
