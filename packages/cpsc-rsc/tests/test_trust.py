"""Distances of the trust: references, the promised rate on clean samples, states, and bad use."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from torch._subclasses.fake_tensor import FakeTensorMode

from cpsc_rsc import ConformalTrust

WIDTHS = {"audio": (3, 6), "image": (4,)}


def rows(n, seed=0, audio=1.0, widths=WIDTHS):
    generator = torch.Generator().manual_seed(seed)
    scales = {"audio": audio}
    return {
        m: tuple(scales.get(m, 1.0) * torch.randn(n, d, generator=generator) + 50 for d in ds)
        for m, ds in widths.items()
    }


@pytest.fixture
def trust():
    made = ConformalTrust(WIDTHS, alpha=0.1)
    made.update(rows(400))
    made.calibrate(rows(99, seed=1))
    return made


def squared(training, asked):
    """Squared Mahalanobis distances of scikit-learn."""
    return LedoitWolf().fit(training.double().numpy()).mahalanobis(asked.double().numpy())


def test_distances_are_the_largest_excess_over_the_thresholds_of_the_depths():
    trust, training, held_out, asked = ConformalTrust(WIDTHS, alpha=0.1), rows(80), rows(99, 1), rows(50, 2, 2.0)
    trust.update(training)
    trust.calibrate(held_out)
    for m, got in trust.distances(asked).items():
        wanted, depths = np.zeros(50), len(WIDTHS[m])
        rank = math.ceil(100 * (1 - 0.1 / (depths + 1)) - 1e-9)
        for k in range(depths):
            known, new = np.sort(squared(training[m][k], held_out[m][k])), squared(training[m][k], asked[m][k])
            wanted = np.maximum(wanted, np.log(new / known[rank - 1]))
            if k == 0:
                wanted = np.maximum(wanted, np.log(known[99 - rank] / new))
        np.testing.assert_allclose(got.numpy(), wanted, atol=1e-3)
    assert (trust.distances(asked)["audio"] > 0).double().mean() > 0.5


def test_rows_that_vary_too_little_are_unusual(trust):
    """Rows near the mean of the training rows, as those of a blank input; only the first depth counts."""
    blank, typical = rows(20, 3, audio=0.01), rows(20, 4)
    distances = trust.distances(blank)["audio"]
    assert (distances > 1).all()
    torch.testing.assert_close(trust.distances({"audio": (blank["audio"][0], typical["audio"][1])})["audio"], distances)
    assert (trust.distances({"audio": (typical["audio"][0], blank["audio"][1])})["audio"] == 0).double().mean() > 0.8
    assert (trust.novelty(blank)["audio"] < 0).all()


def test_the_lower_threshold_needs_rows_for_one_more_test():
    """At α = .1 and one depth, 10 rows allow one test, and 19 rows two."""
    trust, near = ConformalTrust({"a": (3,)}, alpha=0.1), {"a": (torch.full((1, 3), 50.0),)}
    trust.update(rows(100, widths={"a": (3,)}))
    trust.calibrate(rows(18, 1, widths={"a": (3,)}))
    assert trust.distances(near)["a"].item() == 0
    trust.calibrate(rows(19, 1, widths={"a": (3,)}))
    assert trust.distances(near)["a"].item() > 0


@pytest.mark.parametrize(("held_out", "depths", "alpha"), [(19, 1, 0.05), (39, 2, 0.05), (60, 4, 0.1), (200, 3, 0.1)])
@pytest.mark.parametrize("width", [2, 12])
def test_a_clean_sample_is_far_as_rarely_as_promised(held_out, depths, alpha, width):
    """Over draws of the held-out rows; the depths are correlated. Four standard errors, one in 16,000."""
    runs, far = 300, []
    trust = ConformalTrust({"a": (width,) * depths}, alpha=alpha)
    generator = torch.Generator().manual_seed(held_out)

    def draw(n):
        base = torch.randn(n, width, generator=generator)
        return {"a": tuple(base + k * torch.randn(n, width, generator=generator) for k in range(depths))}

    trust.update(draw(100))
    for _ in range(runs):
        trust.calibrate(draw(held_out))
        far.append((trust.distances(draw(50))["a"] > 0).double().mean().item())
    mean, error = np.mean(far), np.std(far) / math.sqrt(runs)
    assert mean < alpha + 4 * error
    assert mean > alpha / 5


def test_samples_that_tie_with_a_threshold_are_not_far(trust):
    """At each of two depths at most four of 99 held-out samples lie above the quantile at .05."""
    for seed in range(20):
        which = torch.randint(0, 12, (99,), generator=torch.Generator().manual_seed(seed))
        held_out = {m: tuple(h[which] for h in depths) for m, depths in rows(12, seed).items()}
        trust.calibrate(held_out)
        distances = trust.distances(held_out)
        assert (distances["audio"] > 0).sum() <= 2 * 4
        assert (distances["image"] > 0).sum() <= 9


def test_too_few_held_out_rows_leave_the_last_depths_out_and_say_so():
    trust = ConformalTrust({"a": (3, 3)}, alpha=0.1)
    trust.update(rows(100, widths={"a": (3, 3)}))
    with pytest.warns(
        UserWarning, match=r"18 held-out rows of 'a' .* at 2 depths: only the first is used; give 19 rows"
    ):
        trust.calibrate(rows(18, 1, widths={"a": (3, 3)}))
    near, far = torch.full((1, 3), 50.0), torch.full((1, 3), 99.0)
    assert trust.distances({"a": (far, near)})["a"].item() > 1
    assert trust.distances({"a": (near, far)})["a"].item() == 0
    with pytest.warns(UserWarning, match="no sample is down-weighted; give 19 rows"):
        trust.calibrate(rows(8, 1, widths={"a": (3, 3)}))
    assert trust.distances({"a": (far, far)})["a"].item() == 0


def test_without_a_curve_every_weight_is_one(trust):
    distances, weights = trust.distances(rows(20, 3, audio=30.0)), trust.weights(rows(20, 3, audio=30.0))
    assert (distances["audio"] > 1).all()
    assert all((w == 1).all() for w in weights.values())


def test_parts_of_the_training_rows_give_the_distances_of_all():
    whole, parts, merged, other = (ConformalTrust(WIDTHS) for _ in range(4))
    training = rows(300)
    whole.update(training)
    for part in (slice(0, 7), slice(7, 200), slice(200, 300)):
        some = {m: tuple(h[part] for h in depths) for m, depths in training.items()}
        parts.update(some)
        (other if part.stop == 200 else merged).update(some)
    merged.merge(other, ConformalTrust(WIDTHS))
    for trust in (whole, parts, merged):
        trust.calibrate(rows(99, 1))
    for m, distance in whole.distances(rows(50, 2, 3.0)).items():
        for trust in (parts, merged):
            torch.testing.assert_close(trust.distances(rows(50, 2, 3.0))[m], distance, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, 3e38])
def test_a_sensor_that_gives_no_numbers_is_infinitely_far(trust, broken):
    asked = rows(4, 3)
    asked["audio"][0][1:3] = broken
    assert trust.distances(asked)["audio"].isinf().tolist() == [False, True, True, False]
    assert trust.weights(asked)["audio"].tolist() == [1, 0, 0, 1]
    features = {m: depths[-1] for m, depths in asked.items()}
    features["audio"][1:3] = broken
    scaled = trust(features, asked)["audio"]
    assert torch.equal(scaled[1:3], torch.zeros(2, 6))
    assert torch.equal(scaled[[0, 3]], features["audio"][[0, 3]])


def test_a_missing_modality_stays_missing(trust):
    asked = {"image": rows(3)["image"]}
    assert set(trust.weights(asked)) == set(trust({"image": asked["image"][0]}, asked)) == {"image"}


def test_it_travels_with_the_model(trust):
    asked = rows(9, 2, 3.0)
    features = {m: depths[-1] for m, depths in asked.items()}
    stream, other = io.BytesIO(), ConformalTrust(WIDTHS, alpha=0.1)
    torch.save(trust.state_dict(), stream)
    other.load_state_dict(torch.load(io.BytesIO(stream.getvalue()), weights_only=True))
    assert other.calibrated
    exported = torch.export.export(copy.deepcopy(trust), (features, asked)).module()
    for m, distance in trust.distances(asked).items():
        assert torch.equal(other.distances(asked)[m], distance)
        torch.testing.assert_close(exported(features, asked)[m], trust(features, asked)[m])


def test_it_says_once_that_it_is_not_calibrated():
    bare = ConformalTrust(WIDTHS)
    with pytest.warns(UserWarning, match=r"is not calibrated, so every weight is 1: call update\(\) and calibrate\(\)"):
        assert all((w == 1).all() for w in bare.weights(rows(3, audio=99.0)).values())
    bare.weights(rows(3))  # a second warning would be an error
    loaded = ConformalTrust(WIDTHS)
    loaded.load_state_dict(bare.state_dict())
    assert not loaded.calibrated


def test_half_precision_gives_the_distances_of_single_precision(trust):
    half = {m: tuple(h.bfloat16() for h in depths) for m, depths in rows(20, 2, 3.0).items()}
    single = {m: tuple(h.float() for h in depths) for m, depths in half.items()}
    with torch.autocast("cpu", torch.bfloat16):
        got = trust.distances(half)
        scaled = trust({m: depths[-1] for m, depths in half.items()}, half)
    assert all(torch.equal(got[m], distance) for m, distance in trust.distances(single).items())
    assert {h.dtype for h in scaled.values()} == {torch.bfloat16}


@pytest.mark.newer_torch
def test_a_device_is_not_waited_for():
    with FakeTensorMode(), torch.device("cuda"):
        fake = ConformalTrust(WIDTHS)
        asked = {m: tuple(torch.randn(7, d) for d in ds) for m, ds in WIDTHS.items()}
        with pytest.warns(UserWarning, match="is not calibrated"):
            scaled = fake({m: depths[-1] for m, depths in asked.items()}, asked)
    assert {h.device.type for h in scaled.values()} == {"cuda"}


@pytest.mark.parametrize("method", ["update", "calibrate"])
@pytest.mark.parametrize("broken", [lambda h: h[:, :-1], lambda h: torch.full_like(h, math.nan)])
def test_a_fault_in_the_second_modality_changes_nothing(trust, method, broken):
    before = trust.distances(rows(5, 2, 3.0))
    bad = rows(60, 7, 5.0)
    bad["image"] = tuple(map(broken, bad["image"]))
    with pytest.raises(ValueError, match=r"depths\['image'\]\[0\] must"):
        getattr(trust, method)(bad)
    if method == "update":
        trust.calibrate(rows(99, seed=1))
    assert all(torch.equal(before[m], distance) for m, distance in trust.distances(rows(5, 2, 3.0)).items())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ConformalTrust({}), ValueError, "widths must hold at least one"),
        (lambda: ConformalTrust({"a": ()}), ValueError, r"widths\['a'\] must hold the width of at least one depth"),
        (lambda: ConformalTrust({"a": (0,)}), ValueError, "widths must be at least 1, got 0"),
        (lambda: ConformalTrust(WIDTHS, alpha=1.5), ValueError, r"alpha must lie in \(0, 1\), got 1.5"),
        (
            lambda: ConformalTrust({"a": (2,)}).merge(ConformalTrust({"a": (3,)})),
            ValueError,
            r"merge takes others with the depths {'a': \(2,\)}, got {'a': \(3,\)}",
        ),
        (
            lambda: ConformalTrust(WIDTHS).distances({"text": (torch.zeros(1, 3),)}),
            ValueError,
            r"depths must hold at least one of the modalities \['audio', 'image'\] and no other",
        ),
        (
            lambda: ConformalTrust(WIDTHS).distances({"audio": (torch.zeros(1, 3),)}),
            ValueError,
            r"depths\['audio'\] must hold 2 tensors, one a depth, got 1",
        ),
        (
            lambda: ConformalTrust(WIDTHS).distances({"image": (torch.zeros(1, 3),)}),
            ValueError,
            r"depths\['image'\]\[0\] must have shape \(B, 4\), got \(1, 3\)",
        ),
        (
            lambda: ConformalTrust(WIDTHS).calibrate({"image": rows(5)["image"]}),
            ValueError,
            r"depths must hold every modality, got \['image'\] without \['audio'\]",
        ),
        (
            lambda: ConformalTrust({"a": (2,)}).calibrate({"a": (torch.zeros(30, 2),)}),
            ValueError,
            "'a' has no training rows: call update\\(\\) before calibrate\\(\\)",
        ),
    ],
)
def test_bad_use_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
