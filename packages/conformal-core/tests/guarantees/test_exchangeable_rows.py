"""Guarantees on exchangeable rows, exactly.

Given the bag of n + 1 rows, each is the new one with the same probability. The probability that a guarantee is about is
then the fraction of the rows for which it holds when they are left out: a count, with no chance in it.

| sentence | test |
|---|---|
| `conformal_quantile`: 1 − α ≤ P(new ≤ q̂), ≤ 1 − α + 1/(N + 1) without ties | quantiles_cover |
| `p_values`: P(p ≤ t) ≤ t; smoothed ones are uniform, the others at least as large | p_values_are_not_too_small |
| `SplitClassifier`: 1 − α ≤ P(y ∈ C), ≤ 1 − α + 1/(N + 1) without ties | split_sets_cover |
| `prediction_set`: empty with probability at most α | split_sets_cover |
| `APS`, randomized: coverage is ⌈(N + 1)(1 − α)⌉/(N + 1), with ties, too | randomized_scores_cover_exactly |
| `APS`: nested deterministic and randomized sets; in [0, 1], 2 without mass | aps_scores_are_bounded_and_nested |
| `RAPS`, `SAPS`: largest score | other_cumulative_scores_are_bounded |
| `SplitRegressor`: 1 − α ≤ P(y ∈ C), ≤ 1 − α + 1/(N + 1) without ties | intervals_cover |
| one-sided scores: the same | intervals_cover |
| `AsymmetricRegressor`: P(y < lower end) ≤ α of the lower end, and the same above | asymmetric_intervals_miss |
| `MaxResidual`, `EllipsoidResidual`: 1 − α ≤ P(all targets of a row in its region) | joint_regions_cover |
| `PredictiveSystem`: P(y ≤ upper quantile) ≥ q, P(y < lower one) ≤ q, uniform `cdf` | predictive_quantiles_cover |
| `SplitRegressor.p_values`: in the interval exactly when p > α, up to rounding | targets_inside_have_a_large_p_value |
| `ClassConditionalClassifier`, `Mondrian`: 1 − α ≤ P(y ∈ C given it); +∞ below 1/α − 1 | mondrian_sets_cover_each |
| `ClusteredClassifier`: 1 − α ≤ P(y ∈ C given the cluster), but for group −1 | clustered_sets_cover_each |
| group −1: covered less where rare classes are harder | rare_classes_are_covered_less |
| `weighted_conformal_quantile`, `weighted_p_values`: 1 − α ≤ P(new ≤ q̂) on test rows | weighted_quantiles_cover |
| `NoveltyGate`: P(weight < 1) ≤ α, P(p ≤ t) ≤ t | novelty_is_rare_among_like_inputs |
| `CalibrationBuffer`: that of split prediction; larger sets while rows are missing | buffers_cover |
"""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

from conformal_core import (
    APS,
    CQR,
    LAC,
    RAPS,
    SAPS,
    AbsoluteResidual,
    AsymmetricRegressor,
    CalibrationBuffer,
    ClassConditionalClassifier,
    ClusteredClassifier,
    EllipsoidResidual,
    Mahalanobis,
    Margin,
    MaxResidual,
    Mondrian,
    NormalizedResidual,
    NoveltyGate,
    PredictiveSystem,
    SplitClassifier,
    SplitRegressor,
    conformal_quantile,
    p_values,
    weighted_conformal_quantile,
    weighted_p_values,
)

SYMMETRIC = [(AbsoluteResidual(), 1), (NormalizedResidual(), 2), (CQR(), 3)]
ONE_SIDED = [(type(score)(side=side), columns) for score, columns in SYMMETRIC for side in ("lower", "upper")]
ALPHAS = ["0.01", "0.1", "0.37", "0.5"]
pytestmark = pytest.mark.filterwarnings("ignore:.*too few:UserWarning")


def least(rows, alpha):
    """Rows that must be covered, of those that are left out in turn: ⌈(n + 1)(1 − α)⌉."""
    return math.ceil(rows * (1 - Fraction(alpha)))


def bags():
    rng = np.random.default_rng(0)
    for n in (1, 2, 9, 10, 19, 40):
        yield rng.normal(size=n + 1), True
        yield rng.standard_cauchy(n + 1), True
        yield rng.integers(0, 3, n + 1).astype(float), False
        yield np.zeros(n + 1), False


def without(rows):
    """Rows (n + 1, ...) as n + 1 pairs of all but one and that one."""
    return [(np.delete(rows, i, axis=0), rows[i]) for i in range(len(rows))]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_quantiles_cover(alpha):
    for scores, distinct in bags():
        others = np.stack([rest for rest, _ in without(scores)])
        covered = int((scores <= conformal_quantile(others, alpha=Fraction(alpha))).sum())
        assert covered >= least(len(scores), alpha)
        assert covered == least(len(scores), alpha) or not distinct


def test_p_values_are_not_too_small():
    for scores, _ in bags():
        rows = len(scores)
        p = np.asarray([p_values(rest, new[None])[0] for rest, new in without(scores)])
        low, high = (
            np.asarray([p_values(rest, new[None], u=u)[0] for rest, new in without(scores)]) for u in (0.0, 1.0)
        )
        assert (p >= high - 1e-12).all()
        for t in (0.01, 0.05, 0.1, 0.3, 0.5, 0.9):
            assert (p <= t).sum() <= t * rows + 1e-9
            # p is linear in u, so that the probability of p ≤ t is where the line crosses t.
            assert np.clip((t - low) / (high - low), 0, 1).sum() == pytest.approx(t * rows)


def classified(kind, rows, rng):
    if kind == "tied":
        probs = rng.permuted(np.tile([0.5, 0.25, 0.25], (rows, 1)), axis=1)
    elif kind == "without mass":
        probs = rng.permuted(np.tile([0.6, 0.4, 0.0], (rows, 1)), axis=1)
    else:
        probs = rng.dirichlet(np.full(3, 0.3), rows)
    return probs, rng.integers(0, 3, rows)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    "score", [LAC(), Margin(), APS(), RAPS(penalty=0.1, free_ranks=1), SAPS(weight=0.2)], ids=lambda s: type(s).__name__
)
def test_split_sets_cover(score, alpha):
    rng = np.random.default_rng(1)
    for kind in ("continuous", "tied", "without mass"):
        probs, labels = classified(kind, 25, rng)
        covered = empty = 0
        for i in range(25):
            predictor = SplitClassifier(score, alpha=Fraction(alpha))
            predictor.calibrate(np.delete(probs, i, axis=0), np.delete(labels, i))
            inside = predictor.predict(probs[i])
            covered += inside[labels[i]]
            empty += not inside.any()
        assert covered >= least(25, alpha)
        assert empty <= 25 - least(25, alpha)
        if kind == "continuous" and len(np.unique(score(probs, labels))) == 25:
            assert covered == least(25, alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    "score",
    [APS(randomized=True), RAPS(penalty=0.1, free_ranks=1, randomized=True), SAPS(weight=0.2, randomized=True)],
    ids=lambda s: type(s).__name__,
)
def test_randomized_scores_cover_exactly(score, alpha):
    """With ties of probabilities, too. Labels without mass still tie."""
    rng = np.random.default_rng(2)
    for kind in ("continuous", "tied"):
        probs, labels = classified(kind, 61, rng)
        scores = score(probs, labels, u=rng.random(61))
        covered = sum(new <= conformal_quantile(rest, alpha=Fraction(alpha)) for rest, new in without(scores))
        assert covered == least(61, alpha)
    deterministic = SAPS(weight=0.2)(probs, labels)
    covered = sum(new <= conformal_quantile(rest, alpha=Fraction(alpha)) for rest, new in without(deterministic))
    assert covered > least(61, alpha) or alpha == "0.01"


def test_aps_scores_are_bounded_and_nested():
    rng = np.random.default_rng(3)
    for kind in ("continuous", "tied", "without mass"):
        probs, _ = classified(kind, 50, rng)
        scores, u = APS()(probs), rng.random(50)
        assert (scores[probs > 0] <= 1).all()
        assert (scores[probs == 0] == 2).all()
        assert scores.max(axis=1).min() >= 1
        drawn = APS(randomized=True)(probs, u=u)
        assert (drawn <= scores).all()
        for qhat in (0.0, 0.3, 0.5, 0.75, 0.99):
            mass = np.sort(probs, axis=1)[:, ::-1].cumsum(axis=1)
            last = np.sort(probs, axis=1)[:, ::-1][np.arange(50), (mass > qhat).argmax(axis=1)]
            assert ((scores <= qhat) <= (drawn <= qhat)).all()
            assert ((drawn <= qhat) <= (probs >= last[:, None])).all()


def test_other_cumulative_scores_are_bounded():
    rng = np.random.default_rng(4)
    for kind in ("continuous", "tied", "without mass"):
        probs, _ = classified(kind, 50, rng)
        raps, saps = RAPS(penalty=0.5, free_ranks=1)(probs), SAPS(weight=0.5)(probs)
        assert (raps[probs > 0] <= 1 + 0.5 * 2).all()
        assert (raps <= 2 + 0.5 * 2).all()
        assert (saps <= probs.max(axis=1, keepdims=True) + 0.5 * 2).all()
        assert saps.max() == probs[saps.max(axis=1).argmax()].max() + 0.5 * 2 or kind != "continuous"


def regressed(columns, rows, rng):
    """Multiples of 1/8, so that residuals and ends of intervals are not rounded."""
    centre, targets = (rng.integers(-80, 80, rows) / 8 for _ in range(2))
    spread = 2.0 ** rng.integers(-1, 3, rows)
    predictions = {1: centre, 2: np.stack([centre, spread], -1), 3: np.stack([centre - spread, centre + spread], -1)}
    return predictions[columns], targets


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("score", "columns"), [*SYMMETRIC, *ONE_SIDED])
def test_intervals_cover(score, columns, alpha):
    rng = np.random.default_rng(5)
    for rows in (7, 30):
        predictions, targets = regressed(columns, rows, rng)
        covered = 0
        for i in range(rows):
            predictor = SplitRegressor(score, alpha=Fraction(alpha))
            predictor.calibrate(np.delete(predictions, i, axis=0), np.delete(targets, i))
            low, high = predictor.predict(predictions[i : i + 1])[0]
            covered += low <= targets[i] <= high
        assert covered >= least(rows, alpha)
        assert covered == least(rows, alpha) or len(np.unique(score(predictions, targets))) < rows


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("score", "columns"), SYMMETRIC)
def test_asymmetric_intervals_miss_each_tail_with_its_alpha(score, columns, alpha):
    predictions, targets = regressed(columns, 30, np.random.default_rng(13))
    upper_alpha = Fraction(alpha) / 3
    below = above = 0
    for i in range(30):
        predictor = AsymmetricRegressor(
            SplitRegressor(type(score)(side="lower"), alpha=Fraction(alpha)),
            SplitRegressor(type(score)(side="upper"), alpha=upper_alpha),
        )
        predictor.calibrate(np.delete(predictions, i, axis=0), np.delete(targets, i))
        low, high = predictor.predict(predictions[i : i + 1])[0]
        below, above = below + (targets[i] < low), above + (targets[i] > high)
    assert below <= 30 - least(30, alpha)
    assert above <= 30 - least(30, upper_alpha)
    assert below + above > 0 or alpha == "0.01"


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("score", [MaxResidual((1.0, 2.0)), EllipsoidResidual([[1.0, 0.5], [0.5, 2.0]])], ids=repr)
def test_joint_regions_cover_all_targets_of_a_row(score, alpha):
    rng = np.random.default_rng(15)
    predictions, targets = (rng.integers(-80, 80, (30, 2)) / 8 for _ in range(2))
    boxed = members = 0
    for i in range(30):
        predictor = SplitRegressor(score, alpha=Fraction(alpha))
        predictor.calibrate(np.delete(predictions, i, axis=0), np.delete(targets, i, axis=0))
        box = predictor.predict(predictions[i])
        boxed += bool(((box[:, 0] <= targets[i]) & (targets[i] <= box[:, 1])).all())
        members += bool(predictor.p_values(predictions[i], targets[i]) > float(alpha))
    assert boxed >= members >= least(30, alpha)
    assert members == least(30, alpha) or len(np.unique(score(predictions, targets))) < 30


@pytest.mark.parametrize(("score", "columns"), SYMMETRIC[:2])
def test_predictive_quantiles_cover(score, columns):
    predictions, targets = regressed(columns, 30, np.random.default_rng(14))
    at_most, less, low, high = np.zeros(4), np.zeros(4), [], []
    for i in range(30):
        system = PredictiveSystem(score)
        system.calibrate(np.delete(predictions, i, axis=0), np.delete(targets, i))
        for k, q in enumerate(ALPHAS):
            at_most[k] += targets[i] <= system.quantile(predictions[i], Fraction(q))
            less[k] += targets[i] < system.quantile(predictions[i], Fraction(q), lower=True)
        low.append(float(system.cdf(predictions[i], targets[i], u=0.0)))
        high.append(float(system.cdf(predictions[i], targets[i], u=1.0)))
    assert all(n >= math.ceil(Fraction(q) * 30) for n, q in zip(at_most, ALPHAS, strict=True))
    assert all(n <= math.floor(Fraction(q) * 30) for n, q in zip(less, ALPHAS, strict=True))
    for t in (0.05, 0.3, 0.9):  # `cdf` is linear in u, so that the probability of ≤ t is where the line crosses t
        crossed = np.clip((t - np.asarray(low)) / (np.asarray(high) - np.asarray(low)), 0, 1).sum()
        assert crossed == pytest.approx(30 * t)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("score", "columns"), SYMMETRIC)
def test_targets_inside_have_a_large_p_value(score, columns, dtype):
    """Targets a few units in the last place around both ends, calibrated in float64 and predicted in either."""
    rng = np.random.default_rng(6)
    predictions = regressed(columns, 200, rng)[0] + rng.random((200,) if columns == 1 else (200, 2))
    predictor = SplitRegressor(score, alpha=0.1)
    predictor.calibrate(predictions, 20 * rng.normal(size=200))
    rows = predictions.astype(dtype)
    ends = predictor.predict(rows)
    assert ends.dtype == dtype
    size = np.abs(rows).reshape(200, -1).max(axis=1) + np.abs(ends).max(axis=1)
    ulp = np.finfo(dtype).eps * size
    for end, outwards in ((ends[:, 0], -1), (ends[:, 1], 1)):
        for step in (4, 40, 4000):
            assert (predictor.p_values(rows, end - outwards * step * ulp) > 0.1).all()
            assert (predictor.p_values(rows, end + outwards * step * ulp) <= 0.1).all()


@pytest.mark.parametrize("alpha", ["0.05", "0.1", "0.5"])
@pytest.mark.parametrize("by_class", [True, False])
def test_mondrian_sets_cover_each(by_class, alpha):
    rng = np.random.default_rng(7)
    probs, labels = classified("continuous", 45, rng)
    ids = np.where(rng.random(45) < 0.7, 0, np.where(rng.random(45) < 0.7, 1, 2))
    if by_class:
        labels = ids
    covered = np.zeros(3, dtype=int)
    for i in range(45):
        rest = np.delete(np.arange(45), i)
        others, own = ({}, {}) if by_class else ({"groups": ids[rest]}, {"groups": ids[i : i + 1]})
        by_row = Mondrian(SplitClassifier(LAC(), alpha=Fraction(alpha)))
        predictor = ClassConditionalClassifier(LAC(), alpha=Fraction(alpha)) if by_class else by_row
        predictor.calibrate(probs[rest], labels[rest], **others)
        inside = predictor.predict(probs[i : i + 1], **own)[0]
        covered[ids[i]] += inside[labels[i]]
        too_few = np.bincount(ids[rest], minlength=3) < 1 / Fraction(alpha) - 1
        assert (np.isinf(predictor.qhat) == too_few[list(range(3) if by_class else predictor.predictors)]).all()
        assert inside[too_few].all() if by_class else inside.all() or not too_few[ids[i]]
    assert [c >= least(n, alpha) for c, n in zip(covered, np.bincount(ids, minlength=3), strict=True)] == [True] * 3


def many_classes(rng, rows):
    """Eight classes: six frequent ones, and two rare ones, which are harder."""
    labels = rng.choice(8, rows, p=[0.16] * 6 + [0.02] * 2)
    logits = rng.normal(size=(rows, 8)) + np.where(labels < 6, 3.0, 0.75)[:, None] * np.eye(8)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("alpha", ["0.1", "0.5"])
def test_clustered_sets_cover_each(alpha):
    """Clusters are made from the first part of the rows; those of the second part are exchangeable with the new one."""
    probs, labels = many_classes(np.random.default_rng(8), 121)
    first = np.random.default_rng(0).permutation(120) < 0.3 * 120  # as the predictor divides them
    pool = np.append(np.flatnonzero(~first), 120)
    covered, seen = {}, {}
    for new in pool:
        order = np.arange(121)
        order[[new, 120]] = order[[120, new]]
        predictor = ClusteredClassifier(LAC(), alpha=Fraction(alpha), clusters=2, seed=0)
        predictor.calibrate(probs[order[:120]], labels[order[:120]])
        own = int(predictor.cluster_ids[labels[new]])
        covered[own] = covered.get(own, 0) + predictor.predict(probs[new])[labels[new]]
        seen[own] = seen.get(own, 0) + 1
    assert seen.keys() >= {0, 1}
    assert all(covered[c] >= least(seen[c], alpha) for c in seen if c >= 0)


def test_rare_classes_are_covered_less():
    """The measured size in the docstring: about a quarter for a target of .9."""
    rng = np.random.default_rng(9)
    predictor = ClusteredClassifier(LAC(), alpha=0.1, clusters=2)
    predictor.calibrate(*many_classes(rng, 800))
    assert predictor.cluster_ids[6:].tolist() == [-1, -1]
    probs, labels = many_classes(rng, 20_000)
    hits = predictor.predict(probs)[np.arange(20_000), labels]
    assert hits[labels < 6].mean() > 0.89
    assert hits[labels >= 6].mean() == pytest.approx(0.25, abs=0.06)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = ClassConditionalClassifier(LAC(), alpha=0.1)
        each.calibrate(*many_classes(rng, 800))
    assert each.predict(probs)[np.arange(20_000), labels][labels >= 6].mean() > 0.8


@pytest.mark.parametrize("alpha", ALPHAS)
def test_weighted_quantiles_cover(alpha):
    """The new row is row i with a probability of wᵢ / Σ w; its p-value exceeds α exactly where it is covered."""
    rng = np.random.default_rng(10)
    for scores, _ in bags():
        for weights in (rng.integers(0, 5, len(scores)).astype(float), rng.gamma(0.3, size=len(scores))):
            mass = Fraction(0)
            for (rest, new), (others, own) in zip(without(scores), without(weights), strict=True):
                covered = new <= weighted_conformal_quantile(rest, others, float(own), alpha=Fraction(alpha))
                mass += Fraction(float(own)) * bool(covered)
                assert covered == (weighted_p_values(rest, others, new, float(own)) > float(alpha)) or own == 0
            assert mass >= (1 - Fraction(alpha)) * sum(map(Fraction, weights.tolist()))


@pytest.mark.parametrize("alpha", ["0.02", "0.1", "0.5"])
def test_novelty_is_rare_among_like_inputs(alpha):
    rng = np.random.default_rng(11)
    score = Mahalanobis()
    score.update(rng.normal(size=(200, 3)))
    for features in (rng.standard_t(2, (60, 3)), rng.integers(0, 2, (60, 3)).astype(float)):
        light, p = 0, []
        for rest, new in without(features):
            gate = NoveltyGate(score, alpha=Fraction(alpha))
            gate.calibrate(rest)
            light += gate.weights(new[None])[0] < 1
            p.append(gate.p_values(new[None])[0])
        assert light <= 60 - least(60, alpha)
        assert all((np.asarray(p) <= t).sum() <= t * 60 + 1e-9 for t in (0.02, 0.1, 0.5))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_buffers_cover(alpha):
    scores = np.random.default_rng(12).normal(size=31)
    covered = 0
    for rest, new in without(scores):
        buffer = CalibrationBuffer(30)
        buffer.overwrite(slice(0, 20), rest[:20])
        missing = float(buffer.quantile(alpha=Fraction(alpha)))
        buffer.overwrite(slice(20, 30), rest[20:])
        full = float(buffer.quantile(alpha=Fraction(alpha)))
        assert missing >= full
        assert int(buffer.staleness) == 0
        covered += new <= full
    assert covered == least(31, alpha)
