"""Results of a run: its evaluation, its arrays, and what predictions need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from cpsc_train.data import Modality
from cpsc_train.data.preprocessing import Scale, scales_of, scales_state
from cpsc_train.errors import UserError
from cpsc_train.evaluation import Predictions, Thresholds, Variant, calibrated, curves, measure
from cpsc_train.evaluation.probabilities import Probabilities, row_parts
from cpsc_train.inference import Inference, parse_inference
from cpsc_train.models import FUSED
from cpsc_train.training import checkpoint
from cpsc_train.training.calibration_rows import CalibrationRows
from cpsc_train.training.evaluator import Evaluator
from cpsc_train.training.objective import evaluating

MOST_FEATURES = 2000
"""Most test rows whose features are saved, for pictures."""


def thresholds_of(evaluator: Evaluator, variants: Mapping[str, Inference]) -> dict[str, Thresholds]:
    """Return the thresholds of the prediction sets of the model (``plain``) and of fitted variants, by name."""
    alpha = evaluator.setup.config.conformal.alpha
    return calibrated(evaluator.collect, alpha=alpha, variants=_evaluated(evaluator, variants))


def evaluation(
    evaluator: Evaluator, variants: Mapping[str, Inference], thresholds: Mapping[str, Thresholds]
) -> dict[str, Any]:
    """Return the description of a run and the evaluation of its model, and of fitted variants, in all conditions."""
    setup, config = evaluator.setup, evaluator.setup.config
    missing = _absent(tuple(setup.dataset.modalities)) if config.leave_out else []
    corrupted = {
        condition.name: {
            noise.modality: float(noise.hits(setup.ids_having("test", noise.modality)).mean())
            for noise in condition.parts
        }
        for condition in setup.conditions
    }
    figures = measure(
        evaluator.collect,
        thresholds=thresholds,
        noise=setup.conditions,
        missing=missing,
        variants=_evaluated(evaluator, variants),
    )
    for name, variant in variants.items():
        figures["inference"][name] |= {"seen": list(variant.seen), "notes": list(variant.notes)}
    conditions = {condition.name: condition.describe(setup.dataset) for condition in setup.conditions}
    report = setup.describe() | figures | {"corrupted": corrupted, "conditions": conditions}
    for name in variants:
        report["inference"][name]["curves"] = curves(report, variant=name)
    return report | {"curves": curves(report)}


def fitted_variants(names: Sequence[str], evaluator: Evaluator) -> dict[str, Inference]:
    """Return inference variants by name, with their saved state or fitted to the data; `evaluator` takes their depths.

    Raises UserError if two variants need different depths, or a saved state does not fit.
    """
    trained = evaluator.trained()
    variants = {name: parse_inference(name).build(trained) for name in names}
    taps = [variant.taps for variant in variants.values() if variant.taps]
    if any({m: tap.names for m, tap in one.items()} != {m: tap.names for m, tap in taps[0].items()} for one in taps):
        raise UserError(f"inference variants must use the same depths, got {', '.join(names)}: name fewer")
    evaluator.taps = taps[0] if taps else evaluator.taps
    for name, variant in variants.items():
        variant.prepare(evaluator)
        if name in evaluator.fitted:
            with checkpoint.fitting():
                variant.load_state_dict(evaluator.fitted[name])
        else:
            with evaluating(evaluator.objective):
                variant.fit(evaluator)
    return variants


def complete(path: Path, variants: Mapping[str, Inference], prediction: Mapping[str, Any]) -> None:
    """Add to the checkpoint at `path` the states of fitted variants, and what `prediction_state` returned."""
    states = {name: state for name, variant in variants.items() if (state := variant.state_dict())}
    saved = checkpoint.load(path, torch.device("cpu"))
    checkpoint.save(path, saved | ({"inference": states} if states else {}) | {"prediction": dict(prediction)})


def clean_predictions(evaluator: Evaluator) -> dict[str, NDArray[Any]]:
    """Return ids, labels, classes, probabilities by head, and features by modality of the clean test rows.

    Every process must call this; probabilities and features reach the first one alone, and are left out in the others.
    """
    setup, test = evaluator.setup, evaluator.collect("test")
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.array(list(setup.dataset.ids_of(setup.splits.test))),
        "labels": setup.dataset.labels[setup.splits.test],
        "classes": np.array(setup.dataset.classes),
    }
    arrays |= {f"probabilities/{head}": _on_first(test, p) for head, p in test.probabilities.items()}
    arrays |= {f"present/{m}": mask for m, mask in test.outcomes.present.items()}
    return arrays | {f"features/{m}": _on_first(test, h, MOST_FEATURES) for m, h in test.features.items()}


def _on_first(test: Predictions, values: Probabilities | NDArray[np.float32], most: int | None = None) -> NDArray[Any]:
    """Return the values (N, K) of all rows, or of the first `most`, in the first process, and none in the others."""
    share, total = test.share, len(test.outcomes.labels)
    most = total if most is None else min(most, total)
    rows = -(-most // share.world)
    gathered = np.empty((rows * share.world if share.rank == 0 else 0, values.shape[1]), np.float32)
    for part in row_parts(rows, values.shape[1]):
        block = share.gather_to(0, values[part].astype(np.float32), part.start, part.stop)
        if block is not None:
            gathered[part.start * share.world :][: len(block)] = block
    return gathered[:most]


def _evaluated(evaluator: Evaluator, variants: Mapping[str, Inference]) -> dict[str, Variant]:
    return {name: Variant(partial(evaluator.vary, one), one.copies) for name, one in variants.items()}


def _absent(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the sets of modalities to leave out: each modality, and each pair of three."""
    sizes = (1, 2) if len(modalities) == 3 else (1,)
    return [absent for size in sizes if size < len(modalities) for absent in combinations(modalities, size)]


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
    evaluator: Evaluator, variants: Mapping[str, Inference], thresholds: Mapping[str, Thresholds]
) -> dict[str, Any]:
    """Return the state of a `PredictionState` as tensors, texts and numbers; the same on every process.

    - `evaluator`: that of the best model.
    - `variants`: fitted inference variants by name.
    - `thresholds`: those of `cpsc_train.evaluation.calibrated`. With at most `FEW` modalities, they are calibrated for
      all patterns of missing ones.
    """
    setup = evaluator.setup
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
        else {name: _calibration_rows(evaluator, variants.get(name)).state_dict() for name in names},
    }


def _calibration_rows(evaluator: Evaluator, variant: Inference | None) -> CalibrationRows:
    """Return the calibration rows as a variant, or the model itself, sees them."""
    copies = dict.fromkeys([(), *(() if variant is None else variant.copies)])
    return CalibrationRows(tuple(evaluator.parts("calibration", copies)))


def predicts_alone(variant: Inference) -> bool:
    """Return whether a variant predicts each row by itself, from a state that is saved or not needed."""
    return variant.by_row and (type(variant).fit is Inference.fit or bool(variant.state_dict()))


def patterns(modalities: tuple[str, ...], most: int | None = None) -> Iterator[tuple[str, ...]]:
    """Yield the patterns of up to `most` missing modalities, at most all but one, as tuples of their names."""
    left = len(modalities) - 1
    for size in range(1 + (left if most is None else min(most, left))):
        yield from combinations(modalities, size)
