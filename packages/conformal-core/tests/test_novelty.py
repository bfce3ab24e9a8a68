import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformal_core import Mahalanobis, NoveltyGate, Window, conformal_quantile

SCORES = {
    "classes": lambda: Mahalanobis(classes=3),
    "no classes": Mahalanobis,
}
seeds = st.integers(0, 2**32 - 1)


def sample(rows, width=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return (rng.normal(size=(rows, width)) + 3 * labels[:, None]) @ mixing, labels


def mahalanobis(train, labels, asked):
    """The definition, one row and one class at a time."""
    means = {c: train[labels == c].mean(0) for c in np.unique(labels)}
    apart = train - np.stack([means[c] for c in labels])
    covariance = apart.T @ apart / len(train)
    isotropic = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    error = np.mean([((np.outer(row, row) - covariance) ** 2).sum() for row in apart]) / len(train)
    shrinkage = min(1.0, error / ((covariance - isotropic) ** 2).sum())  # Ledoit and Wolf (2004)
    covariance = (1 - shrinkage) * covariance + shrinkage * isotropic
    inverse = np.linalg.inv(covariance)
    return np.asarray([min((row - mean) @ inverse @ (row - mean) for mean in means.values()) for row in asked])


def learned(name, lib=np.asarray, rows=60):
    score, (train, labels) = SCORES[name](), sample(rows)
    score.update(lib(train), lib(labels))
    return score


def test_scores_are_the_definition(lib):
    train, labels = sample(60)
    asked, _ = sample(20, seed=1)
    expected = {
        "classes": mahalanobis(train, labels, asked),
        "no classes": mahalanobis(train, np.zeros_like(labels), asked),
    }
    for name, wanted in expected.items():
        got = learned(name, lib)(lib(asked))
        assert got.shape == (20,)
        np.testing.assert_allclose(lib.back(got), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCORES)
@given(seed=seeds, cuts=st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=25)
def test_learning_in_pieces_is_learning_at_once(name, seed, cuts):
    train, labels = sample(60, seed=seed)
    whole, pieces = SCORES[name](), SCORES[name]()
    whole.update(train, labels)
    for rows, classes in zip(np.split(train, sorted(cuts)), np.split(labels, sorted(cuts)), strict=True):
        pieces.update(rows, classes)
    asked, _ = sample(10, seed=1)
    np.testing.assert_allclose(pieces(asked), whole(asked), rtol=1e-8)


@pytest.mark.parametrize("name", SCORES)
def test_shape_precision_and_state_are_kept(name, lib):
    score, fresh = learned(name, lib), SCORES[name]()
    fresh.load_state_dict(score.state_dict())
    asked, _ = sample(12, seed=1)
    flat = lib.back(score(lib(asked)))
    np.testing.assert_array_equal(lib.back(fresh(lib(asked))), flat)
    np.testing.assert_allclose(lib.back(score(lib(asked.reshape(2, 6, 4)))), flat.reshape(2, 6))
    assert score(lib(asked[0])).shape == ()
    single = score(lib(asked.astype(np.float32)))
    assert "float32" in str(single.dtype)
    np.testing.assert_allclose(lib.back(single), flat, rtol=2e-3)


def test_many_rows_in_parts_are_the_same(monkeypatch):
    asked, _ = sample(50, seed=1)
    many = Mahalanobis(classes=3)
    monkeypatch.setattr("conformal_core.novelty._ONE_HOT", 20)
    many.update(*sample(60))
    np.testing.assert_allclose(many(asked), learned("classes")(asked))


def test_classes_without_rows_attract_nothing():
    train, labels = sample(60)
    few, many = Mahalanobis(classes=3), Mahalanobis(classes=7)
    for score in (few, many):
        score.update(train, labels)
    np.testing.assert_allclose(few(train), many(train))


def test_half_precision_is_computed_in_single():
    torch = pytest.importorskip("torch")
    train, labels = (torch.from_numpy(x) for x in sample(60))
    score = Mahalanobis(classes=3)
    score.update(train.bfloat16(), labels)
    assert score(train.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("name", SCORES)
def test_what_is_too_far_for_its_dtype_is_infinitely_far(name):
    gate = NoveltyGate(learned(name), alpha=0.05)
    gate.calibrate(sample(100, seed=3)[0])
    far = np.full((1, 4), 1e308)
    assert gate.score(far).tolist() == [math.inf]
    assert gate.weights(far).tolist() == [0.0]
    assert np.isinf(gate.score(np.full((1, 4), math.nan), check=False)).all()


@pytest.mark.parametrize("name", SCORES)
def test_no_rows_teach_nothing(name):
    score, (rows, labels) = SCORES[name](), sample(40)
    score.update(rows[:0], labels[:0])
    with pytest.raises(ValueError, match=r"must be fitted before use: call update\(\) with training features"):
        score(rows)
    score.update(rows, labels)
    np.testing.assert_allclose(score(rows[:5]), learned(name, rows=40)(rows[:5]))
    assert score(rows[:0]).shape == (0,)


def test_rows_all_alike_make_everything_else_new():
    score = Mahalanobis()
    score.update(np.ones((20, 3)))
    near, far = score(np.asarray([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0]]))
    assert near < 1e-9 < far


@pytest.mark.parametrize("name", SCORES)
def test_p_values_are_no_smaller_than_uniform_ones(name):
    """Over draws of calibration and test rows P(p ≤ t) ≤ t, and the weight falls below 1 for a share of at most α."""
    score, rng = learned(name, rows=200), np.random.default_rng(5)
    runs, n, alpha = 2000, 19, 0.25
    rows, _ = sample(runs * (n + 1), seed=6)
    values = score(rows).reshape(runs, n + 1)
    gates = []
    for run in values:
        gate = NoveltyGate(lambda scores: scores, alpha=alpha)
        gate.calibrate(run[:n])
        gates.append((gate.p_values(run[n:])[0], gate.p_values(run[n:], u=rng.random())[0], gate.weights(run[n:])[0]))
    p, smoothed, weights = np.asarray(gates).T
    for level in (0.05, 0.1, 0.25, 0.5, 0.9):
        bound = 4 * math.sqrt(level * (1 - level) / runs)  # four standard errors: one in 16,000
        assert (p <= level).mean() < level + bound
        assert abs((smoothed <= level).mean() - level) < bound
    assert abs((weights < 1).mean() - alpha) < 4 * math.sqrt(alpha * (1 - alpha) / runs)
    np.testing.assert_array_equal(weights < 1, p <= alpha)


@given(st.lists(st.floats(0, 1e6), min_size=10, max_size=40), st.floats(0, 1e9), st.floats(0, 1e9))
def test_weights_fall_with_distance(calibration, one, other):
    gate = NoveltyGate(lambda scores: scores, alpha=0.2)
    gate.calibrate(np.asarray(calibration))
    near, far = gate.weights(np.asarray(sorted((one, other))))
    assert 0 <= far <= near <= 1
    if far < 1:
        assert far == pytest.approx(float(gate.qhat) / max(one, other))


def test_a_gate_of_many_kinds(lib):
    score, (rows, _) = learned("classes", lib), sample(200, seed=3)
    gate = NoveltyGate(score, alpha=0.05)
    gate.calibrate(lib(rows[:100]))
    noisy = rows[100:] + 20 * np.random.default_rng(0).normal(size=(100, 4))
    clean, broken = (lib.back(gate.weights(lib(x))) for x in (rows[100:], noisy))
    assert (clean < 1).mean() < 0.15
    assert np.median(broken) < 0.1
    assert lib.back(gate.p_values(lib(noisy))).max() <= 1
    again = NoveltyGate(SCORES["classes"](), alpha=0.05)
    again.load_state_dict(gate.state_dict())
    np.testing.assert_array_equal(lib.back(again.weights(lib(noisy))), broken)


def test_detectors_of_scikit_learn_are_scores():
    forest = pytest.importorskip("sklearn.ensemble").IsolationForest(random_state=0)
    train, asked = sample(200)[0], sample(200, seed=3)[0]
    forest.fit(train)
    gate, again = (NoveltyGate(lambda rows: -forest.score_samples(rows), alpha=0.05) for _ in range(2))
    gate.calibrate(asked[:100])
    again.load_state_dict(gate.state_dict())
    assert again.p_values(np.full((1, 4), 99.0)) == gate.p_values(np.full((1, 4), 99.0)) <= 2 / 101
    assert (gate.p_values(asked[100:]) <= 0.05).mean() < 0.15
    for other, state in (
        (NoveltyGate(Mahalanobis(), alpha=0.05), gate),
        (gate, NoveltyGate(Mahalanobis(), alpha=0.05)),
    ):
        with pytest.raises(ValueError, match="must hold a score of the same kind"):
            other.load_state_dict(state.state_dict())


def test_a_window_follows_inputs_that_drift():
    score, rng = learned("no classes"), np.random.default_rng(0)
    old, new = (rng.normal(size=(400, 4)) * scale for scale in (1, 8))
    fixed, follows = NoveltyGate(score, alpha=0.05), NoveltyGate(score, alpha=0.05, memory=Window(200))
    for gate in (fixed, follows):
        gate.calibrate(old)
    follows.update(new)
    assert (len(fixed.memory), len(follows.memory)) == (400, 200)
    assert follows.qhat == conformal_quantile(score(new)[-200:], alpha=0.05)
    assert (fixed.weights(new) < 1).mean() > 0.5
    assert (follows.weights(new) < 1).mean() < 0.1


def test_a_calibration_row_that_is_infinitely_far_counts_as_such():
    gate = NoveltyGate(learned("classes"), alpha=0.4)
    assert gate.alpha == 0.4
    assert NoveltyGate(learned("classes")).alpha == 0.05
    gate.calibrate(np.full((1, 4), 1e308))
    gate.update(np.full((1, 4), math.nan), check=False)
    gate.update(sample(7)[0])
    nothing = np.full((1, 4), math.nan)
    assert gate.weights(nothing, check=False).tolist() == [0.0]
    assert gate.p_values(nothing, check=False).tolist() == [0.3]
    for ask in (gate.calibrate, gate.update, gate.weights, gate.p_values):
        with pytest.raises(ValueError, match="features must be finite"):
            ask(nothing)


@pytest.mark.parametrize("name", SCORES)
def test_a_p_value_is_smoothed_by_the_draw_that_is_given(name):
    """Beyond all of 9 calibration rows it is u / 10, and 1 / 10 without a draw."""
    gate = NoveltyGate(learned(name), alpha=0.4)
    gate.calibrate(sample(9)[0])
    far = np.full((2, 4), 1e6)
    assert gate.p_values(far).tolist() == [0.1, 0.1]
    assert gate.p_values(far, u=0.5).tolist() == [0.05, 0.05]
    assert gate.p_values(far, u=np.asarray([0.0, 1.0])).tolist() == [0.0, 0.1]


@pytest.mark.parametrize("name", SCORES)
def test_a_state_says_what_it_is_of(name):
    score = learned(name)
    gate = NoveltyGate(score, alpha=0.05)
    for one in (score, gate):
        state = one.state_dict()
        assert (state["kind"], state["version"]) == (type(one).__name__, 1)
        with pytest.raises(ValueError, match=f"state must be of kind '{type(one).__name__}', got 'Window'"):
            one.load_state_dict(state | {"kind": "Window"})


def test_too_few_calibration_rows_gate_nothing_and_say_so():
    gate = NoveltyGate(learned("classes"), alpha=0.05)
    gate.calibrate(sample(10)[0])
    with pytest.warns(UserWarning, match="10 calibration scores are too few"):
        assert gate.weights(sample(5)[0] * 100).tolist() == [1.0] * 5


def test_a_gate_compiles_into_one_graph():
    torch = pytest.importorskip("torch")
    gate = NoveltyGate(learned("classes", lambda x: torch.from_numpy(np.asarray(x))), alpha=0.05)
    gate.calibrate(torch.from_numpy(sample(100, seed=3)[0]))
    asked = torch.from_numpy(sample(8, seed=4)[0])
    compiled = torch.compile(lambda x: gate.weights(x, check=False), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(asked), gate.weights(asked))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Mahalanobis(classes=0), ValueError, "classes must be at least 1, got 0"),
        (lambda: Mahalanobis(shrinkage=1.5), ValueError, r"shrinkage must lie in \[0, 1\], got 1.5"),
        (lambda: Mahalanobis(shrinkage="oas"), ValueError, "shrinkage must be one of 'ledoit-wolf', got 'oas'"),
        (lambda: Mahalanobis(shrinkage=None), TypeError, "shrinkage must be a number, got NoneType"),
        (lambda: Mahalanobis()(np.zeros((1, 2))), ValueError, "Mahalanobis must be fitted before use"),
        (lambda: Mahalanobis(classes=2).update(np.zeros((1, 2))), TypeError, "labels must be given to a score"),
        (
            lambda: Mahalanobis(classes=2).update(np.zeros((1, 2)), np.asarray([2])),
            ValueError,
            r"labels must lie in 0\.\.1, got 2 at row 0",
        ),
        (
            lambda: Mahalanobis().update(np.asarray(0.5)),
            ValueError,
            r"must have shape \(\.\.\., d\), got \(\)",
        ),
        (lambda: Mahalanobis().update(np.zeros((2, 3), dtype=bool)), TypeError, "features must hold real floating"),
        (lambda: Mahalanobis().update(np.full((1, 2), math.nan)), ValueError, r"finite, got nan at index \(0, 0\)"),
        (
            lambda: learned("classes")(np.zeros((1, 5))),
            ValueError,
            r"must have shape \(\.\.\., 4\), got \(1, 5\)",
        ),
        (lambda: learned("classes")(np.full((1, 4), math.inf)), ValueError, "features must be finite"),
        (lambda: NoveltyGate("knn"), TypeError, "score must"),
        (lambda: NoveltyGate(Mahalanobis(), memory=3), TypeError, "memory must have the methods of Memory, got int"),
        (lambda: NoveltyGate(Mahalanobis(), alpha=0.0), ValueError, r"alpha must lie in \(0, 1\), got 0.0"),
        (
            lambda: NoveltyGate(Mahalanobis(), alpha=0.1).load_state_dict(NoveltyGate(Mahalanobis()).state_dict()),
            ValueError,
            "state of NoveltyGate must have alpha = '1/10' as here, got '1/20'",
        ),
        (
            lambda: Mahalanobis(classes=2).load_state_dict(Mahalanobis(classes=3).state_dict()),
            ValueError,
            "state of Mahalanobis must have classes = 2 as here, got 3",
        ),
    ],
)
def test_bad_use_is_refused(call, kind, message):
    with pytest.raises(kind, match=message), warnings.catch_warnings():
        call()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_row_that_ties_with_the_threshold_has_weight_one_in_a_batch_of_any_size(lib, dtype):
    """A product of matrices is rounded otherwise for one row than for many."""
    rng = np.random.default_rng(0)
    score = Mahalanobis()
    score.update(lib(rng.normal(size=(300, 33)).astype(dtype)))
    rows = rng.normal(size=(49, 33)).astype(dtype)
    for alpha in (0.1, 0.3, 0.5):
        gate = NoveltyGate(score, alpha=alpha)
        gate.calibrate(lib(rows))
        at_most = 49 - int(50 * (1 - alpha))
        alone = [lib.back(gate.weights(lib(row[None])))[0] for row in rows]
        p = np.asarray([lib.back(gate.p_values(lib(row[None])))[0] for row in rows])
        assert sum(w < 1 for w in alone) == at_most
        assert ((p > alpha) == (np.asarray(alone) == 1)).all()


def test_a_gate_whose_memory_is_refused_keeps_its_score():
    rng = np.random.default_rng(0)
    gates = [NoveltyGate(Mahalanobis()) for _ in range(2)]
    for gate in gates:
        gate.score.update(rng.normal(size=(50, 3)))
        gate.calibrate(rng.normal(size=(20, 3)))
    rows = rng.normal(size=(5, 3))
    before = gates[0].score(rows)
    with pytest.raises(ValueError, match="state must be of kind 'Fixed'"):
        gates[0].load_state_dict(gates[1].state_dict() | {"memory": {"kind": "other"}})
    assert (gates[0].score(rows) == before).all()
