"""Train and evaluate multimodal classifiers with conformal predictive self-calibration.

The main functions are here; each is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cpsc_train.__about__ import __version__

if TYPE_CHECKING:
    from cpsc_train.deployment import export
    from cpsc_train.errors import UserError
    from cpsc_train.prediction import Model, Prediction, PredictionBatch, load
    from cpsc_train.recipes import recipe
    from cpsc_train.reporting.report import report
    from cpsc_train.training import RunConfig, evaluate, resume, train

_HOMES = {
    "Model": "prediction",
    "Prediction": "prediction",
    "PredictionBatch": "prediction",
    "RunConfig": "training",
    "UserError": "errors",
    "evaluate": "training",
    "export": "deployment",
    "load": "prediction",
    "recipe": "recipes",
    "report": "reporting.report",
    "resume": "training",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "Model",
    "Prediction",
    "PredictionBatch",
    "RunConfig",
    "UserError",
    "__version__",
    "evaluate",
    "export",
    "load",
    "recipe",
    "report",
    "resume",
    "train",
]
