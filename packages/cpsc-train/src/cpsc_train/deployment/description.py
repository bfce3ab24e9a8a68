"""Description of an exported model: JSON values from which it is built, and that programs without Python can read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from cpsc_train.__about__ import __version__
from cpsc_train.data import Modality
from cpsc_train.data.preprocessing import scales_state
from cpsc_train.models import FUSED
from cpsc_train.prediction.state import Restored
from cpsc_train.printable import without_credentials
from cpsc_train.training.results import patterns

MANY = 8
"""Most modalities for which all patterns of missing ones have thresholds; of more, those that lack at most two."""


def describe(restored: Restored, widths: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return the description of a restored model.

    Parameters
    ----------
    restored
        The model.
    widths
        By modality, the widths of the activations that its inference variant uses.

    Returns
    -------
    dict
        ``version`` of cpsc-train; ``config``, the configuration of the run without credentials, and its best
        ``epoch``; ``classes``; ``modalities``, name and properties of each input, in order; ``scales``, by modality
        mean and standard deviation, or None;
        ``inference``, the variant or ``plain``; ``widths``; ``qhat``, the heads that have a quantile of the conformal
        predictor in the training loop, or None; ``thresholds`` of the prediction sets by missing modalities, where
        None stands for a full set.
    """
    state, predictor = restored.state, restored.predictor
    modalities = tuple(state.modalities)
    most = None if len(modalities) <= MANY else 2
    thresholds = restored.thresholds.state_dict(FUSED, patterns(modalities, most))
    scales = scales_state(state.scales)
    description = {
        "version": __version__,
        "config": predictor.config.to_plain(),
        "epoch": restored.epoch,
        "classes": list(state.classes),
        "modalities": [{"name": m, **asdict(one)} for m, one in state.modalities.items()],
        "scales": {m: None if one is None else [values.tolist() for values in one] for m, one in scales.items()},
        "inference": restored.name,
        "widths": {m: list(of) for m, of in widths.items()},
        "qhat": None if predictor.qhat is None else list(predictor.qhat),
        "thresholds": _without_infinity(thresholds),
    }
    return dict(json.loads(without_credentials(json.dumps(description, allow_nan=False))))


def modalities_of(description: Mapping[str, Any]) -> dict[str, Modality]:
    """Return the inputs that a description lists."""
    return {one["name"]: msgspec.convert(one, Modality) for one in description["modalities"]}


def as_texts(description: Mapping[str, Any]) -> dict[str, str]:
    """Return a description as texts by key, each of them JSON, for the metadata of a file."""
    return {key: json.dumps(value, allow_nan=False) for key, value in description.items()}


def _without_infinity(value: Any) -> Any:
    """Return nested lists and mappings with None in place of infinite numbers, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _without_infinity(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(one) for one in value]
    return None if isinstance(value, float) and math.isinf(value) else value
