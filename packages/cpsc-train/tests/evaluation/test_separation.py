import numpy as np
import pytest

from cpsc_train.evaluation.separation import separation, separations


def cluster(spread, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), [3, 10, 20, 7])
    centres = generator.standard_normal((4, 6)) * 3
    return (centres[labels] + spread * generator.standard_normal((40, 6))).astype(np.float32), labels


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_silhouette_is_that_of_scikit_learn(spread):
    metrics = pytest.importorskip("sklearn.metrics")
    features, labels = cluster(spread)
    assert separation(features, labels)["silhouette"] == pytest.approx(
        metrics.silhouette_score(features.astype(float), labels), abs=1e-6
    )


def test_silhouette_and_scatter_by_definition():
    features, labels = cluster(1.0)
    h = features.astype(float)
    values, within, between = [], 0.0, 0.0
    for i, x in enumerate(h):
        mean = {}
        for label in np.unique(labels):
            others = [j for j in np.flatnonzero(labels == label) if j != i]
            mean[label] = np.mean([np.linalg.norm(x - h[j]) for j in others])
        a = mean.pop(labels[i])
        values.append((min(mean.values()) - a) / max(a, min(mean.values())))
    for label in np.unique(labels):
        of = h[labels == label]
        within += np.square(of - of.mean(0)).sum()
        between += len(of) * np.square(of.mean(0) - h.mean(0)).sum()
    found = separation(features, labels)
    assert found["silhouette"] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["scatter"] == pytest.approx(within / between)


def test_tighter_classes_are_better_separated():
    tight, loose = (separation(*cluster(spread)) for spread in (0.1, 2.0))
    assert tight["scatter"] < loose["scatter"]
    assert tight["silhouette"] > loose["silhouette"]


def test_degenerate_features():
    assert separation(np.zeros((4, 2)), np.array([0, 0, 1, 1])) == {"scatter": None, "silhouette": 0.0}
    assert separation(np.zeros((3, 2)), np.array([0, 1, 2])) == {"scatter": None, "silhouette": None}
    lone = separation(np.array([[0.0], [1.0], [5.0], [6.0], [9.0]]), np.array([0, 0, 1, 1, 2]))
    assert np.isfinite(lone["silhouette"])


def test_fused_features_are_concatenated():
    a, labels = cluster(1.0)
    b, _ = cluster(2.0, seed=1)
    found = separations({"a": a, "b": b}, labels, "fused")
    assert list(found) == ["a", "b", "fused"]
    assert found["fused"] == separation(np.concatenate([a, b], 1), labels)
    rows = np.arange(40) % 2 == 0
    assert separations({"a": a, "b": b}, labels, "fused", {"b": rows})["b"] == separation(b[rows], labels[rows])
