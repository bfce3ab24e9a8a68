"""The trained model of a run, restored from its folder without the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from cpsc_train.config import unknown
from cpsc_train.data import Modality
from cpsc_train.data.preprocessing import Scale
from cpsc_train.errors import UserError
from cpsc_train.evaluation import Thresholds
from cpsc_train.inference import Inference, parse_inference
from cpsc_train.methods import Method
from cpsc_train.models import MultimodalClassifier
from cpsc_train.runs import RunFolder
from cpsc_train.training import RunConfig, checkpoint
from cpsc_train.training.objective import Objective, Predictor
from cpsc_train.training.results import PredictionState

PLAIN = "plain"
"""Name of the prediction without an inference variant."""


@dataclass(frozen=True)
class Restored:
    """A restored model, with what its predictions need."""

    predictor: Predictor
    """Model and method in their configuration."""
    state: PredictionState
    """Classes, inputs and scales."""
    thresholds: Thresholds
    """Thresholds of the prediction sets with this variant."""
    name: str
    inference: Inference | None
    """The inference variant, ``plain`` and None without one."""
    epoch: int
    """The best epoch, from 1."""


def restore(folder: RunFolder, *, device: str | None, inference: str | None) -> Restored:
    """Restore the best model of a run; the arguments are those of `cpsc_train.load`."""
    config = RunConfig.from_plain(folder.read_config())
    if device is not None:
        config = replace(config, compute=replace(config.compute, device=device))
    where = config.compute.open_device()
    if folder.read_results() is None:
        raise UserError(f"{folder.path}: the run is not finished: continue it with cpsc train --resume {folder.path}")
    saved = checkpoint.load_best(folder.checkpoint, where)
    with checkpoint.fitting():
        state = PredictionState.from_state(saved["prediction"])
        name = _chosen(inference, list(state.thresholds), config.inference)
        predictor = _predictor(config, state, saved, where)
        variant = None if name == PLAIN else parse_inference(name).build(predictor.trained())
        if variant is not None and name in saved.get("inference", {}):
            variant.load_state_dict(saved["inference"][name])
        thresholds = state.thresholds[name]
        if name in state.calibration:
            thresholds = state.calibration[name].thresholds(predictor, variant, alpha=thresholds.alpha)
    return Restored(predictor, state, thresholds, name, variant, saved["epoch"])


def _predictor(config: RunConfig, state: PredictionState, saved: Mapping[str, Any], device: torch.device) -> Predictor:
    model, method = untrained(config, state.modalities, state.scales, classes=len(state.classes))
    model.load_state_dict(saved["model"])
    load_method(method, saved["method"])
    objective = Objective(model.to(device), method.to(device), config.compute, device)
    return Predictor(config, objective, saved["qhat"], tuple(state.modalities))


def untrained(
    config: RunConfig, modalities: Mapping[str, Modality], scales: Mapping[str, Scale], *, classes: int
) -> tuple[MultimodalClassifier, Method]:
    """Return the model and the method of a run before their states are loaded; the random state does not advance."""
    with torch.random.fork_rng(devices=[]):  # parameters are drawn before they are loaded
        model = MultimodalClassifier(
            modalities, config.encoders, fusion=config.fusion, dim=config.feature_dim, classes=classes
        )
        method = config.method.build(model, tuple(modalities))
    model.standardise(scales)
    return model, method


def load_method(method: Method, state: Mapping[str, Any]) -> None:
    """Load the state of a method, without its state per training row."""
    own = {name for name in method.state_dict() if not name.endswith("_extra_state")}
    if lacking := own - state.keys():
        raise ValueError(f"it has no {min(lacking)} of the method")
    method.load_state_dict({name: state[name] for name in own}, strict=False)


def _chosen(name: str | None, known: list[str], of_run: tuple[str, ...]) -> str:
    """Return the variant of a name, which may lack the options; by default ``trust``, or else ``plain``."""
    if name is None:
        return next((one for one in known if one.partition(":")[0] == "trust"), PLAIN)
    matching = [one for one in known if name in {one, one.partition(":")[0]}]
    if not matching and name in {part for one in of_run for part in (one, one.partition(":")[0])}:
        raise UserError(
            f"inference variant {name!r} cannot predict new samples, because its prediction for one depends on others: "
            f"choose {' or '.join(known)}"
        )
    if not matching:
        raise UserError(unknown("inference variant of the run", name, known))
    return matching[0]
