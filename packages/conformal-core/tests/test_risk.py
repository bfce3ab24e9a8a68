"""Risk control against split conformal prediction, binomial probabilities and simulations."""

import math
import warnings

import numpy as np
import pytest

from conformal_core import (
    conformal_quantile,
    control_risk,
    false_negative_losses,
    learn_then_test,
    risk_p_values,
)


def tables():
    """Tables of continuous losses and of zeros and ones, ordered from the least conservative column."""
    rng = np.random.default_rng(0)
    for n in (20, 100, 1000):
        yield np.sort(rng.random((n, 30)), axis=1)[:, ::-1] * rng.random()
        yield (rng.random((n, 1)) > np.linspace(0.3, 1, 30)).astype(float)


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (40, "1/8"), (100, 0.3), (19, 0.05), (7, 0.1)])
def test_misses_are_controlled_by_the_conformal_quantile(n, alpha):
    scores = np.random.default_rng(n).random(n)
    thresholds = np.sort(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        qhat = float(conformal_quantile(scores, alpha=alpha))
    index = control_risk((scores[:, None] > thresholds).astype(float), alpha=alpha)
    assert (math.inf if index is None else thresholds[index]) == qhat


# The first of the two bounds is rarely the smaller one, the second often.
@pytest.mark.parametrize(("n", "alpha"), [(30, 0.2), (100, 0.1)])
def test_p_values_are_binomial_probabilities_or_hoeffding(n, alpha):
    misses = np.asarray([0, 1, 3, 5, 6, 7, 20])
    losses = (np.arange(n)[:, None] < misses).astype(float)
    for got, k in zip(risk_p_values(losses, alpha=alpha), misses.tolist(), strict=True):
        bentkus = math.e * sum(math.comb(n, j) * alpha**j * (1 - alpha) ** (n - j) for j in range(k + 1))
        mean = min(k / n, alpha)
        entropy = (mean * math.log(mean / alpha) if k else 0) + (1 - mean) * math.log((1 - mean) / (1 - alpha))
        assert got == pytest.approx(min(bentkus, math.e, math.exp(-n * entropy)), abs=1e-12)


def test_stricter_guarantees_choose_more_conservative_thresholds():
    for losses in tables():
        mean, likely, sure = (control_risk(losses, alpha=0.2, delta=delta) for delta in (None, 0.1, 0.001))
        big = losses.shape[1]
        order = [big if index is None else index for index in (mean, likely, sure)]
        assert order == sorted(order)
        if likely is not None:  # every later threshold passes its test, the one before does not
            p = risk_p_values(losses, alpha=0.2)
            assert (p[likely:] <= 0.1).all()
            assert likely == 0 or p[likely - 1] > 0.1
        scaled = control_risk(5 * losses, alpha=0.2, bound=5.0)
        assert scaled == mean


def test_learn_then_test_corrects_for_the_number_of_thresholds():
    for losses in tables():
        p = risk_p_values(losses, alpha=0.3)
        np.testing.assert_array_equal(learn_then_test(losses, alpha=0.3, delta=0.1), p <= 0.1 / 30)


def test_false_negatives_and_their_control():
    rng = np.random.default_rng(0)
    truth = rng.random((1500, 6)) < 0.3
    scores = 1 - np.clip(0.6 * truth + 0.5 * rng.random(truth.shape), 0, 1)
    thresholds = np.linspace(0, 1, 101)
    losses = false_negative_losses(scores, truth, thresholds)
    by_hand = [
        [(scores[i][truth[i]] > level).mean() if truth[i].any() else 0.0 for level in thresholds] for i in range(50)
    ]
    np.testing.assert_allclose(losses[:50], by_hand)
    index = control_risk(losses[:500], alpha=0.1)
    assert losses[500:, index].mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("losses", "options", "words"),
    [
        ([[0.1, 0.5]], {}, "losses must not increase along a row, got 0.1 and 0.5 in row 0 from column 0 on"),
        ([[1.5, 0.5]], {}, r"losses must lie in \[0, 1.0\], got 0.5 to 1.5"),
        ([0.5], {}, r"losses must have shape \(N, L\) with N, L >= 1, got \(1,\)"),
        ([[np.nan]], {}, "losses must be finite"),
        ([[0.5]], {"alpha": 1.5}, r"alpha must lie in \(0, 1\), got 1.5"),
        ([[0.5]], {"delta": 0.0}, r"delta must lie in \(0, 1\), got 0.0"),
        ([[0.5]], {"bound": 0.0}, "bound must be positive, got 0.0"),
    ],
)
def test_invalid_arguments_are_refused(losses, options, words):
    with pytest.raises(ValueError, match=words):
        control_risk(np.asarray(losses), **{"alpha": 0.1, **options})


def test_invalid_labels_and_thresholds_are_refused():
    scores = np.zeros((2, 3))
    with pytest.raises(TypeError, match="relevant must hold booleans, got int64"):
        false_negative_losses(scores, np.zeros((2, 3), dtype=np.int64), np.zeros(1))
    with pytest.raises(ValueError, match=r"one shape \(N, K\), got \(2, 3\) and \(2, 2\)"):
        false_negative_losses(scores, np.zeros((2, 2), dtype=bool), np.zeros(1))
    with pytest.raises(ValueError, match=r"thresholds must ascend, got 0\.1 after 0\.5"):
        false_negative_losses(scores, np.zeros((2, 3), dtype=bool), np.asarray([0.5, 0.1]))


THRESHOLDS = np.linspace(0, 1, 41)
LOSSES = {  # of n rows at all thresholds, the most conservative last
    "misses": lambda rng, n: rng.random((n, 1)) > THRESHOLDS,
    "false negatives": lambda rng, n: (rng.random((n, 5, 1)) > THRESHOLDS).mean(1),
    "set size": lambda rng, n: (rng.random((n, 5, 1)) ** 2 > THRESHOLDS).sum(1),
    "abstention": lambda rng, n: (rng.random((n, 1)) > THRESHOLDS) & (rng.random((n, 1)) > 0.6),
}


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("name", LOSSES)
def test_risks_are_controlled_in_simulations(name, n):
    """Over 5,000 calibration sets; the risk of a threshold is the mean loss of 100,000 other rows."""
    rng, alpha, delta, runs = np.random.default_rng(0), 0.2, 0.1, 5000
    bound = 5.0 if name == "set size" else 1.0
    risk = np.append(LOSSES[name](rng, 100_000).mean(0) / bound, 0.0)  # 0 if no threshold is returned
    mean, surely, tested = [], [], []
    for _ in range(runs):
        losses = LOSSES[name](rng, n).astype(float)
        indices = [control_risk(losses, alpha=alpha, delta=chosen, bound=bound) for chosen in (None, delta)]
        one, other = (risk[-1 if index is None else index] for index in indices)
        mean.append(one)
        surely.append(other > alpha)
        valid = learn_then_test(losses, alpha=alpha, delta=delta, bound=bound)
        tested.append((risk[:-1][valid] > alpha).any())
    assert np.mean(mean) <= alpha + 3 * np.std(mean) / math.sqrt(runs)
    for violations in (surely, tested):
        assert np.mean(violations) <= delta + 3 * math.sqrt(delta * (1 - delta) / runs)
    assert np.mean(mean) > alpha / 2  # not controlled by doing nothing
