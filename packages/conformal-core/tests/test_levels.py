"""Each level held to the bound that its docstring names."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformal_core import (
    ACI,
    LAC,
    SAOCP,
    ConformalPID,
    Constant,
    DecayingStep,
    DtACI,
    History,
    OnlineClassifier,
    Window,
)

MEMORY = History()
LEVELS = {
    "constant": lambda: Constant(alpha=0.2),
    "aci": lambda: ACI(alpha=0.2, gamma=0.05),
    "dtaci": lambda: DtACI(alpha=0.2, window=50),
    "decaying": lambda: DecayingStep(alpha=0.2, start=1.0, rate=1.0),
    "pid": lambda: ConformalPID(alpha=0.2, rate=0.05, integral=0.2, start=0.5),
    "saocp": lambda: SAOCP(alpha=0.2, scale=1.0),
}


def run(level, scores, memory=None):
    """Return whether each step missed, and the thresholds."""
    memory = History() if memory is None else memory
    missed, thresholds = [], []
    for score in scores:
        q = level.threshold(memory)
        missed.append(score > q)
        thresholds.append(q)
        level.update(score, q, memory)
        memory.add(score)
    return np.asarray(missed), thresholds


def aci_bound(alpha, gamma, steps):
    return (max(alpha, 1 - alpha) + gamma) / (gamma * steps)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=150),
    st.sampled_from([0.1, 0.25, 0.5, 0.9]),
    st.sampled_from([0.005, 0.05, 0.5, 3]),
)
@settings(max_examples=200)
def test_aci_keeps_its_bound_on_any_sequence(scores, alpha, gamma):
    missed, _ = run(ACI(alpha=alpha, gamma=gamma), scores)
    assert abs(missed.mean() - alpha) <= aci_bound(alpha, gamma, len(scores)) + 1e-12


def test_aci_keeps_its_bound_on_a_sequence_that_always_grows():
    """Every score is the largest so far: only a level below 0 covers, so a clipped one would miss half or all."""
    missed, _ = run(ACI(alpha=0.1, gamma=0.005), range(20_000))
    assert abs(missed.mean() - 0.1) <= aci_bound(0.1, 0.005, 20_000)
    assert missed.mean() == pytest.approx(0.101, abs=0.001)


def test_aci_is_never_clipped_and_full_or_empty_outside():
    level = ACI(alpha=0.5, gamma=0.6)
    memory = History()
    memory.extend(np.arange(10.0))
    level.update(1.0, 0.0, History())
    level.update(1.0, 0.0, History())
    assert level.current == Fraction(1, 2) - 2 * Fraction(3, 10)
    assert level.threshold(memory) == math.inf
    for _ in range(4):
        level.update(0.0, 1.0, History())
    assert level.current == Fraction(11, 10)
    assert level.threshold(memory) == -math.inf


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]), max_size=40), st.sampled_from(["0.1", "1/3"]))
def test_aci_learns_from_losses_exactly(losses, alpha):
    level, memory, gamma = ACI(alpha=alpha, gamma="0.03"), History(), Fraction(3, 100)
    expected = Fraction(alpha)
    for place, loss in enumerate(losses):
        if place % 3 == 0:
            loaded = ACI(alpha=alpha, gamma="0.03")
            loaded.load_state_dict(level.state_dict())
            level = loaded
        level.update_loss(loss)
        expected += gamma * (Fraction(alpha) - Fraction(round(loss * 2**53), 2**53))
        level.update(1.0, 0.5, memory)
        expected += gamma * (Fraction(alpha) - 1)
        assert level.current == expected


def test_a_loss_of_0_or_1_is_a_hit_or_a_miss():
    level, other, memory = ACI(alpha=0.1), ACI(alpha=0.1), History()
    for loss in (0, 1.0, True * 1, 0.0):
        level.update_loss(loss)
        other.update(float(loss), 0.5, memory)
    assert level.state_dict() == other.state_dict()
    for bad, kind in ((1.5, ValueError), (math.nan, ValueError), ("x", TypeError)):
        with pytest.raises(kind, match="loss must"):
            level.update_loss(bad)
    assert level.state_dict() == other.state_dict()


def test_aci_is_exact_after_a_million_steps():
    level, memory = ACI(alpha=0.1, gamma=0.005), History()
    for step in range(1_000_000):
        level.update(float(step % 10 == 0), 0.5, memory)
    assert level.current == Fraction(1, 10)


@given(st.lists(st.floats(-10, 10) | st.sampled_from([0.0, 0.5]), max_size=80), st.sampled_from([0.005, 0.05, 0.5]))
def test_dtaci_with_one_step_is_aci(scores, gamma):
    one = run(DtACI(alpha=0.1, gammas=[gamma]), scores)
    other = run(ACI(alpha=0.1, gamma=gamma), scores)
    assert one[1] == other[1]


def test_dtaci_follows_its_definition():
    """Weights, losses and levels once more, step by step, in plain Python."""
    rng = np.random.default_rng(0)
    alpha, gammas, window = 0.2, [0.01, 0.1], 40
    level, memory = DtACI(alpha=alpha, gammas=gammas, window=window), History()
    levels, weights = [alpha] * 2, [0.5, 0.5]
    eta = math.sqrt(3 / window * (math.log(2 * window) + 2) / (0.8**2 * alpha**3 + alpha**2 * 0.8**3))
    for score in rng.normal(size=200):
        assert float(level.current) == pytest.approx(sum(w * a for w, a in zip(weights, levels, strict=True)), abs=1e-9)
        p = float(memory.p_values(np.asarray([score]))[0])
        loss = [alpha * (p - a) - min(0, p - a) for a in levels]
        weights = [w * math.exp(-eta * x) for w, x in zip(weights, loss, strict=True)]
        weights = [(1 - 1 / (2 * window)) * w / sum(weights) + 1 / (2 * window) / 2 for w in weights]
        levels = [a + g * (alpha - (p <= a)) for a, g in zip(levels, gammas, strict=True)]
        level.update(float(score), level.threshold(memory), memory)
        memory.add(float(score))


bounded = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=200)


@given(bounded, st.sampled_from([0.1, 0.5]), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.05, 1.0]))
def test_a_decaying_step_keeps_its_bound_on_any_sequence(scores, alpha, epsilon, scale):
    missed, _ = run(DecayingStep(alpha=alpha, start=1.0, rate=scale, epsilon=epsilon), scores)
    steps = [scale * t ** (-0.5 - epsilon) for t in range(1, len(scores) + 1)]
    inverse = [1 / step for step in steps]
    variation = inverse[0] + sum(abs(b - a) for a, b in pairwise(inverse))
    assert abs(missed.mean() - alpha) <= (1 + max(steps)) / len(scores) * variation + 1e-9


def test_a_decaying_step_converges_on_independent_scores():
    _, thresholds = run(DecayingStep(alpha=0.1, start=1.0, rate=1.0), np.random.default_rng(0).random(50_000))
    assert thresholds[-1] == pytest.approx(0.9, abs=0.02)


@given(bounded, st.sampled_from([0.1, 0.5]), st.sampled_from([0.02, 0.5]))
def test_quantile_tracking_keeps_its_bound_on_any_sequence(scores, alpha, rate):
    missed, _ = run(ConformalPID(alpha=alpha, start=1.0, rate=rate, integral=0.0), scores)
    assert abs(missed.mean() - alpha) <= (1 + rate) / (rate * len(scores)) + 1e-9


def test_the_integrator_covers_what_the_tracker_alone_cannot_follow():
    scores = np.arange(5000) * 0.05  # the score runs away faster than the tracker may step
    alone, _ = run(ConformalPID(alpha=0.1, start=1.0, rate=0.01, integral=0.0), scores)
    both, _ = run(ConformalPID(alpha=0.1, start=1.0, rate=0.01, integral=1.0, saturation=0.05), scores)
    assert alone.mean() > 0.9
    assert abs(both.mean() - 0.1) < math.pi / 2 * 0.05 / math.log(5000) + 0.001


def test_a_forecast_takes_the_season_out():
    season = np.tile([0.0, 10.0], 1000)
    scores = season + np.random.default_rng(0).random(2000)
    plain, wide = run(ConformalPID(alpha=0.1, start=1.0, rate=0.05, integral=0.0), scores)
    other = iter(np.tile([0.0, 10.0], 1001))
    guessed, narrow = run(
        ConformalPID(alpha=0.1, start=1.0, rate=0.05, integral=0.0, forecast=lambda _: next(other)), scores
    )
    assert abs(guessed.mean() - 0.1) < 0.02
    assert np.mean(np.asarray(narrow[1000:]) - season[1000:]) < 1.1 < np.mean(wide[1000:]) < 11
    assert abs(plain.mean() - 0.1) < 0.1


def test_saocp_recovers_soon_after_a_change():
    rng = np.random.default_rng(0)
    scores = np.concatenate([0.2 * rng.random(1000), 0.8 + 0.2 * rng.random(1000), 0.2 * rng.random(1000)])
    missed, thresholds = run(SAOCP(alpha=0.1, scale=1.0), scores)
    slow, still = run(DecayingStep(alpha=0.1, start=1.0, rate=1.0), scores)
    assert abs(missed.mean() - 0.1) < 0.04  # learners of eight steps cost some coverage
    assert missed[1000:1100].mean() < 0.5 * slow[1000:1100].mean()
    assert np.mean(thresholds[2500:]) < 0.2
    assert np.mean(still[2500:]) > 0.25


@pytest.mark.parametrize(("scale", "lifetime"), [(1.0, 8), (0.05, 2)])
def test_saocp_follows_its_definition(scale, lifetime):
    """Algorithm 1 of its source with what the docstring adds, step by step from the state, in plain Python."""
    alpha, level, clipped, floored = 0.2, SAOCP(alpha=0.2, scale=scale, lifetime=lifetime), 0, 0

    def pinball(residual):
        return max((1 - alpha) * residual, -alpha * residual)

    def weight(learner, step):
        born, _, _, gains, bets = learner
        return gains / (step - born) * (1 + bets) if step > born else 0.0

    def combined(learners, step):
        priors = [1 / (born**2 * (1 + math.floor(math.log2(born)))) for born, *_ in learners]
        shares = [p * max(weight(one, step), 0) for p, one in zip(priors, learners, strict=True)]
        shares = shares if sum(shares) > 0 else priors
        return sum(w * one[1] for w, one in zip(shares, learners, strict=True)) / sum(shares)

    for step, score in enumerate(np.random.default_rng(1).random(150).tolist(), start=1):
        learners, issued = level.state_dict()["learners"].tolist(), level.threshold(MEMORY)
        threshold = combined(learners, step)
        assert float(issued) == pytest.approx(threshold, rel=1e-9)
        expected = []
        for born, own, squares, gains, bets in learners:
            relief = (pinball(score - float(issued)) - pinball(score - own)) / scale
            now = weight((born, own, squares, gains, bets), step)
            gain = min(max(relief, -1), 1)
            clipped += gain != relief
            floored += now <= 0 and gain < -0.01
            gain = gain if now > 0 else max(gain, 0)
            gradient = alpha - 1 if score > own else alpha
            moved = own - scale / math.sqrt(3) * gradient / math.sqrt(squares + gradient**2)
            if step + 1 - born < lifetime * (int(born) & -int(born)):
                expected.append((born, moved, squares + gradient**2, gains + gain, bets + now * gain))
        level.update(score, issued, MEMORY)
        found = level.state_dict()["learners"]
        np.testing.assert_allclose(found[:-1], np.reshape(expected, (-1, 5)), rtol=1e-9, atol=1e-12)
        start = combined(found[:-1].tolist(), step + 1) if expected else scale
        np.testing.assert_allclose(found[-1], [step + 1, start, 0, 0, 0], rtol=1e-9)
    assert floored
    assert clipped or scale == 1


def test_saocp_learns_its_scale_from_calibration_scores():
    level = SAOCP(alpha=0.1)
    assert level.state_dict()["lifetime"] == 8
    with pytest.raises(ValueError, match=r"^scale of SAOCP must be given"):
        level.threshold(MEMORY)
    for scale, expected in ((None, 3.0), (2.0, 2.0)):
        level = SAOCP(alpha=0.1, scale=scale)
        level.take_units([0.5, 3.0])
        other = SAOCP(alpha=0.1, scale=expected)
        assert run(level, [0.5, 1.0, 4.0])[1] == run(other, [0.5, 1.0, 4.0])[1]
    with pytest.raises(TypeError, match=r"threshold must be one that SAOCP.threshold returned, got 0\.5"):
        level.update(0.5, 0.5, MEMORY)


def test_saocp_learners_live_as_long_as_their_birthday_says():
    level = SAOCP(alpha=0.1, scale=1.0, lifetime=2)
    for t in range(1, 200):
        born = level.state_dict()["learners"][:, 0].astype(int).tolist()
        assert born == [b for b in range(1, t + 1) if t < b + 2 * (b & -b)]
        level.update(0.5, level.threshold(MEMORY), MEMORY)


@pytest.mark.parametrize("name", LEVELS)
def test_coverage_on_independent_scores_is_the_target(name):
    """4,000 uniform scores: within four standard errors, and the start."""
    missed, _ = run(LEVELS[name](), np.random.default_rng(1).random(4000))
    assert abs(missed.mean() - 0.2) < 4 * math.sqrt(0.16 / 4000) + 0.01


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("memory", [History, lambda: Window(30)])
def test_a_state_saved_in_mid_stream_goes_on_bit_for_bit(name, memory):
    rng = np.random.default_rng(2)
    probs, labels = rng.dirichlet(np.ones(4), size=200), rng.integers(0, 4, 200).tolist()
    whole, first, second = (OnlineClassifier(LAC(), level=LEVELS[name](), memory=memory()) for _ in range(3))
    thresholds = []
    for i in range(200):
        whole.update(probs[i], labels[i])
        thresholds.append(whole.qhat)
    first.update(probs[:90], np.asarray(labels[:90]))
    second.load_state_dict(first.state_dict())
    for i in range(90, 200):
        second.update(probs[i], labels[i])
        assert second.qhat == thresholds[i]


@pytest.mark.parametrize("name", LEVELS)
def test_a_state_of_other_settings_is_refused_and_nothing_changes(name):
    level = LEVELS[name]()
    run(level, [0.1, 0.9, 0.5])
    before = level.threshold(MEMORY)
    for bad in ({**level.state_dict(), "version": 2}, {**level.state_dict(), "kind": "x"}, {}):
        with pytest.raises(ValueError, match="state"):
            level.load_state_dict(bad)
    other = {"constant": Constant(alpha=0.3), "dtaci": DtACI(alpha=0.2, gammas=[0.1], window=50)}.get(name)
    if other is not None:
        with pytest.raises(ValueError, match=r"alpha = '1/5' as here, got '3/10'|must hold 8 experts, got 1"):
            level.load_state_dict(other.state_dict())
    assert level.threshold(MEMORY) == before


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: ACI(alpha=0), ValueError, r"alpha must lie in \(0, 1\), got 0"),
        (lambda: ACI(alpha=0.1, gamma=0), ValueError, "gamma must be positive, got 0"),
        (lambda: ACI(alpha="a"), ValueError, "alpha must be a number such as"),
        (lambda: DtACI(alpha=0.1, gammas=[]), ValueError, "gammas must hold at least one step"),
        (lambda: DtACI(alpha=0.1, window=0), ValueError, "window must be at least 1"),
        (lambda: DecayingStep(alpha=0.1, epsilon=0.6), ValueError, r"epsilon must lie in \[0, 0\.5\]"),
        (lambda: DecayingStep(alpha=0.1, epsilon="x"), TypeError, "epsilon must be a number"),
        (lambda: DecayingStep(alpha=0.1, start=math.inf), ValueError, "start must be finite"),
        (lambda: DecayingStep(alpha=0.1, rate=-1), ValueError, "rate must be positive"),
        (lambda: ConformalPID(alpha=0.1, rate=0), ValueError, "rate must be positive"),
        (lambda: ConformalPID(alpha=0.1, integral=-1), ValueError, "integral must be at least 0"),
        (lambda: ConformalPID(alpha=0.1, forecast=3), TypeError, "forecast must be callable"),
        (lambda: ConformalPID(alpha=0.1, start="x"), TypeError, "start must be a number"),
        (lambda: SAOCP(alpha=0.1, lifetime=0), ValueError, "lifetime must be at least 1"),
        (lambda: SAOCP(alpha=0.1, scale=math.nan), ValueError, "scale must be finite"),
    ],
)
def test_bad_options_are_refused(build, kind, message):
    with pytest.raises(kind, match=message):
        build()
