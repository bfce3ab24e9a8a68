"""Thresholds by what a row has, and by its typicality, on exchangeable rows whose distribution is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cpsc_train.evaluation import Predictions, Thresholds, coverage

ALPHA = 0.1
NAMES = ("a", "b")


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def world(rows, seed, *, missing=0.0, noisy=(), without=(), weighted=False, severe=4.0):
    """Rows of a late fusion: ``a`` is informative, ``b`` hardly. Noise of some modalities lowers their trust."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rows)
    onehot = np.eye(4)[labels]
    logits = {m: strength * onehot + rng.normal(size=(rows, 4)) for m, strength in zip(NAMES, (3.0, 1.0), strict=True)}
    clean_trust = {m: np.where(rng.random(rows) < 0.05, 0.9, 1.0) for m in NAMES}
    present = {"a": rng.random(rows) >= missing} if missing else {}
    noise = {m: severe * rng.normal(size=(rows, 4)) for m in NAMES}
    logits = {m: z + (m in noisy) * noise[m] for m, z in logits.items() if m not in without}
    if missing and "a" in logits:
        logits["a"] = logits["a"] * present["a"][:, None]
    trust = {m: np.full(rows, 0.3 * rng.random(rows)) if m in noisy else clean_trust[m] for m in logits}
    fused = sum((trust[m][:, None] if weighted else 1) * z for m, z in logits.items())
    heads = {m: softmax(z) for m, z in logits.items()} | {"fused": softmax(fused)}
    counted = dict(present)
    if "b" in without and present:
        counted["fused"] = present["a"]
    features = {m: np.zeros((rows, 1), np.float32) for m in logits}
    typicality = {m: np.where(present[m], w, 0) if m in present else w for m, w in trust.items()} if weighted else {}
    return Predictions(labels, heads, {}, typicality, features, counted, absent=tuple(without))


def limits(calibration, test, alpha=ALPHA, level=1e-4):
    """Range of the number of covered test rows: beta-binomial, as for any split predictor without ties."""
    rank = int(np.ceil((calibration + 1) * (1 - alpha)))
    of = stats.betabinom(test, rank, calibration + 1 - rank)
    return of.ppf(level / 2) / test, of.ppf(1 - level / 2) / test


def thresholds(rows=400, seed=0, *, noises=(), alpha=ALPHA, **options):
    return Thresholds(
        lambda absent: [world(rows, seed, without=absent, noisy=noisy, **options) for noisy in [(), *noises]],
        alpha=alpha,
    )


@pytest.mark.parametrize("without", [(), ("a",), ("b",)])
def test_each_missing_modality_has_its_coverage(without):
    low, high = limits(400, 4000)
    report = coverage(thresholds(), world(4000, 1, without=without))["fused"]
    assert low <= report["coverage"] <= high
    assert report["rule"] == ("pattern" if without else "split")


def test_one_threshold_for_all_patterns_does_not_cover():
    pooled = Thresholds(lambda absent: [world(400, 0)], alpha=ALPHA)
    assert coverage(pooled, world(4000, 1, without=("a",)))["fused"]["coverage"] < 0.8


def test_rows_that_lack_a_modality_have_their_own_threshold():
    test = world(8000, 1, missing=0.4)
    calibrated = thresholds(600, missing=0.4)
    groups = {group.absent: group for group in calibrated.groups(test.outcomes, "fused")}
    assert set(groups) == {(), ("a",)}
    assert sum(len(group.rows) for group in groups.values()) == 8000
    for absent, group in groups.items():
        low, high = limits(group.calibration, len(group.rows))
        scores = 1 - test.probabilities["fused"][group.rows, test.labels[group.rows]]
        assert low <= (scores <= group.qhat).mean() <= high
        assert (test.present["a"][group.rows] == (absent == ())).all()
    # Every row can lack a, but only those that have it can lack b alone.
    assert groups["a",].calibration == 600
    assert groups[()].calibration == world(600, 0, missing=0.4).present["a"].sum()


def test_heads_of_one_modality_are_calibrated_on_the_rows_that_have_it():
    test = world(2000, 1, missing=0.4)
    (group,) = thresholds(600, missing=0.4).groups(test.outcomes, "a")
    assert (len(group.rows), group.absent) == (test.present["a"].sum(), ())


def test_few_rows_of_a_pattern_make_full_sets():
    few = Thresholds(lambda absent: [world(400 if not absent else 5, 0, without=absent)], alpha=ALPHA)
    report = coverage(few, world(100, 1, without=("a",)))["fused"]
    assert (report["mean_size"], report["threshold"], report["coverage"]) == (4, np.inf, 1)


def test_a_pattern_has_one_name_whichever_condition_removed_a_modality():
    names = [set(replace(world(400, 0, missing=0.2), absent=(m,)).outcomes.lacking("fused")) for m in ("0", "z")]
    assert names == [{("0",), ("0", "a")}, {("z",), ("a", "z")}]


def test_clean_rows_are_covered_exactly_under_trust():
    calibrated = thresholds(noises=[("a",), ("b",)], weighted=True)
    test = world(8000, 1, weighted=True)
    group = next(group for group in calibrated.groups(test.outcomes, "fused") if not group.unusual)
    full = np.logical_and.reduce([w == 1 for w in test.typicality.values()])
    assert (group.rows == np.flatnonzero(full)).all()
    low, high = limits(group.calibration, len(group.rows))
    scores = 1 - test.probabilities["fused"][group.rows, test.labels[group.rows]]
    assert low <= (scores <= group.qhat).mean() <= high


@pytest.mark.parametrize("without", [(), ("b",)])
def test_mixture_of_the_seen_kinds_is_covered(without):
    """The mean over the kinds is at least 1 − α over draws of the calibration rows, and no kind is far below."""
    noises = [("a",), ("b",), ("a", "b")]
    means = []
    for seed in range(8):
        calibrated = thresholds(200, seed, noises=noises, weighted=True)
        tests = [world(1000, 100 + seed, noisy=noisy, weighted=True, without=without) for noisy in [(), *noises]]
        covered = [coverage(calibrated, test)["fused"]["coverage"] for test in tests]
        assert min(covered) > 0.75
        means.append(np.mean(covered))
    assert 1 - ALPHA - 0.02 <= np.mean(means) <= 0.96


def test_one_threshold_does_not_cover_unusual_rows():
    plain = Thresholds(lambda absent: [replace(world(400, 0, weighted=True), typicality={})], alpha=ALPHA)
    noisy = replace(world(2000, 1, noisy=("a", "b"), weighted=True), typicality={})
    assert coverage(plain, noisy)["fused"]["coverage"] < 0.6


def test_sets_of_unusual_rows_are_never_empty():
    """Every calibration row is certain and right, so q̂ is near 0, and no class of an uncertain row reaches it."""
    calibration = world(400, 0, weighted=True)
    certain = {head: np.eye(4)[calibration.labels] for head in calibration.probabilities}
    calibrated = Thresholds(lambda absent: [replace(calibration, probabilities=certain)], alpha=0.5)
    test = world(50, 1, noisy=("a",), weighted=True)
    assert list(coverage(calibrated, test)["fused"]["sizes"]) == ["1"]
    assert "0" in coverage(calibrated, replace(test, typicality={m: np.ones(50) for m in NAMES}))["fused"]["sizes"]


def test_without_copies_unusual_rows_get_the_largest_threshold():
    calibrated = thresholds(100, noises=(), weighted=True)
    test = world(50, 1, noisy=("a",), weighted=True)
    groups = calibrated.groups(test.outcomes, "fused")
    full = next(g.qhat for g in calibrated.groups(world(500, 2, weighted=True).outcomes, "fused") if not g.unusual)
    assert all(group.unusual and group.qhat >= full for group in groups)


def test_result_file_lists_the_thresholds():
    report = coverage(thresholds(noises=[("a",)], weighted=True), world(300, 1, weighted=True, noisy=("a",)))["fused"]
    assert report["rule"] == "typicality"
    assert sum(entry["rows"] for entry in report["thresholds"]) == 300
    covered = sum(entry["rows"] * entry["coverage"] for entry in report["thresholds"])
    assert covered / 300 == pytest.approx(report["coverage"])
    assert {entry["least_typical"] for entry in report["thresholds"]} == {"a"}
    typicality = [entry["typicality"] for entry in report["thresholds"]]
    assert typicality == sorted(typicality)
