import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from conformal_core import (
    ACI,
    CQR,
    LAC,
    AbsoluteResidual,
    ClassConditionalClassifier,
    ClusteredClassifier,
    DecayingStep,
    Exponential,
    Fixed,
    History,
    OnlineClassifier,
    OnlineRegressor,
    SplitClassifier,
    SplitRegressor,
    Window,
)


def sample(rows, classes=5, seed=0, concentration=1.0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, concentration), size=rows)
    return probs, (rng.random((rows, 1)) > probs.cumsum(1)).sum(1).clip(max=classes - 1)


def test_split_covers_with_the_promised_probability_from_below_and_above():
    """2,000 calibration sets of 30: coverage within four standard errors of [1 − α, 1 − α + 1/(N + 1)]."""
    trials, n, alpha = 2000, 30, 0.15
    probs, labels = sample(trials * (n + 1), seed=3)
    scores = LAC()(probs, labels).reshape(trials, n + 1)
    rank = math.ceil((n + 1) * (1 - Fraction(3, 20)))
    qhat = np.sort(scores[:, :n], axis=1)[:, rank - 1]
    covered = (scores[:, n] <= qhat).mean()
    error = 4 * math.sqrt(alpha * (1 - alpha) / trials)
    assert 1 - alpha - error <= covered <= 1 - alpha + 1 / (n + 1) + error
    predictor = SplitClassifier(LAC(), alpha=alpha)
    for t in range(0, trials, 200):  # and the class is what was simulated
        block = slice(t * (n + 1), t * (n + 1) + n)
        predictor.calibrate(probs[block], labels[block])
        assert float(predictor.qhat) == qhat[t]


def test_update_is_calibrating_on_everything(lib):
    probs, labels = sample(60)
    whole, parts = SplitClassifier(LAC(), alpha=0.1), SplitClassifier(LAC(), alpha=0.1)
    whole.calibrate(lib(probs), lib(labels))
    parts.calibrate(lib(probs[:20]), lib(labels[:20]))
    parts.update(lib(probs[20:]), lib(labels[20:]))
    assert (
        float(lib.back(whole.qhat))
        == float(lib.back(parts.qhat))
        == reference.quantile(LAC()(probs, labels).tolist(), 0.1)
    )
    np.testing.assert_array_equal(lib.back(whole.predict(lib(probs))), lib.back(parts.predict(lib(probs))))
    other = SplitClassifier(LAC(), alpha=0.1)
    other.load_state_dict(whole.state_dict())
    np.testing.assert_array_equal(lib.back(other.p_values(lib(probs))), lib.back(whole.p_values(lib(probs))))


def test_nothing_calibrated_gives_full_sets_and_a_warning(lib):
    with pytest.warns(UserWarning, match="0 calibration scores are too few"):
        sets = SplitClassifier(LAC(), alpha=0.1).predict(lib(np.asarray([[0.5, 0.5]])))
    assert lib.back(sets).tolist() == [[True, True]]


def test_a_bad_update_changes_nothing():
    probs, labels = sample(30)
    for predictor in (SplitClassifier(LAC(), alpha=0.1), OnlineClassifier(LAC(), alpha=0.1)):
        predictor.update(probs, labels)
        before = float(predictor.qhat)
        for bad_probs, bad_labels in ((probs * 2, labels), (probs, labels + 5), (probs, labels[:-1])):
            with pytest.raises(ValueError, match="must"):
                predictor.update(bad_probs, bad_labels)
        assert float(predictor.qhat) == before


def test_empty_sets_and_how_to_fill_them():
    predictor = SplitClassifier(LAC(), alpha=0.5)
    predictor.calibrate(np.asarray([[0.9, 0.1]] * 9), np.zeros(9, dtype=int))
    unsure = np.asarray([[0.6, 0.4]])
    assert not predictor.predict(unsure).any()
    assert predictor.predict(unsure, nonempty=True).tolist() == [[True, False]]


def test_intervals_of_residuals_1_to_40_are_33_wide(lib):
    predictor = SplitRegressor(AbsoluteResidual(), alpha=0.2)
    predictor.calibrate(lib(np.zeros(40)), lib(np.arange(1.0, 41.0)))
    assert lib.back(predictor.predict(lib(np.asarray([0.0])))).tolist() == [[-33.0, 33.0]]
    p = lib.back(predictor.p_values(lib(np.zeros(3)), lib(np.asarray([33.0, 33.5, 100.0]))))
    assert (p > 0.2).tolist() == [True, False, False]
    predictor.update(lib(np.zeros(1)), lib(np.asarray([50.0])))
    assert float(lib.back(predictor.qhat)) == reference.quantile([*range(1, 41), 50], 0.2)


def test_an_interval_before_any_data_is_the_line():
    with pytest.warns(UserWarning, match="too few"):
        assert SplitRegressor(CQR(), alpha=0.1).predict(np.asarray([[1.0, 2.0]])).tolist() == [[-math.inf, math.inf]]
    with pytest.warns(UserWarning, match="too few"):
        assert OnlineRegressor(CQR(), alpha=0.1).predict(np.asarray([[1.0, 2.0]])).tolist() == [[-math.inf, math.inf]]


def test_cqr_intervals_cover_where_the_noise_varies():
    rng = np.random.default_rng(0)
    x = rng.random(6000)
    y = rng.normal(size=6000) * (0.1 + x)
    guess = np.stack([-(0.1 + x), 0.1 + x], -1)
    predictor = SplitRegressor(CQR(), alpha=0.1)
    predictor.calibrate(guess[:3000], y[:3000])
    ends = predictor.predict(guess[3000:])
    covered = ((ends[:, 0] <= y[3000:]) & (y[3000:] <= ends[:, 1])).mean()
    assert abs(covered - 0.9) < 4 * math.sqrt(0.09 / 3000 * 2)


# Online


@pytest.mark.parametrize("memory", [History, lambda: Window(7), lambda: Exponential(0.8), Fixed])
@pytest.mark.parametrize(
    "level", [None, lambda: ACI(alpha=0.3, gamma=0.1), lambda: DecayingStep(alpha=0.3, start=1.0, rate=1.0)]
)
def test_many_rows_at_once_are_one_after_another(lib, memory, level):
    probs, labels = sample(40)
    one, many = (
        OnlineClassifier(LAC(), memory=memory(), **({"alpha": 0.3} if level is None else {"level": level()}))
        for _ in range(2)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        many.calibrate(lib(probs[:5]), lib(labels[:5]))
        many.update(lib(probs[5:]), lib(labels[5:]))
        one.calibrate(lib(probs[:5]), lib(labels[:5]))
        for row, label in zip(probs[5:], labels[5:], strict=True):
            one.update(lib(row), int(label))
        assert one.qhat == many.qhat
        np.testing.assert_array_equal(lib.back(one.predict(lib(probs))), lib.back(many.predict(lib(probs))))
        np.testing.assert_array_equal(lib.back(one.p_values(lib(probs))), lib.back(many.p_values(lib(probs))))


@pytest.mark.filterwarnings("ignore:.* too few for alpha")
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=60))
@settings(max_examples=40)
def test_the_threshold_is_that_of_split_prediction_on_the_past(stream):
    predictor, past = OnlineClassifier(LAC(), alpha=0.25), []
    for eighths, label in stream:
        row = np.asarray([eighths / 8, 1 - eighths / 8])
        assert predictor.qhat == reference.quantile(past, 0.25)
        assert (predictor.predict(row) == (predictor.p_values(row) > 0.25)).all()
        predictor.update(row, label)
        past.append(1 - row[label])


def test_aci_holds_coverage_under_drift_where_a_fixed_threshold_does_not():
    """From row 1,000 on the classifier knows less and less, and says it with the same confidence."""
    rng = np.random.default_rng(0)
    probs, labels = sample(4000, concentration=0.3)
    wrong = rng.random(4000) < np.linspace(0, 0.6, 4000)
    labels = np.where(wrong, rng.integers(0, 5, 4000), labels)
    split = SplitClassifier(LAC(), alpha=0.1)
    split.calibrate(probs[:500], labels[:500])
    online = OnlineClassifier(LAC(), memory=Window(500), level=ACI(alpha=0.1, gamma=0.02))
    online.calibrate(probs[:500], labels[:500])
    hits = []
    for row, label in zip(probs[500:], labels[500:].tolist(), strict=True):
        hits.append(bool(online.predict(row)[label]))
        online.update(row, label)
    fixed = split.predict(probs[500:])[np.arange(3500), labels[500:]]
    assert fixed[-1000:].mean() < 0.75
    assert abs(np.mean(hits) - 0.9) < 0.01
    assert abs(np.mean(hits[-1000:]) - 0.9) < 0.02


def test_a_failed_load_leaves_the_predictor_as_it_was():
    predictor, other = (OnlineClassifier(LAC(), level=ACI(alpha=0.1), memory=m) for m in (Window(3), History()))
    other.update(*sample(20))
    before = predictor.state_dict()
    with pytest.raises(ValueError, match="state must be of kind 'Window', got 'History'"):
        predictor.load_state_dict(other.state_dict())
    assert predictor.state_dict()["level"] == before["level"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of alpha, confidence and level must be given, got none"),
        ({"alpha": 0.1, "level": ACI(alpha=0.1)}, "got alpha and level: a level holds its own alpha"),
        ({"alpha": 0.1, "memory": [0.1]}, "memory must have the methods of Memory, got list"),
        ({"level": 0.1}, "level must be a Level, such as ACI"),
    ],
)
def test_bad_compositions_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        OnlineClassifier(LAC(), **options)


@pytest.mark.parametrize(
    "kind", [SplitClassifier, SplitRegressor, OnlineClassifier, ClassConditionalClassifier, ClusteredClassifier]
)
def test_a_score_must_be_callable_and_alpha_a_level(kind):
    with pytest.raises(TypeError, match="score must be callable, such as LAC"):
        kind("lac", alpha=0.1)
    for alpha in (0, 1, 1.5, math.nan):
        with pytest.raises(ValueError, match="alpha must"):
            kind(AbsoluteResidual() if kind is SplitRegressor else LAC(), alpha=alpha)


# Groups and classes


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=40), st.sampled_from([0.25, 0.4]))
def test_each_class_has_the_threshold_of_its_own_rows(lib, rows, alpha):
    probs = np.asarray([[e / 8, (1 - e / 8) / 2, (1 - e / 8) / 2] for e, _ in rows])
    labels = np.asarray([y for _, y in rows])
    predictor = ClassConditionalClassifier(LAC(), alpha=alpha)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        predictor.calibrate(lib(probs), lib(labels))
    own = LAC()(probs, labels)
    wanted = [reference.quantile(own[labels == c].tolist(), alpha) for c in range(3)]
    assert lib.back(predictor.qhat).tolist() == wanted
    assert lib.back(predictor.predict(lib(probs))).tolist() == (LAC()(probs) <= np.asarray(wanted)).tolist()


def test_class_conditional_coverage_where_marginal_coverage_hides_a_weak_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    own = np.where(labels == 0, rng.uniform(0.6, 1, 20_000), rng.uniform(0.1, 0.7, 20_000))
    probs = np.where((labels == 0)[:, None], np.stack([own, 1 - own], 1), np.stack([1 - own, own], 1))
    half = slice(0, 10_000), slice(10_000, None)
    covered = {}
    for kind in (SplitClassifier, ClassConditionalClassifier):
        predictor = kind(LAC(), alpha=0.1)
        predictor.calibrate(probs[half[0]], labels[half[0]])
        hits = predictor.predict(probs[half[1]])[np.arange(10_000), labels[half[1]]]
        covered[kind] = [hits[labels[half[1]] == c].mean() for c in (0, 1)]
    assert min(covered[SplitClassifier]) < 0.85
    assert max(abs(c - 0.9) for c in covered[ClassConditionalClassifier]) < 4 * math.sqrt(0.09 / 5000 * 2)


def test_a_rare_group_gets_full_sets_and_a_warning():
    predictor = ClassConditionalClassifier(LAC(), alpha=0.1)
    probs, labels = np.full((30, 3), 1 / 3), np.asarray([0] * 15 + [1] * 15)
    with pytest.warns(
        UserWarning, match=r"calibration scores of 1 of 3 classes are too few for alpha = 0\.1, fewer than 9"
    ):
        predictor.calibrate(probs, labels)
    assert predictor.predict(np.asarray([[0.9, 0.1, 0.0]])).tolist() == [[True, False, True]]


def test_nonempty_fills_only_empty_sets_of_class_thresholds():
    predictor = ClassConditionalClassifier(LAC(), alpha=0.5)
    predictor.calibrate(np.asarray([[0.9, 0.1]] * 3 + [[0.7, 0.3]] * 3), np.asarray([0] * 3 + [1] * 3))
    assert predictor.predict(np.asarray([[0.6, 0.4], [0.8, 0.2]])).tolist() == [[False, True], [False, False]]
    filled = predictor.predict(np.asarray([[0.6, 0.4], [0.8, 0.2]]), nonempty=True)
    assert filled.tolist() == [[False, True], [True, False]]


def test_clusters_find_classes_that_behave_alike_and_cover_each_of_them():
    """Forty classes, of which even ones are easy and odd ones hard."""
    rng = np.random.default_rng(0)
    classes, rows = 40, 8000
    labels = rng.integers(0, classes, rows)
    own = np.where(labels % 2 == 0, rng.uniform(0.7, 1, rows), rng.uniform(0.1, 0.5, rows))
    probs = np.repeat(((1 - own) / (classes - 1))[:, None], classes, 1)
    probs[np.arange(rows), labels] = own
    predictor = ClusteredClassifier(LAC(), alpha=0.1, clusters=2, seed=1)
    predictor.calibrate(probs[:4000], labels[:4000])
    clusters = predictor.cluster_ids
    assert len(set(clusters[::2])) == len(set(clusters[1::2])) == 1
    assert clusters[0] != clusters[1]
    hits = predictor.predict(probs[4000:])[np.arange(4000), labels[4000:]]
    per_class = np.asarray([hits[labels[4000:] == c].mean() for c in range(classes)])
    assert abs(per_class.mean() - 0.9) < 0.02
    again = ClusteredClassifier(LAC(), alpha=0.1, clusters=2, seed=1)
    again.calibrate(probs[:4000], labels[:4000])
    np.testing.assert_array_equal(again.qhat, predictor.qhat)
    loaded = ClusteredClassifier(LAC(), alpha=0.1)
    loaded.load_state_dict(predictor.state_dict())
    np.testing.assert_array_equal(loaded.predict(probs[:50]), predictor.predict(probs[:50]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clustering_fraction": 0.0}, r"clustering_fraction must lie in \(0, 1\), got 0.0"),
        ({"clustering_fraction": 1}, r"clustering_fraction must lie in \(0, 1\), got 1"),
        ({"clusters": 0}, "clusters must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_clusterings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClusteredClassifier(LAC(), alpha=0.1, **options)


def test_clusters_are_known_after_calibration_only():
    with pytest.raises(ValueError, match="ClusteredClassifier must be calibrated before its clusters are known"):
        _ = ClusteredClassifier(LAC(), alpha=0.1).cluster_ids


def test_classes_that_are_all_alike_make_one_cluster_and_too_few_rows_none():
    probs, labels = np.full((400, 4), 0.25), np.arange(400) % 4
    predictor = ClusteredClassifier(LAC(), alpha=0.2, clusters=3)
    predictor.calibrate(probs, labels)
    assert set(predictor.cluster_ids) == {0}
    few = ClusteredClassifier(LAC(), alpha=0.2)
    few.calibrate(probs[:12], labels[:12])
    assert set(few.cluster_ids) == {-1}
    assert len(set(few.qhat)) == 1


def test_rare_classes_share_the_threshold_of_all_rows(lib):
    probs, labels = sample(300, classes=4)
    labels = np.where(labels == 3, 0, labels)
    predictor = ClusteredClassifier(LAC(), alpha=0.2, seed=2)
    predictor.calibrate(lib(probs), lib(labels))
    assert predictor.cluster_ids[3] == -1
    assert np.isfinite(lib.back(predictor.qhat)).all()
    assert lib.back(predictor.predict(lib(probs))).shape == (300, 4)


def test_another_number_of_classes_is_refused_by_class():
    probs, labels = sample(10)
    by_class = ClassConditionalClassifier(LAC(), alpha=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        by_class.calibrate(probs, labels)
    with pytest.raises(ValueError, match="probs must have the 5 classes of calibration, got 2"):
        by_class.predict(np.asarray([[0.5, 0.5]]))
