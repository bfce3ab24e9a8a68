"""Several miscoverages at once, their complement, and smoothed sets."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformal_core import (
    ACI,
    APS,
    LAC,
    AbsoluteResidual,
    AsymmetricRegressor,
    ClassConditionalClassifier,
    ClusteredClassifier,
    ConfidenceSequence,
    ExchangeabilityTest,
    Horizons,
    Mondrian,
    OnlineClassifier,
    OnlineRegressor,
    PredictiveSystem,
    SplitClassifier,
    SplitRegressor,
    Streams,
    Window,
    coverage,
)

RNG = np.random.default_rng(0)
PROBS, LABELS = RNG.dirichlet(np.ones(4), size=60).round(2), RNG.integers(0, 4, 60)
PROBS[:, 0] += 1 - PROBS.sum(1)
PROBS = np.abs(PROBS)
PROBS /= PROBS.sum(1, keepdims=True)
PREDICTIONS, TARGETS = RNG.normal(size=(2, 60))
ALPHAS = st.lists(st.integers(1, 60).map(lambda k: Fraction(k, 61)), min_size=1, max_size=4)
CLASSIFIERS, REGRESSORS = [SplitClassifier, OnlineClassifier], [SplitRegressor, OnlineRegressor]


def calibrated(predictor):
    rows = (PREDICTIONS, TARGETS) if type(predictor) in REGRESSORS else (PROBS, LABELS)
    predictor.calibrate(*rows)
    return predictor


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", CLASSIFIERS)
@given(alphas=ALPHAS, rows=st.sampled_from([0, slice(0, 1), slice(0, 20)]), nonempty=st.booleans())
def test_sets_of_several_alphas_are_those_of_each_and_nested(kind, dtype, alphas, rows, nonempty):
    probs = PROBS[rows].astype(dtype)
    predictor = calibrated(kind(LAC(), alpha=alphas))
    sets = predictor.predict(probs, nonempty=nonempty)
    each = [calibrated(kind(LAC(), alpha=alpha)) for alpha in alphas]
    assert sets.tolist() == [one.predict(probs, nonempty=nonempty).tolist() for one in each]
    assert predictor.qhat.tolist() == [one.qhat.tolist() for one in each]
    if dtype == "f8" and not nonempty:
        p = predictor.p_values(probs)
        assert sets.tolist() == [(p > float(alpha)).tolist() for alpha in alphas]
    ordered = sets[np.argsort(alphas, kind="stable")]
    assert (ordered[1:] <= ordered[:-1]).all()


@pytest.mark.parametrize("kind", REGRESSORS)
@given(alphas=ALPHAS)
def test_intervals_of_several_alphas_are_those_of_each(kind, alphas):
    intervals = calibrated(kind(AbsoluteResidual(), alpha=alphas)).predict(PREDICTIONS[:5])
    each = [calibrated(kind(AbsoluteResidual(), alpha=alpha)).predict(PREDICTIONS[:5]) for alpha in alphas]
    np.testing.assert_array_equal(intervals, np.stack(each))
    one = calibrated(kind(AbsoluteResidual(), alpha=alphas)).predict(PREDICTIONS[0])
    np.testing.assert_array_equal(one, intervals[:, 0])


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_sets_of_a_randomized_score_are_nested_too(kind):
    predictor = calibrated(kind(APS(randomized=True), alpha=[0.5, 0.2, 0.8]))
    for _ in range(20):
        half, fifth, most = predictor.predict(PROBS)
        assert (most <= half).all()
        assert (half <= fifth).all()


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_tensors_have_sets_of_several_alphas(kind):
    torch = pytest.importorskip("torch")
    sets = calibrated(kind(LAC(), alpha=[0.2, 0.5])).predict(torch.from_numpy(PROBS))
    assert isinstance(sets, torch.Tensor)
    assert sets.tolist() == calibrated(kind(LAC(), alpha=[0.2, 0.5])).predict(PROBS).tolist()


@pytest.mark.parametrize("alphas", [[0.2, "1/2"], (0.2, 0.5), np.asarray([0.2, 0.5])], ids=["list", "tuple", "array"])
def test_states_and_copies_keep_all_alphas(alphas):
    for kind in CLASSIFIERS:
        made, other = calibrated(kind(LAC(), alpha=alphas)), kind(LAC(), confidence=("4/5", 0.5))
        other.load_state_dict(made.state_dict())
        assert other.predict(PROBS).tolist() == made.predict(PROBS).tolist()
        assert re.search(r"alpha=[\[(]0\.2, ", repr(made))
        assert calibrated(made.__sklearn_clone__()).predict(PROBS).shape == (2, 60, 4)
        with pytest.raises(ValueError, match="must have alpha = "):
            kind(LAC(), alpha=[0.2, 0.6]).load_state_dict(made.state_dict())


def test_one_warning_covers_all_alphas():
    with pytest.warns(UserWarning, match="too few for alpha = 0.001") as warned:
        calibrated(SplitClassifier(LAC(), alpha=[0.5, 0.001])).predict(PROBS)
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassConditionalClassifier(LAC(), alpha=[0.1]), "alpha must be one real number, got list"),
        (lambda: ClusteredClassifier(LAC(), confidence=[0.9]), "confidence must be one real number, got list"),
        (lambda: ACI(alpha=[0.1, 0.2]), "alpha must be one real number, got list"),
        (lambda: Mondrian(SplitClassifier(LAC(), alpha=[0.1, 0.2])), "predictor must have one alpha, got 2"),
        (lambda: Horizons(OnlineClassifier(LAC(), alpha=[0.1, 0.2]), 2), "predictor must have one alpha, got 2"),
        (
            lambda: Streams(OnlineClassifier(LAC(), alpha=[0.1, 0.2], memory=Window(9)), 2),
            "predictor must have one alpha, got 2",
        ),
        (
            lambda: AsymmetricRegressor(
                SplitRegressor(AbsoluteResidual(side="lower"), alpha=[0.1]),
                SplitRegressor(AbsoluteResidual(side="upper"), alpha=0.1),
            ),
            "lower must have one alpha, got 1",
        ),
        (
            lambda: OnlineClassifier(LAC(), alpha=[0.1], level=ACI(alpha=0.1)),
            "exactly one of alpha, confidence and level must be given, got alpha and level",
        ),
        (lambda: OnlineClassifier(LAC()), "exactly one of alpha, confidence and level must be given, got none"),
        (lambda: SplitClassifier(LAC(), alpha=0.1, confidence=0.9), "exactly one of alpha and confidence .* got both"),
    ],
)
def test_several_alphas_are_refused_where_there_is_one(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("confidence", ["0.9", "9/10", 0.9, Decimal("0.9"), Fraction(9, 10), np.float32(0.9)])
def test_confidence_is_the_exact_complement(confidence):
    kinds = [SplitClassifier, OnlineClassifier, ClassConditionalClassifier, ClusteredClassifier]
    for kind in kinds:
        made, other = kind(LAC(), confidence=confidence), kind(LAC(), alpha="1/10")
        assert made._alpha == Fraction(1, 10)
        other.load_state_dict(calibrated(made).state_dict())
        assert other.predict(PROBS).tolist() == made.predict(PROBS).tolist()
    assert repr(SplitClassifier(LAC(), confidence="9/10")) == "SplitClassifier(LAC(), confidence='9/10')"
    system = PredictiveSystem(AbsoluteResidual(side="lower"))
    system.calibrate(PREDICTIONS, TARGETS)
    np.testing.assert_array_equal(
        system.predict(PREDICTIONS, confidence=confidence), system.predict(PREDICTIONS, alpha="1/10")
    )


@pytest.mark.parametrize("form", ["0.1", "1/10", Decimal("0.1"), Fraction(1, 10), np.float32(0.1)], ids=repr)
def test_probabilities_of_tests_and_metrics_take_every_form(form):
    assert repr(ExchangeabilityTest(delta=form)) == repr(ExchangeabilityTest(delta=0.1))
    assert repr(ConfidenceSequence(confidence=form)) == repr(ConfidenceSequence(confidence=0.1))
    sets = np.ones((9, 2), dtype=bool)
    assert coverage(sets, np.zeros(9, int), confidence=form) == coverage(sets, np.zeros(9, int), confidence=0.1)


@pytest.mark.parametrize("kind", CLASSIFIERS)
@given(u=st.floats(0, 1), alphas=ALPHAS)
def test_smoothed_sets_are_those_of_smoothed_p_values(kind, u, alphas):
    predictor = calibrated(kind(LAC(), alpha=alphas))
    p = predictor.p_values(PROBS, u=u)
    assert predictor.predict(PROBS, u=u).tolist() == [(p > float(alpha)).tolist() for alpha in alphas]
    assert (predictor.predict(PROBS, u=u) <= predictor.predict(PROBS)).all()
    one = calibrated(kind(LAC(), alpha=alphas[0]))
    assert one.predict(PROBS, u=u).tolist() == predictor.predict(PROBS, u=u)[0].tolist()
    assert one.predict(PROBS, u=0.0, nonempty=True).any(-1).all()


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("rows", [0, 3, 9])
def test_smoothed_sets_cover_exactly_where_all_scores_tie(kind, rows):
    """All p-values are u, so a label is in the set exactly when u exceeds alpha; other sets are full."""
    predictor = kind(LAC(), alpha="3/10")
    equal = np.full((max(rows, 1), 2), 0.5)
    if rows:
        predictor.calibrate(equal, np.zeros(rows, dtype=int))
    draws = (np.arange(1000) + 0.5) / 1000
    sets = predictor.predict(np.full((1000, 2), 0.5), u=draws[:, None])
    assert sets.mean(0).tolist() == [0.7, 0.7]


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_generator_draws_for_each_label(kind):
    predictor = calibrated(kind(LAC(), alpha=0.3))
    sets = [predictor.predict(PROBS, u=np.random.default_rng(1)).tolist() for _ in range(2)]
    assert sets[0] == sets[1] == predictor.predict(PROBS, u=np.random.default_rng(1).random(PROBS.shape)).tolist()
    torch = pytest.importorskip("torch")
    assert predictor.predict(torch.from_numpy(PROBS), u=np.random.default_rng(1)).tolist() == sets[0]


def test_an_adaptive_level_has_no_smoothed_sets():
    predictor = OnlineClassifier(LAC(), level=ACI(alpha=0.1))
    with pytest.raises(TypeError, match="u must be left out unless the level is constant, got ACI"):
        predictor.predict(PROBS, u=0.5)
    assert predictor.pending == 0
