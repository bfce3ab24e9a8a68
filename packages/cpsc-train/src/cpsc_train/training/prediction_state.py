"""What predictions need besides the trained parameters: classes, inputs, scales, and thresholds of prediction sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import msgspec
import torch

from cpsc_train.data import Modality
from cpsc_train.data.preprocessing import Scale, scales_of, scales_state
from cpsc_train.evaluation import Thresholds
from cpsc_train.inference import Inference
from cpsc_train.models import FUSED
from cpsc_train.training.calibration_rows import CalibrationRows
from cpsc_train.training.setup import Setup

FEW = 4
"""Most modalities for which the thresholds of all patterns of missing ones are saved; with more, whose number grows
exponentially, the encoded calibration rows are."""


@dataclass(frozen=True)
class PredictionState:
    """What a checkpoint holds for predictions besides parameters, quantiles and the states of inference variants."""

    classes: tuple[str, ...]
    """C class names."""
    modalities: dict[str, Modality]
    scales: dict[str, Scale]
    """By modality, in order, the properties of its inputs, and their standardisation."""
    thresholds: dict[str, Thresholds]
    """Thresholds of the prediction sets of the fused decision: of the ``plain`` model, and of each inference variant
    that predicts row by row."""
    calibration: dict[str, CalibrationRows]
    """By variant, the calibration rows, if there are more than `FEW` modalities. `thresholds` have no patterns then."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> PredictionState:
        """Return what `prediction_state` returned."""
        scales = {m: None if one is None else [x.cpu().numpy() for x in one] for m, one in state["scales"].items()}
        return cls(
            tuple(state["classes"]),
            {m: msgspec.convert(one, Modality) for m, one in state["modalities"].items()},
            scales_of(scales),
            {name: Thresholds.from_state(one) for name, one in state["thresholds"].items()},
            {name: CalibrationRows.from_state(one) for name, one in state["calibration"].items()},
        )


def prediction_state(
    setup: Setup, variants: Mapping[str, Inference], thresholds: Mapping[str, Thresholds]
) -> dict[str, Any]:
    """Return the state of a `PredictionState` as tensors, texts and numbers; the same on every process.

    - `setup`: the data of the run.
    - `variants`: fitted inference variants by name.
    - `thresholds`: those of `cpsc_train.evaluation.calibrated`. With at most `FEW` modalities, they are calibrated for
      all patterns of missing ones.
    """
    modalities = tuple(setup.dataset.modalities)
    scales = scales_state(setup.preprocessing.scales)
    few = len(modalities) <= FEW
    absent = list(patterns(modalities)) if few else []
    names = ["plain", *(name for name, variant in variants.items() if predicts_alone(variant))]
    return {
        "classes": [str(name) for name in setup.dataset.classes],
        "modalities": {m: asdict(one) for m, one in setup.dataset.modalities.items()},
        "scales": {m: None if one is None else [torch.from_numpy(x) for x in one] for m, one in scales.items()},
        "thresholds": {name: thresholds[name].state_dict(FUSED, absent) for name in names},
        "calibration": {}
        if few
        else {name: CalibrationRows.of(thresholds[name].calibration(), modalities).state_dict() for name in names},
    }


def predicts_alone(variant: Inference) -> bool:
    """Return whether a variant predicts each row by itself, from a state that is saved or not needed."""
    return variant.by_row and (type(variant).fit is Inference.fit or bool(variant.state_dict()))


def patterns(modalities: tuple[str, ...], most: int | None = None) -> Iterator[tuple[str, ...]]:
    """Yield the patterns of up to `most` missing modalities, at most all but one, as tuples of their names."""
    left = len(modalities) - 1
    for size in range(1 + (left if most is None else min(most, left))):
        yield from combinations(modalities, size)
