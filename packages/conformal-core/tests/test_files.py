"""States go to a file and back without pickle, bit for bit, and other files are refused by name."""

import io
import json

import numpy as np
import pytest

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
    PredictiveSystem,
    Reservoir,
    SimpleJumper,
    Sketch,
    SplitClassifier,
    SplitRegressor,
    Streams,
    Window,
    flatten_state,
    unflatten_state,
)

RNG = np.random.default_rng(0)
SCORES, FEATURES = RNG.random(40), RNG.normal(size=(40, 3))
PROBS, LABELS = RNG.dirichlet(np.ones(3), 40), RNG.integers(0, 3, 40)


def calibrated(predictor):
    predictor.calibrate(PROBS, LABELS)
    return predictor


def streamed(level, memory):
    predictor = OnlineClassifier(LAC(), level=level, memory=memory)
    predictor.calibrate(PROBS[:20], LABELS[:20])
    predictor.predict(PROBS)
    predictor.update(PROBS[20:], LABELS[20:])
    return predictor


def filled(memory):
    memory.extend(SCORES)
    return memory


def learned(score, *labels):
    score.update(FEATURES, *labels)
    return score


def buffer():
    made = CalibrationBuffer(3)
    made.overwrite([0, 2], [0.5, 0.25])  # the row between has +inf
    return made


def stream():
    made = ExchangeabilityTest(martingale=MixtureMartingale([SimpleJumper(), PluginMartingale()]))
    made.calibrate(SCORES)
    made.update(SCORES[::-1])
    return made


def regression(predictor, **groups):
    predictor.calibrate(SCORES, SCORES[::-1], **groups)
    return predictor


def streams():
    made = Streams(OnlineRegressor(AbsoluteResidual(), memory=Window(9), level=ACI(alpha=0.1)), 4)
    made.calibrate(SCORES.reshape(10, 4), SCORES[::-1].reshape(10, 4))
    made.predict(SCORES[:4])
    made.predict(SCORES[:4], ids="monday")
    return made


def horizons():
    made = Horizons(OnlineRegressor(AbsoluteResidual(), level=SAOCP(alpha=0.1, scale=1.0)), 4)
    made.calibrate(SCORES.reshape(10, 4), SCORES[::-1].reshape(10, 4))
    made.predict(SCORES[:4])
    made.update(0.5)
    made.predict(SCORES[4:8])
    return made


MADE = {
    "SplitClassifier": lambda: calibrated(SplitClassifier(LAC(), alpha=0.1)),
    "ClassConditionalClassifier": lambda: calibrated(ClassConditionalClassifier(LAC(), alpha=0.3)),
    "Mondrian": lambda: regression(Mondrian(OnlineRegressor(AbsoluteResidual(), level=ACI(alpha=0.1))), groups="a"),
    "PredictiveSystem": lambda: regression(PredictiveSystem(AbsoluteResidual(), memory=Window(9))),
    "ClusteredClassifier": lambda: calibrated(ClusteredClassifier(LAC(), alpha=0.3)),
    "SplitRegressor": lambda: regression(SplitRegressor(AbsoluteResidual(), alpha=0.1)),
    "OnlineRegressor": lambda: regression(OnlineRegressor(AbsoluteResidual(), alpha=0.1)),
    "AsymmetricRegressor": lambda: regression(
        AsymmetricRegressor(
            SplitRegressor(AbsoluteResidual(side="lower"), alpha=0.1),
            OnlineRegressor(AbsoluteResidual(side="upper"), level=ACI(alpha=0.1)),
        )
    ),
    "Constant": lambda: Constant(alpha=0.1),
    "ACI": lambda: streamed(ACI(alpha=0.1), Window(9)),
    "DtACI": lambda: streamed(DtACI(alpha=0.1), Reservoir(9)),
    "DecayingStep": lambda: streamed(DecayingStep(alpha=0.1), Exponential(0.9)),
    "ConformalPID": lambda: streamed(ConformalPID(alpha=0.1), History()),
    "SAOCP": lambda: streamed(SAOCP(alpha=0.1), Sketch(4)),
    "Streams": streams,
    "Horizons": horizons,
    "empty": lambda: OnlineClassifier(LAC(), level=SAOCP(alpha=0.1), memory=Fixed()),
    "Fixed": lambda: filled(Fixed()),
    "Sketch": lambda: filled(Sketch(4)),
    "CalibrationBuffer": buffer,
    "Mahalanobis": lambda: learned(Mahalanobis(classes=3), LABELS),
    "ExchangeabilityTest": stream,
    "NoveltyGate": lambda: NoveltyGate(learned(Mahalanobis()), alpha=0.1),
}


def through_a_file(state):
    file = io.BytesIO()
    np.savez(file, **flatten_state(state))
    file.seek(0)
    return unflatten_state(np.load(file, allow_pickle=False))


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_state_comes_back_from_a_file_bit_for_bit(make):
    made = make()
    state = made.state_dict()
    read = through_a_file(state)
    np.testing.assert_equal(read, state)
    fresh = made.__sklearn_clone__()
    fresh.load_state_dict(read)
    np.testing.assert_equal(fresh.state_dict(), state)


def test_tensors_come_back_as_tensors(lib):
    predictor = SplitClassifier(LAC(), alpha=0.3)
    predictor.calibrate(lib(PROBS.astype(np.float32)), lib(LABELS))
    loaded = SplitClassifier(LAC(), alpha=0.3)
    loaded.load_state_dict(through_a_file(predictor.state_dict()))
    kept, before = (p.state_dict()["memory"]["scores"] for p in (loaded, predictor))
    if lib.name.startswith("torch"):
        assert type(kept) is type(before)
        assert kept.dtype == before.dtype
    np.testing.assert_array_equal(np.asarray(kept), lib.back(before))


def test_half_precision_tensors_go_to_a_file():
    torch = pytest.importorskip("torch")
    scores = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    assert through_a_file({"scores": scores})["scores"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "arrays must hold 'state', as flatten_state makes them, got "),
        ({"weights": np.zeros(2)}, "as flatten_state makes them, got weights"),
        ({"state": np.zeros(2)}, r"arrays\['state'\] must be the text of a dictionary"),
        ({"state": np.asarray("[1, 2")}, r"arrays\['state'\] must be the text of a dictionary"),
        ({"state": np.asarray("[" * 100_000)}, r"arrays\['state'\] must be the text of a dictionary"),
        ({"state": np.asarray("[1, 2]")}, r"arrays\['state'\] must be the text of a dictionary"),
        (
            {"state": np.asarray(json.dumps({"scores": {"state": "array_0", "torch": False}})), "array_1": np.ones(1)},
            "arrays must hold array_0 beside 'state', got state, array_1",
        ),
    ],
)
def test_other_files_are_refused_by_name(arrays, message):
    with pytest.raises(ValueError, match=message):
        unflatten_state(arrays)


def test_a_state_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"state must be an array .*, got object"):
        flatten_state({"kind": object()})
    with pytest.raises(ValueError, match="state must be of kind 'Window', got 'History'"):
        Window(3).load_state_dict(through_a_file(History().state_dict()))
