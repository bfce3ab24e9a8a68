"""What all predictors have in common: `calibrate` replaces, `update` adds, and one rule where scores are too few."""

import math
import warnings

import numpy as np
import pytest

import conformal_core
from conformal_core import (
    ACI,
    LAC,
    SAOCP,
    AbsoluteResidual,
    AsymmetricRegressor,
    CalibrationBuffer,
    ClassConditionalClassifier,
    ClusteredClassifier,
    ConformalPID,
    Constant,
    DecayingStep,
    DtACI,
    Exponential,
    Fixed,
    History,
    Mahalanobis,
    Mondrian,
    NoveltyGate,
    OnlineClassifier,
    OnlineRegressor,
    QuantileLevel,
    Reservoir,
    Sketch,
    SplitClassifier,
    SplitRegressor,
    ThresholdLevel,
    Window,
)

OFFLINE = {
    "split": lambda: SplitClassifier(LAC(), alpha=0.1),
    "split, regression": lambda: SplitRegressor(AbsoluteResidual(), alpha=0.1),
    "asymmetric": lambda: AsymmetricRegressor(
        *(SplitRegressor(AbsoluteResidual(side=side), alpha=0.1) for side in ("lower", "upper"))
    ),
    "mondrian, classes": lambda: ClassConditionalClassifier(LAC(), alpha=0.1),
    "mondrian, groups": lambda: Mondrian(SplitClassifier(LAC(), alpha=0.1)),
    "clustered": lambda: ClusteredClassifier(LAC(), alpha=0.1),
    "gate": lambda: NoveltyGate(learned(), alpha=0.1),
}
LEVELS = {
    "constant": lambda: Constant(alpha=0.1),
    "aci": lambda: ACI(alpha=0.1),
    "dtaci": lambda: DtACI(alpha=0.1),
    "decaying": lambda: DecayingStep(alpha=0.1),
    "pid": lambda: ConformalPID(alpha=0.1, forecast=lambda last: 0.0 if last is None else last / 2),
    "saocp": lambda: SAOCP(alpha=0.1),
}
MEMORIES = {
    "history": History,
    "window": lambda: Window(40),
    "exponential": lambda: Exponential(0.9),
    "reservoir": lambda: Reservoir(30, seed=3),
    "sketch": lambda: Sketch(16),
    "fixed": Fixed,
}
ONLINE = {
    **{name: lambda make=make: OnlineClassifier(LAC(), level=make()) for name, make in LEVELS.items()},
    **{
        name: lambda make=make: OnlineRegressor(AbsoluteResidual(), alpha=0.1, memory=make())
        for name, make in MEMORIES.items()
    },
}
PREDICTORS = OFFLINE | ONLINE


def learned() -> Mahalanobis:
    score = Mahalanobis()
    score.update(np.random.default_rng(0).normal(size=(50, 3)))
    return score


def rows(predictor, count: int, seed: int, lib=np.asarray) -> tuple:
    """Arguments of `calibrate`."""
    rng = np.random.default_rng(seed)
    if isinstance(predictor, NoveltyGate):
        return (lib(rng.normal(size=(count, 3))),)
    if isinstance(predictor, (SplitRegressor, OnlineRegressor, AsymmetricRegressor)):
        return lib(rng.normal(size=count)), lib(rng.normal(size=count))
    return lib(rng.dirichlet(np.ones(3), size=count)), lib(rng.integers(0, 3, count))


def call(predictor, method: str, *arguments):
    """Call a method with rows, and with groups if the predictor needs them."""
    groups = {"groups": np.arange(arguments[0].shape[0]) % 2} if isinstance(predictor, Mondrian) else {}
    return getattr(predictor, method)(*arguments, **groups)


def use(predictor, arguments: tuple) -> None:
    """Calibrate, unless there is no row, and ask for the threshold of a prediction."""
    if len(arguments[0]):
        call(predictor, "calibrate", *arguments)
    if hasattr(predictor, "pending"):
        predictor.predict(rows(predictor, 1, seed=5)[0])
    assert np.isinf(predictor.qhat).all()


def quietly(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments)


def test_every_public_predictor_is_tried():
    names = {n for n in conformal_core.__all__ if n.endswith(("Classifier", "Regressor", "Gate", "Mondrian"))}
    assert names == {type(make()).__name__ for make in PREDICTORS.values()}


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.filterwarnings("ignore:.*too few for alpha")
def test_calibrate_replaces_all_that_was_learned(name):
    predictor, fresh = PREDICTORS[name](), PREDICTORS[name]()
    call(predictor, "calibrate", *rows(predictor, 50, seed=1))
    if name in ONLINE:  # rows are predicted and learned, and one waits for its label
        predictor.predict(rows(predictor, 5, seed=2)[0])
        predictor.update(*(part[:4] for part in rows(predictor, 5, seed=2)))
    for one in (predictor, fresh):
        call(one, "calibrate", *rows(one, 100, seed=3))
    np.testing.assert_equal(predictor.state_dict(), fresh.state_dict())
    if name == "history":
        assert len(predictor.memory) == 100


@pytest.mark.parametrize("name", ["split", "split, regression", "gate", "constant", "history", "window", "exponential"])
def test_update_adds(name):
    parts, whole = PREDICTORS[name](), PREDICTORS[name]()
    arguments = rows(parts, 60, seed=1)
    parts.calibrate(*(part[:20] for part in arguments))
    parts.update(*(part[20:] for part in arguments))
    whole.calibrate(*arguments)
    np.testing.assert_equal(parts.state_dict(), whole.state_dict())


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_refused_calibration_changes_nothing(name):
    predictor = PREDICTORS[name]()
    quietly(call, predictor, "calibrate", *rows(predictor, 50, seed=1))
    before = predictor.state_dict()
    first, *others = rows(predictor, 50, seed=2)
    first[3] = np.nan
    with pytest.raises(ValueError, match="must"):
        call(predictor, "calibrate", first, *others)
    np.testing.assert_equal(predictor.state_dict(), before)


@pytest.mark.parametrize("name", [name for name in PREDICTORS if name not in {"decaying", "pid", "saocp"}])
@pytest.mark.parametrize("count", [0, 2])
def test_too_few_rows_give_full_sets_and_one_warning(name, count):
    """Before calibration, too. A level whose unit of the score was neither given nor learned is another matter."""
    predictor = PREDICTORS[name]()
    if count:
        quietly(call, predictor, "calibrate", *rows(predictor, count, seed=1))
    test = rows(predictor, 4, seed=2)
    expected = r"calibration scores? .*(is|are) too few for alpha = 0\.1"
    if name == "gate":
        with pytest.warns(UserWarning, match=expected):
            weights = predictor.weights(*test)
        assert (weights == 1).all()
    else:
        sets = quietly(call, predictor, "predict", test[0])
        assert np.isinf(sets).all() or sets.all()
    again = PREDICTORS[name]()
    arguments = rows(again, count, seed=1)
    with pytest.warns(UserWarning, match=expected):
        use(again, arguments)
    assert np.isinf(quietly(lambda: again.qhat)).all()


@pytest.mark.parametrize("name", ONLINE)
def test_the_threshold_of_a_stream_is_an_array(name):
    predictor = PREDICTORS[name]()
    predictor.calibrate(*rows(predictor, 60, seed=1))
    assert type(predictor.qhat) is np.ndarray
    assert (predictor.qhat.shape, predictor.qhat.dtype) == ((), np.float64)


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.filterwarnings("ignore:.*too few for alpha")
def test_the_threshold_is_an_array_of_the_library_of_the_rows(name, lib):
    predictor = PREDICTORS[name]()
    assert type(predictor.qhat) is np.ndarray
    if name == "gate":
        predictor.score.load_state_dict(Mahalanobis().state_dict())
        predictor.score.update(lib(np.random.default_rng(0).normal(size=(50, 3))))
    for count in (2, 60):
        call(predictor, "calibrate", *rows(predictor, count, seed=1, lib=lib))
        assert type(predictor.qhat) is type(lib(np.zeros(1)))
        assert predictor.qhat.shape == {
            "asymmetric": (2,),
            "mondrian, classes": (3,),
            "mondrian, groups": (2,),
            "clustered": (3,),
        }.get(name, ())


def test_levels_say_in_their_type_whether_they_look_at_the_memory():
    kinds = {name: isinstance(make(), QuantileLevel) for name, make in LEVELS.items()}
    assert [name for name, looks in kinds.items() if looks] == ["constant", "aci", "dtaci"]
    for name, looks in kinds.items():
        level = LEVELS[name]()
        if not looks:
            assert isinstance(level, ThresholdLevel)
            level.calibrate([0.1, 0.5, 0.9])
            level.update(0.7, level.threshold())
            assert math.isfinite(level.threshold())


def test_a_buffer_of_training_is_no_memory_of_a_stream():
    assert not isinstance(CalibrationBuffer(3), conformal_core.Memory)
    assert all(isinstance(make(), conformal_core.Memory) for make in MEMORIES.values())


def test_the_public_surface_is_small():
    assert len(conformal_core.__all__) < 80
