"""What objects show of themselves, and what clones of them start from."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import conformal_core
from conformal_core import (
    ACI,
    APS,
    CQR,
    LAC,
    RAPS,
    SAOCP,
    SAPS,
    AbsoluteResidual,
    AsymmetricRegressor,
    CalibrationBuffer,
    ClassConditionalClassifier,
    ClassificationScore,
    ClusteredClassifier,
    ConfidenceSequence,
    ConformalPID,
    Constant,
    Coverage,
    DecayingStep,
    DtACI,
    EllipsoidResidual,
    ExchangeabilityTest,
    Exponential,
    Fixed,
    History,
    Horizons,
    Interval,
    Level,
    Mahalanobis,
    Margin,
    Martingale,
    MaxResidual,
    Memory,
    MixtureMartingale,
    Mondrian,
    NonconformityScore,
    NormalizedResidual,
    NoveltyGate,
    OnlineClassifier,
    OnlineRegressor,
    PluginMartingale,
    PowerMartingale,
    PredictiveSystem,
    QuantileLevel,
    RegressionScore,
    Reservoir,
    SimpleJumper,
    Sketch,
    SplitClassifier,
    SplitRegressor,
    Streams,
    Threshold,
    ThresholdLevel,
    Window,
    class_coverage,
    coverage,
)
from conformal_core.scores.base import ClassificationScore as Base


def forecast(last):
    return 0.0 if last is None else last


SHOWN = {
    "LAC()": LAC(),
    "Margin(normalized=False)": Margin(normalized=False),
    "APS(randomized=True)": APS(randomized=True),
    "RAPS(penalty=0.5, free_ranks=3)": RAPS(penalty=np.float64(0.5), free_ranks=np.int64(3)),
    "SAPS(weight=0.25)": SAPS(weight=np.float32(0.25)),
    "AbsoluteResidual()": AbsoluteResidual(),
    "NormalizedResidual()": NormalizedResidual(),
    "CQR()": CQR(),
    "CQR(side='upper')": CQR(side="upper"),
    "MaxResidual(scale=(1.0, 2.0))": MaxResidual(np.asarray([1, 2])),
    "EllipsoidResidual(covariance=((2.0, 0.5), (0.5, 1.0)))": EllipsoidResidual([[2, 0.5], [0.5, 1]]),
    "History()": History(),
    "Fixed()": Fixed(),
    "Window(9)": Window(np.int64(9)),
    "Reservoir(9)": Reservoir(9),
    "Reservoir(9, seed=2)": Reservoir(9, seed=2),
    "Exponential(0.5)": Exponential(np.float64(0.5)),
    "Sketch()": Sketch(),
    "Sketch(size=4)": Sketch(4),
    "CalibrationBuffer(5)": CalibrationBuffer(5),
    "CalibrationBuffer(5, like=numpy.zeros((), dtype=numpy.float32))": CalibrationBuffer(5, like=np.float32(0)),
    "Constant(alpha=0.1)": Constant(alpha=Decimal("0.1")),
    "Constant(alpha='12345678901234567891/100000000000000000000')": Constant(alpha="0.12345678901234567891"),
    "ACI(alpha=0.1)": ACI(alpha=Fraction(1, 10)),
    "ACI(alpha=0.1, gamma=0.25)": ACI(alpha="1/10", gamma="1/4"),
    "DtACI(alpha=0.1)": DtACI(alpha=0.1),
    "DtACI(alpha=0.1, gammas=(0.5,), window=7)": DtACI(alpha=0.1, gammas=np.asarray([0.5]), window=np.int64(7)),
    "DecayingStep(alpha=0.1)": DecayingStep(alpha=0.1),
    "DecayingStep(alpha=0.1, start=2.0, rate=1.0, epsilon=0.25)": DecayingStep(
        alpha=0.1, start=2, rate=1, epsilon=0.25
    ),
    "ConformalPID(alpha=0.1, start=1.0, forecast=forecast)": ConformalPID(alpha=0.1, start=1, forecast=forecast),
    "SAOCP(alpha=0.1, scale=2.0, lifetime=4)": SAOCP(alpha=0.1, scale=2, lifetime=4),
    "SplitClassifier(LAC(), alpha=0.1)": SplitClassifier(LAC(), alpha=np.float64(0.1)),
    "SplitRegressor(CQR(), alpha='1/10')": SplitRegressor(CQR(), alpha="1/10"),
    "ClassConditionalClassifier(LAC(), alpha=0.1)": ClassConditionalClassifier(LAC(), alpha=0.1),
    "Mondrian(SplitRegressor(CQR(), alpha=0.1))": Mondrian(SplitRegressor(CQR(), alpha=0.1)),
    "ClusteredClassifier(LAC(), alpha=0.1, clusters=2, clustering_fraction=0.5, seed=3)": ClusteredClassifier(
        LAC(), alpha=0.1, clusters=2, clustering_fraction=0.5, seed=3
    ),
    "OnlineClassifier(LAC(), alpha=0.1, memory=History())": OnlineClassifier(LAC(), alpha=0.1),
    "OnlineRegressor(CQR(), memory=Window(3), level=ACI(alpha=0.1), max_pending=5)": OnlineRegressor(
        CQR(), memory=Window(3), level=ACI(alpha=0.1), max_pending=5
    ),
    "AsymmetricRegressor(SplitRegressor(CQR(side='lower'), alpha=0.1), SplitRegressor(CQR(side='upper'), alpha=0.2))": (
        AsymmetricRegressor(SplitRegressor(CQR(side="lower"), alpha=0.1), SplitRegressor(CQR(side="upper"), alpha=0.2))
    ),
    "Streams(OnlineRegressor(CQR(), alpha=0.1, memory=Window(3)), 4)": Streams(
        OnlineRegressor(CQR(), alpha=0.1, memory=Window(3)), 4
    ),
    "Horizons(OnlineRegressor(CQR(), alpha=0.1, memory=History()), 3, shared=True)": Horizons(
        OnlineRegressor(CQR(), alpha=0.1), 3, shared=True
    ),
    "PredictiveSystem(NormalizedResidual(), memory=Window(3))": PredictiveSystem(
        NormalizedResidual(), memory=Window(3)
    ),
    "Mahalanobis()": Mahalanobis(),
    "Mahalanobis(classes=3, shrinkage=0.5)": Mahalanobis(classes=3, shrinkage=np.float64(0.5)),
    "SimpleJumper(one_sided=False)": SimpleJumper(one_sided=False),
    "PowerMartingale(epsilon=0.25)": PowerMartingale(epsilon=0.25),
    "PluginMartingale(stake=1.0)": PluginMartingale(stake=1),
    "MixtureMartingale()": MixtureMartingale(),
    "MixtureMartingale(parts=[PowerMartingale(), SimpleJumper()])": MixtureMartingale(
        [PowerMartingale(), SimpleJumper()]
    ),
    "ConfidenceSequence()": ConfidenceSequence(),
    "ExchangeabilityTest(delta=0.05)": ExchangeabilityTest(delta=0.05),
    "ExchangeabilityTest(martingale=PowerMartingale(), alarm='cusum')": ExchangeabilityTest(
        martingale=PowerMartingale(), alarm="cusum"
    ),
    "NoveltyGate(Mahalanobis(), alpha=0.1, memory=Window(3))": NoveltyGate(Mahalanobis(), alpha=0.1, memory=Window(3)),
}
NAMES = {**vars(conformal_core), "numpy": np, "array": np.array, "nan": math.nan, "forecast": forecast}


def rebuilt(text):
    return eval(text, NAMES)  # noqa: S307  # what a user pastes


def test_every_public_class_is_shown_here():
    public = {value for name in conformal_core.__all__ if isinstance(value := getattr(conformal_core, name), type)}
    bases = {
        NonconformityScore,
        ClassificationScore,
        RegressionScore,
        Memory,
        Level,
        QuantileLevel,
        ThresholdLevel,
        Martingale,
    }
    values = {Coverage, Interval, Threshold}  # tuples of numbers
    assert public - bases - values == {type(value) for value in SHOWN.values()}


@pytest.mark.parametrize(("text", "value"), SHOWN.items(), ids=SHOWN)
def test_an_object_shows_the_source_that_rebuilds_it(text, value):
    assert repr(value) == text
    assert repr(rebuilt(text)) == text
    clone = value.__sklearn_clone__()
    assert clone is not value
    assert repr(clone) == text


def test_what_was_learned_is_neither_shown_nor_cloned():
    predictor = OnlineRegressor(AbsoluteResidual(), memory=Window(3), level=DecayingStep(alpha=0.5))
    before = repr(predictor)
    predictor.calibrate([0.0, 0.0], [1.0, 2.0])
    predictor.predict([0.0])
    predictor.update([0.0], [1.0])
    assert repr(predictor) == before
    clone = predictor.__sklearn_clone__()
    assert len(clone.memory) == clone.pending == 0
    assert clone.memory is not predictor.memory
    np.testing.assert_equal(clone.state_dict(), rebuilt(before).state_dict())
    split = SplitClassifier(LAC(), alpha=0.5)
    split.calibrate([[0.5, 0.5]] * 3, [0, 1, 1])
    np.testing.assert_equal(split.__sklearn_clone__().state_dict(), SplitClassifier(LAC(), alpha=0.5).state_dict())
    gate = NoveltyGate(Mahalanobis())
    gate.score.update([[1.0, 2.0]])
    with pytest.raises(ValueError, match="Mahalanobis must be fitted before use"):
        gate.__sklearn_clone__().weights([1.0, 2.0])


def test_scikit_learn_clones_predictors():
    clone = pytest.importorskip("sklearn.base").clone
    predictor = SplitClassifier(LAC(), alpha=0.5)
    predictor.calibrate([[0.5, 0.5]], [0])
    assert repr(clone(predictor)) == repr(predictor)
    assert clone(predictor).state_dict()["memory"]["scores"] is None


def test_results_show_plain_numbers():
    one = coverage([[True, False], [True, True]], [0, 1])
    assert repr(one).startswith("Coverage(coverage=1.0, low=0.3423")
    assert rebuilt(repr(one)) == one
    each = class_coverage([[True, False], [True, True]], [0, 0])
    assert repr(each).startswith("Coverage(coverage=array([ 1., nan])")
    np.testing.assert_allclose(rebuilt(repr(each)), each, atol=1e-8)


class Bare(Base):
    """A score as short as the documentation says."""

    def compute(self, probs, labels, u):
        return 1 - probs if labels is None else conformal_core.sets.take_label(1 - probs, labels)


class Elsewhere(Level):
    """A level that keeps its argument under another name."""

    def __init__(self, alpha):
        self.level = alpha

    def threshold(self, memory, /):
        return float(memory.quantile(self.level))

    def update(self, score, threshold, memory, /):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class NoBase:
    """A memory that has the methods and nothing else."""

    def __len__(self):
        return 0

    reset = add = extend = quantile = p_values = state_dict = load_state_dict = __len__


def test_classes_of_users_are_shown_and_cloned_where_they_can_be():
    assert repr(SplitClassifier(Bare(), alpha=0.1)) == "SplitClassifier(Bare(), alpha=0.1)"
    assert "Elsewhere object at" in repr(Elsewhere(Fraction(1, 10)))
    with pytest.raises(TypeError, match="Elsewhere must keep the arguments of its constructor to be cloned"):
        OnlineClassifier(LAC(), level=Elsewhere(Fraction(1, 10))).__sklearn_clone__()
    with pytest.raises(TypeError, match="memory must have the method __sklearn_clone__ to be cloned, got NoBase"):
        OnlineClassifier(LAC(), alpha=0.1, memory=NoBase()).__sklearn_clone__()
