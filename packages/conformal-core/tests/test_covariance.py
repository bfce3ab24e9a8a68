"""Covariance of ``Mahalanobis``: Ledoit–Wolf shrinkage against scikit-learn, parts against the whole, merges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformal_core import LAC, Mahalanobis

seeds = st.integers(0, 2**32 - 1)


def sample(rows, width, seed=0, classes=1, offset=0.0):
    """Rows with correlated coordinates, tails heavier than normal and one mean per class; not all classes occur."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    features = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) * rng.gamma(1.0, size=(rows, 1))
    return features + offset + 20 * rng.normal(size=(classes, width))[labels], labels


def covariance(score):
    _, whitening, _ = score.whitened()
    root = np.linalg.inv(np.asarray(whitening))
    return root @ root.T


@pytest.mark.parametrize("shape", [(60, 40), (10, 40), (5000, 3), (400, 1)])
def test_one_group_has_the_covariance_of_scikit_learn(shape):
    covariances = pytest.importorskip("sklearn.covariance")
    features, _ = sample(*shape, offset=1e3)
    score = Mahalanobis()
    for part in np.array_split(features, 7):
        score.update(part)
    expected = covariances.LedoitWolf().fit(features)
    np.testing.assert_allclose(covariance(score), expected.covariance_, rtol=1e-9)
    distances = expected.mahalanobis(features[:20])
    np.testing.assert_allclose(score(features[:20]), distances, rtol=1e-7)


def test_classes_have_the_covariance_of_scikit_learn_about_their_means(lib):
    covariances = pytest.importorskip("sklearn.covariance")
    features, labels = sample(80, 12, classes=4)
    score = Mahalanobis(classes=6)
    for part in np.split(np.arange(80), [5, 6, 40]):
        score.update(lib(features[part]), lib(labels[part]))
    apart = features - np.stack([features[labels == label].mean(0) for label in labels])
    expected = covariances.LedoitWolf(assume_centered=True).fit(apart).covariance_
    _, whitening, points = map(lib.back, score.whitened())
    root = np.linalg.inv(whitening)
    np.testing.assert_allclose(root @ root.T, expected, rtol=1e-9)
    assert len(points) == 4


def test_a_number_shrinks_towards_the_mean_variance():
    features, _ = sample(50, 4)
    score = Mahalanobis(shrinkage=0.25)
    score.update(features)
    plain = np.cov(features.T, bias=True)
    np.testing.assert_allclose(covariance(score), 0.75 * plain + 0.25 * np.trace(plain) / 4 * np.eye(4), rtol=1e-10)


def test_rows_in_few_directions_have_finite_distances():
    """Two rows, and rows of signs, leave no estimated error, so Ledoit and Wolf would not shrink a singular matrix."""
    signs = np.repeat([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]], 20, axis=0)
    for rows in (signs, signs[[0, -1]]):
        score = Mahalanobis()
        score.update(rows)
        near, far = score(np.asarray([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]]))
        assert 0.9 < near < 1.1
        assert 1e3 < far < np.inf


def test_large_numbers_overflow_no_moment_that_is_needed():
    features, _ = sample(50, 4)
    score, large = Mahalanobis(), Mahalanobis()
    score.update(features)
    for part in np.split(1e100 * features, [20]):
        large.update(part)
    assert np.isfinite(large(1e100 * features)).all()


@pytest.mark.parametrize("shrinkage", [0.01, "ledoit-wolf"])
@pytest.mark.parametrize("classes", [None, 5])
@given(seed=seeds, cuts=st.lists(st.integers(0, 40), max_size=5), far=st.sampled_from([0.0, 1e4]))
@settings(max_examples=12)
def test_parts_and_merges_learn_what_the_whole_learns(shrinkage, classes, seed, cuts, far):
    features, labels = sample(40, 6, seed, classes=4, offset=far)
    make = lambda: Mahalanobis(classes=classes, shrinkage=shrinkage)  # noqa: E731
    whole, parts, merged, others = make(), make(), make(), []
    whole.update(features, labels)
    for part in np.split(np.arange(40), sorted(cuts)):
        parts.update(features[part], labels[part])
        others.append(make())
        others[-1].update(features[part], labels[part])
    merged.merge(*others)
    for score in (parts, merged):
        np.testing.assert_allclose(covariance(score), covariance(whole), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(score(features), whole(features), rtol=1e-6)


def test_a_merge_leaves_the_other_as_it_was_and_can_be_continued():
    features, _ = sample(60, 3)
    one, other, whole = Mahalanobis(), Mahalanobis(), Mahalanobis()
    one.update(features[:20])
    other.update(features[20:40])
    before = other(features)
    one.merge(other, Mahalanobis())
    one.update(features[40:])
    whole.update(features)
    np.testing.assert_allclose(one(features), whole(features))
    np.testing.assert_array_equal(other(features), before)


def test_a_merge_that_is_refused_changes_nothing():
    one, wide = Mahalanobis(), Mahalanobis()
    one.update(sample(20, 3)[0])
    wide.update(sample(20, 4)[0])
    good = Mahalanobis()
    good.update(sample(20, 3, seed=1)[0])
    before = one(np.ones((2, 3)))
    for others, kind, text in (
        ((good, wide), ValueError, "others must have learned features of width 3, got 4"),
        ((good, one), ValueError, "others must be other objects, got this one, which would count twice"),
        ((good, LAC()), TypeError, "others must be of kind Mahalanobis, got LAC"),
        ((good, Mahalanobis(classes=2)), ValueError, r"settings of Mahalanobis\(\), got Mahalanobis\(classes=2\)"),
    ):
        with pytest.raises(kind, match=text):
            one.merge(*others)
    np.testing.assert_array_equal(one(np.ones((2, 3))), before)
