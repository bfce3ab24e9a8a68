import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from conformal_core import (
    APS,
    LAC,
    RAPS,
    SAPS,
    AbsoluteResidual,
    Margin,
    p_values,
)

SCORES = {
    "LAC": (LAC(normalized=False), reference.lac),
    "Margin": (Margin(normalized=False), reference.margin),
    "APS": (APS(normalized=False), reference.aps),
    "RAPS": (
        RAPS(penalty=0.25, free_ranks=1, normalized=False),
        lambda row, label, u=None: reference.aps(row, label, u, penalty=0.25, free_ranks=1),
    ),
    "SAPS": (
        SAPS(weight=0.25, normalized=False),
        lambda row, label, u=None: reference.saps(row, label, u, weight=0.25),
    ),
}
RANDOMIZED = {
    "APS": APS(randomized=True, normalized=False),
    "RAPS": RAPS(penalty=0.25, free_ranks=1, randomized=True, normalized=False),
    "SAPS": SAPS(weight=0.25, randomized=True, normalized=False),
}
# Sixteenths add up without rounding, and tie often.
sixteenths = st.integers(0, 16).map(lambda i: i / 16)
rows = st.integers(1, 9).flatmap(
    lambda k: st.lists(st.lists(sixteenths, min_size=k, max_size=k), min_size=1, max_size=4)
)
dtypes = st.sampled_from([np.float32, np.float64])


@pytest.mark.parametrize("name", SCORES)
@given(rows, dtypes)
def test_scores_are_the_definition_for_all_labels_and_for_one(lib, name, values, dtype):
    score, definition = SCORES[name]
    array = np.asarray(values, dtype=dtype)
    everything = lib.back(score(lib(array)))
    assert everything.dtype == dtype
    assert everything.shape == array.shape
    close = 1e-6 if dtype == np.float32 else 1e-14
    for row, got in zip(array, everything, strict=True):
        for label, value in enumerate(got):
            assert float(value) == pytest.approx(float(definition(row, label)), abs=close)
    for label in range(array.shape[1]):
        one = lib.back(score(lib(array), lib(np.full(len(array), label))))
        np.testing.assert_array_equal(one, everything[:, label])  # to the last bit


@pytest.mark.parametrize("name", RANDOMIZED)
@given(rows, st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4))
def test_randomized_scores_are_the_definition(lib, name, values, draws):
    array, u = np.asarray(values), np.asarray(draws[: len(values)])
    score, definition = RANDOMIZED[name], SCORES[name][1]
    everything = lib.back(score(lib(array), u=lib(u)))
    for row, got, draw in zip(array, everything, u, strict=True):
        for label, value in enumerate(got):
            assert float(value) == pytest.approx(float(definition(row, label, draw)), abs=1e-14)
    for label in range(array.shape[1]):
        one = lib.back(score(lib(array), lib(np.full(len(array), label)), u=lib(u)))
        np.testing.assert_array_equal(one, everything[:, label])


@pytest.mark.parametrize("name", SCORES)
@given(rows, sixteenths | st.sampled_from([2.0, 3.0, math.inf, -math.inf]), dtypes)
def test_sets_are_the_scores_up_to_the_threshold(lib, name, values, qhat, dtype):
    """The shortcut to a set, without the scores of all labels, gives the very same set."""
    score, array = SCORES[name][0], np.asarray(values, dtype=dtype)
    got = lib.back(score.sets(lib(array), qhat))
    np.testing.assert_array_equal(got, lib.back(score(lib(array))) <= qhat)
    per_row = lib.back(score.sets(lib(array), lib(np.full(len(array), qhat, dtype=dtype))))
    np.testing.assert_array_equal(per_row, got)


@pytest.mark.parametrize("name", SCORES)
@given(rows, st.permutations(range(9)), sixteenths)
def test_a_batch_is_its_rows_and_the_order_of_classes_never_matters(name, values, order, qhat):
    score, array = SCORES[name][0], np.asarray(values)
    whole, sets = score(array), score.sets(array, qhat)
    for i in range(len(array)):
        np.testing.assert_array_equal(score(array[i]), whole[i])
        np.testing.assert_array_equal(score.sets(array[i], qhat), sets[i])
    columns = [j for j in order if j < array.shape[1]]
    np.testing.assert_array_equal(score(array[:, columns]), whole[:, columns])


@pytest.mark.parametrize("name", RANDOMIZED)
@given(rows, st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4))
def test_a_randomized_batch_is_its_rows_in_any_shape(name, values, draws):
    score, array, u = RANDOMIZED[name], np.asarray(values), np.asarray(draws[: len(values)])
    whole = score(array, u=u)
    labels = np.zeros(len(array), dtype=int)
    for i in range(len(array)):
        np.testing.assert_array_equal(score(array[i], u=u[i : i + 1].reshape(())), whole[i])
    np.testing.assert_array_equal(score(array[None, :, None], u=u[None, :, None])[0, :, 0], whole)
    cube = score(array[None, :, None], labels[None, :, None], u=u[None, :, None])
    np.testing.assert_array_equal(cube[0, :, 0], whole[:, 0])


@pytest.mark.parametrize("name", SCORES)
def test_large_batches_are_the_same_as_small_ones(lib, name):
    """Chunks and threads change nothing."""
    rng = np.random.default_rng(0)
    array = rng.dirichlet(np.full(130, 0.1), size=3000).astype(np.float32)
    array[array < np.finfo(np.float32).tiny] = 0  # GPUs may take denormal numbers for zero
    score = type(SCORES[name][0])()
    labels = rng.integers(0, 130, 3000)
    whole = lib.back(score(lib(array)))
    assert lib.back(score.sets(lib(array), 0.9)).tolist() == (whole <= np.float32(0.9)).tolist()
    np.testing.assert_array_equal(lib.back(score(lib(array), lib(labels))), whole[np.arange(3000), labels])
    np.testing.assert_array_equal(lib.back(score(lib(array[1000:1010]))), whole[1000:1010])
    np.testing.assert_array_equal(whole, score(array))  # the same bits in every library
    cube = lib.back(score(lib(array.reshape(30, 100, 130)), lib(labels.reshape(30, 100))))
    np.testing.assert_array_equal(cube.reshape(-1), whole[np.arange(3000), labels])


def test_chunks_of_a_tensor_that_numpy_cannot_see_change_nothing(monkeypatch):
    """As on a device, where a chunk is larger than a test can be."""
    torch = pytest.importorskip("torch")
    probs = torch.rand((70, 11), generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16)
    score = APS(normalized=False)
    whole = score(probs)
    monkeypatch.setattr("conformal_core.scores._rows._DEVICE_CHUNK", 100)
    assert torch.equal(score(probs), whole)


def test_chunks_on_one_core_change_nothing(monkeypatch):
    array = np.random.default_rng(0).dirichlet(np.ones(50), size=20_000)
    whole = APS()(array)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    np.testing.assert_array_equal(APS()(array), whole)


def test_finite_values_may_be_as_large_as_they_like():
    """Their sum overflows, which is no reason to call one of them infinite."""
    huge = np.full(3, np.finfo(np.float64).max)
    assert p_values(huge, huge).tolist() == [1.0] * 3


def test_values_are_not_looked_at_when_told_not_to():
    bad = np.asarray([[0.5, math.nan]])
    assert np.isnan(LAC()(bad, check=False)[0, 1])
    assert np.isnan(LAC()(bad[0], check=False)[1])
    assert np.isnan(AbsoluteResidual()(bad, bad, check=False)[0, 1])
    assert np.isnan(AbsoluteResidual().interval(bad[0], 1.0, check=False)[1]).all()
    p = p_values(np.asarray([0.1, 0.2]), np.asarray([0.15]), u=np.asarray([2.0]), check=False)
    assert p.shape == (1,)


@given(rows, st.lists(st.floats(0, 1), min_size=4, max_size=4), sixteenths)
def test_randomized_sets_lie_between_the_deterministic_and_the_next_larger_one(values, draws, qhat):
    """At one threshold: {mass through y ≤ q̂} ⊆ randomized ⊆ the smallest set whose mass exceeds q̂."""
    array, u = np.asarray(values), np.asarray(draws[: len(values)])
    lower = APS(normalized=False).sets(array, qhat)
    between = APS(randomized=True, normalized=False).sets(array, qhat, u=u)
    before = APS(randomized=True, normalized=False)(array, u=np.zeros(len(array)))  # mass strictly before y
    assert (lower <= between).all()
    assert (between <= (before <= qhat)).all()
    ones = APS(randomized=True, normalized=False).sets(array, qhat, u=np.ones(len(array)))
    np.testing.assert_array_equal(ones, lower)


@given(rows, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_randomized_scores_and_so_thresholds_do_not_exceed_the_deterministic_ones(values, draws):
    array, u = np.asarray(values), np.asarray(draws[: len(values)])
    for name, score in RANDOMIZED.items():
        assert (score(array, u=u) <= SCORES[name][0](array)).all()


def test_randomized_aps_covers_exactly_where_all_scores_tie():
    """Equal probabilities: the deterministic sets are full and cover always, the randomized ones cover 1 − α."""
    rng = np.random.default_rng(0)
    probs, labels = np.full((20_000, 4), 0.25), rng.integers(0, 4, 20_000)
    covered = {}
    for score in (APS(), APS(randomized=True)):
        draws = {"u": rng.random(20_000)} if score.randomized else {}
        own = score(probs, labels, **draws)
        covered[score.randomized] = (own[10_000:] <= np.sort(own[:10_000])[math.ceil(10_001 * 0.9) - 1]).mean()
    assert covered[False] == 1.0
    assert abs(covered[True] - 0.9) < 4 * math.sqrt(0.09 / 10_000 * 2)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_deterministic_aps_covers_at_least_and_hardly_more_without_ties(alpha):
    """α = .5 with ten classes, where other libraries are far off: within four standard errors here."""
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(10), size=40_000)
    labels = (rng.random((40_000, 1)) > probs.cumsum(1)).sum(1).clip(max=9)
    own = APS()(probs, labels)
    qhat = np.sort(own[:20_000])[math.ceil(20_001 * (1 - alpha)) - 1]
    assert abs((own[20_000:] <= qhat).mean() - (1 - alpha)) < 4 * math.sqrt(alpha * (1 - alpha) / 20_000 * 2)


def test_the_full_set_is_full_whatever_the_precision():
    """Rounding must not push the last label's mass above 1, nor stop it short of it."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(1000, 0.3), size=200).astype(np.float32)
    scores = APS()(probs)
    assert scores[probs > 0].max() == 1.0
    assert (APS().sets(probs, 1.0) == (probs > 0)).all()


def test_classes_without_mass_come_last(lib):
    probs = np.asarray([[1.0, 0.0, 0.0]])
    assert lib.back(APS().sets(lib(probs), 1.0)).tolist() == [[True, False, False]]
    assert lib.back(APS().sets(lib(probs), math.inf)).tolist() == [[True, True, True]]


def test_a_boundary_point_is_inside_in_every_precision(lib):
    for dtype in (np.float32, np.float64):
        probs = lib(np.asarray([[0.7, 0.2, 0.1]], dtype=dtype))
        qhat = lib.back(LAC()(probs, lib(np.asarray([1]))))[0]
        assert lib.back(LAC().sets(probs, float(qhat))).tolist() == [[True, True, False]]


def test_rows_may_miss_one_by_the_rounding_of_their_dtype():
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64):
        LAC()(rng.dirichlet(np.ones(100), size=50).astype(dtype), check=True)
    with pytest.raises(ValueError, match=r"probs must sum to 1 over the last axis, got 1\.5 in row 0"):
        LAC()(np.asarray([[0.5, 0.5, 0.5], [0.2, 0.1, 0.1]]))
    LAC(normalized=False)(np.asarray([[0.5, 0.5, 0.5], [0.2, 0.1, 0.1]]))


@pytest.mark.parametrize("score", [LAC(), Margin(), APS(), RAPS(), SAPS()])
@pytest.mark.parametrize(
    ("probs", "labels", "kind", "message"),
    [
        ([[0.5, math.nan]], None, ValueError, r"probs must be finite, got nan at index \(0, 1\)"),
        ([[0.5, math.inf]], None, ValueError, "probs must be finite, got inf"),
        ([[1.5, -0.5]], None, ValueError, r"probs must not be negative, got -0\.5 at index \(0, 1\)"),
        ([[0.5, 0.6]], None, ValueError, r"must sum to 1 over the last axis, got 1\.1 in row 0"),
        ([[0.5, 0.5]], [2], ValueError, r"labels must lie in 0\.\.1, got 2 at row 0"),
        ([[0.5, 0.5]], [-1], ValueError, r"labels must lie in 0\.\.1, got -1 at row 0"),
        ([[0.5, 0.5]], [0, 1], ValueError, r"labels must broadcast to shape \(1,\), got \(2,\)"),
        ([[0.5, 0.5]], [0.5], TypeError, "labels must hold integers"),
        (0.5, None, ValueError, r"probs must have shape \(\.\.\., K\) with K >= 1"),
        ([True, False], None, TypeError, "probs must hold real floating-point numbers"),
    ],
)
def test_bad_rows_are_refused(lib, score, probs, labels, kind, message):
    labels = None if labels is None else lib(np.asarray(labels))
    with pytest.raises(kind, match=message):
        score(lib(np.asarray(probs)), labels, check=lib.check)


@pytest.mark.parametrize("bad", [[0.5, math.nan], [1.5, -0.5], [0.5, 0.6]])
def test_one_row_is_checked_like_many(bad):
    for call in (LAC(), lambda r: LAC()(r, 0), lambda r: LAC().sets(r, 0.5), lambda r: APS().sets(r, 0.5)):
        with pytest.raises(ValueError, match="probs must"):
            call(np.asarray(bad))
    for label in (2, -1, True):
        with pytest.raises((ValueError, TypeError), match="labels must"):
            LAC()(np.asarray([0.5, 0.5]), label)


def test_draws_are_refused_where_they_mean_nothing():
    probs = np.asarray([[0.5, 0.5]])
    with pytest.raises(ValueError, match="u must be left out for a score that is not randomized"):
        APS()(probs, u=np.asarray([0.5]))
    for u, message in (
        (1.5, r"u must lie in \[0, 1\], got 1.5"),
        (math.nan, "got nan"),
        ([0.1, 0.2], "u must broadcast"),
    ):
        with pytest.raises(ValueError, match=message):
            APS(randomized=True)(probs, u=np.asarray(u))
    assert APS(randomized=True)(probs).shape == (1, 2)


@pytest.mark.parametrize(
    "build",
    [lambda: RAPS(penalty=-1), lambda: RAPS(free_ranks=-1), lambda: RAPS(penalty=math.inf), lambda: SAPS(weight=-0.1)],
)
def test_bad_options_are_refused(build):
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        build()


def test_defaults_are_those_of_the_documentation():
    assert RAPS() == RAPS(penalty=0.01, free_ranks=5, randomized=False, normalized=True)
    assert SAPS() == SAPS(weight=0.2, randomized=False, normalized=True)
    assert APS() == APS(randomized=False, normalized=True)


def test_a_score_is_a_value():
    assert LAC() == LAC()
    assert hash(APS()) == hash(APS())
    assert RAPS(penalty=0.1) != RAPS(penalty=0.2)
