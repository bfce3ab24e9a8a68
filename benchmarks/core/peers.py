"""Prediction sets of a batch and of a stream, computed by other libraries where they are installed."""

import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np


def torchcp_module(name: str) -> Any:
    """Import a module of TorchCP, which imports torchsort and torch_geometric eagerly; no prediction uses them."""
    if _StubFinder not in sys.meta_path:
        sys.meta_path.append(_StubFinder)
    return importlib.import_module(f"torchcp.{name}")


def torchcp(score: str, alpha: float) -> Callable[..., Any]:
    predictors = torchcp_module("classification.predictor")
    scores = torchcp_module("classification.score")
    torch = importlib.import_module("torch")
    options = {"randomized": False} if score == "APS" else {}
    function = getattr(scores, score)(score_type="identity", **options)

    def job(calibration: np.ndarray, labels: np.ndarray, test: np.ndarray) -> object:
        predictor = predictors.SplitPredictor(function, model=None, alpha=alpha, device="cpu")
        predictor.calculate_threshold(torch.from_numpy(calibration), torch.from_numpy(labels), alpha)
        return predictor.predict_with_logits(torch.from_numpy(test))

    return job


def identity_classifier(classes: int) -> Any:
    """Return a fitted scikit-learn classifier whose input is its probabilities."""
    base = importlib.import_module("sklearn.base")

    class Identity(base.ClassifierMixin, base.BaseEstimator):
        classes_ = np.arange(classes)

        def fit(self, x: np.ndarray, y: np.ndarray) -> "Identity":
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(1)

    return Identity()


def mapie(score: str, alpha: float) -> Callable[..., Any]:
    classification = importlib.import_module("mapie.classification")

    def job(calibration: np.ndarray, labels: np.ndarray, test: np.ndarray) -> object:
        predictor = classification.SplitConformalClassifier(
            identity_classifier(calibration.shape[1]),
            confidence_level=1 - alpha,
            conformity_score=score.lower(),
            prefit=True,
        )
        predictor.conformalize(calibration, labels)
        options = {"conformity_score_params": {"include_last_label": True}} if score == "APS" else {}
        return predictor.predict_set(test, **options)[1]

    return job


def crepes(score: str, alpha: float) -> Callable[..., Any]:
    package = importlib.import_module("crepes")
    if score != "LAC":
        raise ImportError(f"crepes has no {score}")

    def job(calibration: np.ndarray, labels: np.ndarray, test: np.ndarray) -> object:
        predictor = package.ConformalClassifier().fit(1 - calibration[np.arange(len(labels)), labels])
        return predictor.predict_set(1 - test, confidence=1 - alpha, smoothing=False)

    return job


def crepes_stream(probs: np.ndarray, labels: np.ndarray, alpha: float) -> object:
    package = importlib.import_module("crepes")
    predictor = package.ConformalClassifier().fit(np.asarray([]))
    classes = np.arange(probs.shape[1])
    return predictor.predict_set_online(
        1 - probs, classes, labels, warm_start=False, confidence=1 - alpha, smoothing=False
    )


class _Stub(types.ModuleType):
    """Module with an empty class under every name."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StubFinder:
    """Import hook that provides stubs of packages that are required but not used."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        if name.partition(".")[0] not in ("torchsort", "torch_geometric"):
            return None
        return importlib.machinery.ModuleSpec(name, _StubFinder, is_package=True)

    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    @staticmethod
    def exec_module(module: types.ModuleType) -> None:
        """Do nothing, because a stub has no code."""


BATCH = {"TorchCP": torchcp, "MAPIE": mapie, "crepes": crepes}
