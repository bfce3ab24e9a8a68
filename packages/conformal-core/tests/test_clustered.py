"""Clusters of classes: how many, how they are seeded, what they converge to, and where thresholds live."""

import warnings

import numpy as np
import pytest

from conformal_core import LAC, ClassConditionalClassifier, ClusteredClassifier, p_values
from conformal_core.predictors.class_conditional import _kmeans


def rows_of(kinds, each):
    """Rows (N, K) of classes whose own probability is the same in every row of theirs, so that each is one point."""
    classes = len(kinds)
    labels = np.repeat(np.arange(classes), each)
    own = np.asarray(kinds)[labels]
    probs = np.repeat(((1 - own) / (classes - 1))[:, None], classes, axis=1)
    probs[np.arange(len(labels)), labels] = own
    return probs, labels


def clusters_of(probs, labels, **options):
    predictor = ClusteredClassifier(LAC(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        predictor.calibrate(probs, labels)
    return predictor.cluster_ids


@pytest.mark.parametrize(
    ("classes", "each", "alpha", "number"),
    [
        (6, 100, 0.2, 3),  # half of the classes; 300 rows would do for 6
        (7, 100, 0.2, 3),
        (8, 100, 0.1, 4),
        (8, 50, 0.1, 2),  # 200 rows, 100 for each
        (8, 48, 0.1, 1),  # 192 rows
        (4, 8, 0.5, 1),  # 16 rows do not make one
        (2, 200, 0.2, 1),
    ],
)
def test_clusters_are_at_most_half_of_the_classes_and_have_rows_enough(classes, each, alpha, number):
    """No two classes are alike, so that there are as many clusters as are allowed."""
    probs, labels = rows_of(np.linspace(0.3, 0.9, classes), each)
    assert set(clusters_of(probs, labels, alpha=alpha, clustering_fraction=0.5)) == set(range(number))


def test_a_number_of_clusters_that_is_given_counts():
    probs, labels = rows_of(np.linspace(0.3, 0.9, 6), 40)
    for number in (1, 2, 5, 6):
        clusters = clusters_of(probs, labels, alpha=0.2, clusters=number, clustering_fraction=0.5)
        assert set(clusters) == set(range(number))
    assert set(clusters_of(probs, labels, alpha=0.2, clusters=9, clustering_fraction=0.5)) == set(range(6))


def test_the_first_centre_is_drawn_by_weight():
    """The cluster around it is the first: of weights 9 and 1 in nine cases of ten; 400 draws within five deviations."""
    rng, points, weights = np.random.default_rng(0), np.asarray([[0.0], [1.0]]), np.asarray([9.0, 1.0])
    firsts = [_kmeans(points, weights, 2, rng).tolist() for _ in range(400)]
    assert abs(firsts.count([0, 1]) - 360) < 5 * 6
    assert firsts.count([0, 1]) + firsts.count([1, 0]) == 400


def test_further_centres_are_drawn_by_weight_times_squared_distance():
    """The first centre is the heavy point; 4 · 1² = 1 · 2² makes the others as likely: 400 draws, five deviations."""
    rng, points, weights = np.random.default_rng(0), np.asarray([[0.0], [1.0], [-2.0]]), np.asarray([1e7, 4.0, 1.0])
    drawn = [_kmeans(points, weights, 2, rng).tolist() for _ in range(400)]
    assert drawn.count([0, 1, 0]) + drawn.count([0, 0, 1]) == 400
    assert abs(drawn.count([0, 1, 0]) - 200) < 5 * 10


def test_no_point_is_drawn_twice():
    """The nearest centre counts: a point on one has no distance, however far the others are."""
    rng, points = np.random.default_rng(0), np.repeat([[0.0, 0.0], [1.0, 0.5], [5.0, 9.0]], 2, axis=0)
    for _ in range(100):
        clusters = _kmeans(points, np.ones(6), 3, rng)
        assert set(clusters) == {0, 1, 2}
        assert (clusters[::2] == clusters[1::2]).all()


def test_clusters_are_those_nearest_to_their_weighted_means():
    """What k-means stops at, whatever it started from; a row of points takes several rounds."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        points, weights = rng.normal(size=(60, 2)), rng.uniform(0.1, 5, 60)
        clusters = _kmeans(points, weights, 4, rng)
        means = np.stack([np.average(points[clusters == c], axis=0, weights=weights[clusters == c]) for c in range(4)])
        nearest = ((points[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        assert clusters.tolist() == nearest.tolist()


def test_thresholds_lie_on_the_device_of_the_rows():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    probs, labels = rows_of([0.5, 0.75], 40)
    on_device = strict.asarray(probs, dtype=strict.float32, device=device)
    predictor = ClusteredClassifier(LAC(), alpha=0.2)
    predictor.calibrate(on_device, strict.asarray(labels, device=device))
    assert (predictor.qhat.device, predictor.qhat.dtype) == (device, strict.float32)
    assert predictor.predict(on_device).device == device


@pytest.mark.parametrize("kind", [ClusteredClassifier, ClassConditionalClassifier])
def test_checks_of_values_can_be_left_out_and_asked_for(kind):
    """Rows of twice the mass: refused, unless their values are not to be looked at."""
    probs, labels = rows_of([0.5, 0.75], 40)
    predictor = kind(LAC(), alpha=0.2)
    with pytest.raises(ValueError, match="probs must"):
        predictor.calibrate(probs * 2, labels)
    predictor.calibrate(probs * 2, labels, check=False)
    with pytest.raises(ValueError, match="probs must"):
        predictor.predict(probs * 2)
    assert predictor.predict(probs * 2, check=False).shape == probs.shape


def test_nothing_learned_can_be_saved_and_loaded():
    predictor, loaded = ClusteredClassifier(LAC(), alpha=0.2), ClusteredClassifier(LAC(), alpha=0.2)
    loaded.calibrate(*rows_of([0.5, 0.75], 40))
    loaded.load_state_dict(predictor.state_dict())
    with pytest.raises(ValueError, match="ClusteredClassifier must be calibrated before its clusters are known"):
        _ = loaded.cluster_ids
    with pytest.warns(UserWarning, match="0 calibration scores are too few"):
        assert loaded.qhat == np.inf


def test_p_values_and_updates_are_those_of_the_rows_of_a_cluster():
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(6), size=900), rng.integers(0, 5, 900)  # the last class has no row
    predictor, again = (ClusteredClassifier(LAC(), alpha="0.25", clusters=2) for _ in range(2))
    predictor.calibrate(probs[:600], labels[:600])
    again.load_state_dict(predictor.state_dict())
    clusters, known = predictor.cluster_ids, predictor.state_dict()
    own, of = known["scores"], np.repeat(np.arange(6), np.diff(known["starts"]))
    for one in (predictor, again):
        one.update(probs[600:], labels[600:])
    own, of = np.concatenate([own, LAC()(probs[600:], labels[600:])]), np.concatenate([of, labels[600:]])
    pools = [own if cluster == -1 else own[clusters[of] == cluster] for cluster in clusters.tolist()]
    wanted = np.stack([p_values(pool, scores) for pool, scores in zip(pools, LAC()(probs).T, strict=True)], axis=-1)
    for one in (predictor, again):
        assert one.cluster_ids.tolist() == clusters.tolist()
        np.testing.assert_array_equal(one.p_values(probs), wanted)
        np.testing.assert_array_equal(one.predict(probs), wanted > 0.25)
    assert set(clusters.tolist()) == {-1, 0, 1}


def test_without_clusters_all_classes_share_a_threshold():
    predictor = ClusteredClassifier(LAC(), alpha=0.2)
    predictor.update(*rows_of([0.5, 0.75], 40))
    assert predictor.qhat.tolist() == [0.5, 0.5]


def test_clusters_that_do_not_exist_are_refused():
    made, loaded = ClusteredClassifier(LAC(), alpha=0.2), ClusteredClassifier(LAC(), alpha=0.2)
    made.calibrate(*rows_of([0.5, 0.75], 40))
    for clusters in ([0, 2], [0], [0, 0, 0]):
        with pytest.raises(ValueError, match="state of ClusteredClassifier must hold"):
            loaded.load_state_dict(made.state_dict() | {"clusters": np.asarray(clusters)})
    with pytest.raises(ValueError, match="the places where the scores of classes start"):
        loaded.load_state_dict(made.state_dict() | {"starts": np.asarray([0, 9, 8])})
    with pytest.raises(ValueError, match="must be calibrated before its clusters are known"):
        _ = loaded.cluster_ids


def test_clusters_that_were_loaded_are_whole_numbers():
    made, loaded = ClusteredClassifier(LAC(), alpha=0.2), ClusteredClassifier(LAC(), alpha=0.2)
    made.calibrate(*rows_of([0.5, 0.75], 40))
    loaded.load_state_dict(made.state_dict() | {"clusters": made.cluster_ids.astype(np.float64)})
    assert loaded.cluster_ids.dtype == np.int64
    assert loaded.cluster_ids.tolist() == made.cluster_ids.tolist()


@pytest.mark.parametrize("kind", [ClusteredClassifier, ClassConditionalClassifier])
def test_rows_and_labels_are_called_by_their_names(kind):
    predictor = kind(LAC(), alpha=0.2)
    with pytest.raises(TypeError, match=r"^probs must hold real floating-point numbers"):
        predictor.calibrate([[True, False]], [0])
    with pytest.raises(ValueError, match=r"^labels must have shape \(N,\)"):
        predictor.calibrate(np.full((3, 2, 2), 0.5), np.zeros((3, 2), dtype=int))
    predictor.calibrate(*rows_of([0.5, 0.75], 40))
    with pytest.raises(TypeError, match=r"^probs must hold real floating-point numbers"):
        predictor.predict([[True, False]])
