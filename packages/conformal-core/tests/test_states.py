"""The state of every class goes on where it was saved, and that of a newer version is refused."""

import copy
from fractions import Fraction

import numpy as np
import pytest

import conformal_core
from conformal_core import (
    ACI,
    APS,
    LAC,
    SAOCP,
    AbsoluteResidual,
    AsymmetricRegressor,
    CalibrationBuffer,
    ClassConditionalClassifier,
    ClusteredClassifier,
    ConfidenceSequence,
    ConformalPID,
    Constant,
    DecayingStep,
    DtACI,
    ExchangeabilityTest,
    Exponential,
    Fixed,
    History,
    Horizons,
    Mahalanobis,
    MixtureMartingale,
    Mondrian,
    NoveltyGate,
    OnlineClassifier,
    OnlineRegressor,
    PluginMartingale,
    PowerMartingale,
    PredictiveSystem,
    Reservoir,
    SimpleJumper,
    Sketch,
    SplitClassifier,
    SplitRegressor,
    Streams,
    Window,
)

SCORES = np.random.default_rng(0).uniform(size=60)
PROBABILITIES = np.random.default_rng(1).dirichlet(np.ones(4), 80)
LABELS = np.random.default_rng(2).integers(0, 4, 80)
VALUES = np.random.default_rng(3).normal(size=80)

LEVELS = {
    "ACI": lambda: ACI(alpha=0.1, gamma=0.05),
    "Constant": lambda: Constant(alpha=0.1),
    "ConformalPID": lambda: ConformalPID(alpha=0.1, start=1.0, rate=0.05, integral=0.2),
    "DecayingStep": lambda: DecayingStep(alpha=0.1, start=1.0, rate=1.0),
    "DtACI": lambda: DtACI(alpha=0.1, gammas=(0.01, 0.1), window=20),
    "SAOCP": lambda: SAOCP(alpha=0.1, scale=1.0),
}
MEMORIES = {
    "Exponential": lambda: Exponential(0.9),
    "Fixed": Fixed,
    "History": History,
    "Reservoir": lambda: Reservoir(10, seed=1),
    "Sketch": lambda: Sketch(4),
    "Window": lambda: Window(10),
}
CLASSIFIERS = {
    "ClusteredClassifier": lambda: ClusteredClassifier(LAC(), alpha=0.3, clusters=2),
    "ClassConditionalClassifier": lambda: ClassConditionalClassifier(LAC(), alpha=0.3),
    "OnlineClassifier": lambda: OnlineClassifier(APS(), memory=Window(20), level=ACI(alpha=0.1)),
    "SplitClassifier": lambda: SplitClassifier(LAC(), alpha=0.1),
}
REGRESSORS = {
    "AsymmetricRegressor": lambda: AsymmetricRegressor(
        SplitRegressor(AbsoluteResidual(side="lower"), alpha=0.1),
        OnlineRegressor(AbsoluteResidual(side="upper"), level=ACI(alpha=0.1)),
    ),
    "PredictiveSystem": lambda: PredictiveSystem(AbsoluteResidual(), memory=Window(30)),
    "Mondrian": lambda: Mondrian(OnlineRegressor(AbsoluteResidual(), level=ACI(alpha=0.1))),
    "OnlineRegressor": lambda: OnlineRegressor(AbsoluteResidual(), alpha=0.1, memory=Exponential(0.95)),
    "SplitRegressor": lambda: SplitRegressor(AbsoluteResidual(), alpha=0.1),
}
BUFFERS = {"CalibrationBuffer": lambda: CalibrationBuffer(20)}
FEATURES = np.random.default_rng(4).normal(size=(80, 3))
NOVELTY = {
    "Mahalanobis": Mahalanobis,
    "NoveltyGate": lambda: NoveltyGate(Mahalanobis(), alpha=0.1),
}
STREAMS = {
    "Streams": lambda: Streams(OnlineRegressor(AbsoluteResidual(), memory=Window(9), level=ACI(alpha=0.3)), 5),
    "Horizons": lambda: Horizons(OnlineRegressor(AbsoluteResidual(), memory=Window(9), level=ACI(alpha=0.3)), 5),
}
TESTS = {"ExchangeabilityTest": lambda: ExchangeabilityTest(delta=0.1, martingale=MixtureMartingale())}
MARTINGALES = {
    "MixtureMartingale": lambda: MixtureMartingale([PowerMartingale(), SimpleJumper(), PluginMartingale()]),
    "PluginMartingale": PluginMartingale,
    "PowerMartingale": PowerMartingale,
    "SimpleJumper": SimpleJumper,
}
SEQUENCES = {"ConfidenceSequence": ConfidenceSequence}
MADE = SEQUENCES | LEVELS | MEMORIES | CLASSIFIERS | REGRESSORS | BUFFERS | NOVELTY | STREAMS | TESTS | MARTINGALES


def groups(name):
    return {"groups": "one"} if name == "Mondrian" else {}


def options(name):
    return {"alpha": 0.2} if name == "PredictiveSystem" else {}


def feed(name, made):
    if name in RUN:
        RUN[name](made, SCORES[:30])
    elif name in MEMORIES:
        made.extend(SCORES[:30])
    elif name in TESTS:
        made.calibrate(SCORES[:20])
        made.update(SCORES[20:30])
    elif name in CLASSIFIERS:
        made.calibrate(PROBABILITIES[:60], LABELS[:60])
    elif name in REGRESSORS:
        made.calibrate(VALUES[:60], VALUES[1:61], **groups(name))
    elif name in STREAMS:
        made.calibrate(VALUES[:60].reshape(12, 5), VALUES[1:61].reshape(12, 5))
        made.predict(VALUES[:5])
    elif name in NOVELTY:
        score = made.score if name == "NoveltyGate" else made
        score.update(FEATURES[:30])
        if score is not made:
            made.calibrate(FEATURES[30:60])
    else:
        made.overwrite(np.arange(20), SCORES[:20])
        made.advance()
        made.overwrite(np.arange(5), SCORES[20:25])


def answers(name, made):
    """What it says, and where it can learn, what it says after it has learned more."""
    if name in RUN:
        return RUN[name](made, SCORES[30:])
    if name in MEMORIES:
        before = [float(made.quantile(Fraction(1, n))) for n in (3, 5)]
        made.extend(SCORES[30:])
        return [*before, *(float(made.quantile(Fraction(1, n))) for n in (3, 5))]
    if name in TESTS:
        before = [made.p_value, made.log_martingale, made.alarmed]
        return [*before, made.update(SCORES[30:]), made.p_value, made.log_martingale]
    if name in NOVELTY:
        return [float(value) for value in (made.weights if name == "NoveltyGate" else made)(2 * FEATURES[60:])]
    if name in BUFFERS:
        return [float(made.quantile(alpha=0.1)), *map(float, made.scores), *map(float, made.ages)]
    inputs, labels = (PROBABILITIES, LABELS) if name in CLASSIFIERS else (VALUES, np.roll(VALUES, 1))
    said = [np.asarray(made.predict(inputs[:5], **groups(name), **options(name)), dtype=float)]
    if hasattr(made, "update"):
        step = 5 if name in STREAMS else 1
        for row in range(60, 80, step):
            arguments = (inputs[row : row + step], labels[row : row + step])
            made.update(*arguments, **groups(name)) if name != "Horizons" else made.update(labels[row])
        said.append(np.asarray(made.predict(inputs[:5], **groups(name), **options(name)), dtype=float))
    return np.concatenate(said).ravel().tolist()


def growth(martingale, p_values):
    return [martingale.bet(p_value) for p_value in p_values.tolist()]


def interval(sequence, values):
    sequence.update(values)
    return list(map(float, sequence.interval))


def thresholds(level, scores):
    past, seen = Fixed(), []
    past.extend(SCORES)
    for score in scores:
        threshold = level.threshold(past)
        seen.append(float(threshold))
        level.update(float(score), threshold, past)
    return seen


RUN = {
    **dict.fromkeys(LEVELS, thresholds),
    **dict.fromkeys(MARTINGALES, growth),
    **dict.fromkeys(SEQUENCES, interval),
}


def test_every_class_with_a_state_is_here():
    stateful = {name for name in conformal_core.__all__ if hasattr(getattr(conformal_core, name), "state_dict")}
    assert stateful - {"Memory", "Level", "QuantileLevel", "ThresholdLevel", "Martingale"} == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_a_state_goes_on_where_it_was_saved(name):
    made, fresh = MADE[name](), MADE[name]()
    feed(name, made)
    fresh.load_state_dict(made.state_dict())
    assert answers(name, fresh) == answers(name, made)


@pytest.mark.parametrize("name", MADE)
def test_a_state_does_not_change_with_what_it_was_saved_from(name):
    made = MADE[name]()
    feed(name, made)
    state = made.state_dict()
    before = copy.deepcopy(state)
    answers(name, made)
    np.testing.assert_equal(state, before)


@pytest.mark.parametrize("name", MADE)
def test_a_state_of_a_newer_version_is_refused_and_changes_nothing(name):
    made, fresh = MADE[name](), MADE[name]()
    feed(name, made)
    newer = made.state_dict() | {"version": 2}
    with pytest.raises(ValueError, match=rf"state of {name} must have version 1, got 2: a newer release .* install"):
        fresh.load_state_dict(newer)
    fresh.load_state_dict(made.state_dict())
    assert answers(name, fresh) == answers(name, made)
