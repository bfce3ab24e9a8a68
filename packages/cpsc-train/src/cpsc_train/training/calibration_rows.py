"""Encoded calibration rows of a run, from which the thresholds of any pattern of missing modalities follow.

Shapes: N calibration rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from cpsc_train.evaluation import Predictions, Thresholds
from cpsc_train.inference import Inference
from cpsc_train.methods import PartFeatures
from cpsc_train.training.objective import Predictor


@dataclass(frozen=True)
class CalibrationRows:
    """Calibration rows as an inference variant sees them: clean, then each of its corrupted copies."""

    copies: tuple[PartFeatures, ...]
    """Features and activations of all modalities, and presence, of each copy. Copies share the arrays of a modality
    that has the same noise in them."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return what `state_dict` returned."""
        labels = state["labels"].cpu().numpy()
        present = {m: mask.cpu().numpy() for m, mask in state["present"].items()}
        arrays = [x.cpu().numpy() for x in state["arrays"]]
        return cls(
            tuple(
                PartFeatures(
                    {m: arrays[places[0]] for m, places in copy.items()},
                    labels,
                    present,
                    {m: tuple(arrays[place] for place in places[1:]) for m, places in copy.items() if places[1:]},
                )
                for copy in state["copies"]
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the rows as tensors, each array once, and their places in each copy."""
        first = self.copies[0]
        places: dict[int, int] = {}
        arrays: list[Tensor] = []
        copies = []
        for copy in self.copies:
            used = {m: [h, *copy.depths.get(m, ())] for m, h in copy.features.items()}
            for array in (one for some in used.values() for one in some):
                if id(array) not in places:
                    places[id(array)] = len(arrays)
                    arrays.append(torch.from_numpy(array))
            copies.append({m: [places[id(array)] for array in some] for m, some in used.items()})
        present = {m: torch.from_numpy(mask) for m, mask in first.present.items()}
        return {"labels": torch.from_numpy(first.labels), "present": present, "arrays": arrays, "copies": copies}

    def without(self, absent: Sequence[str]) -> list[PartFeatures]:
        """Return the different copies without some modalities."""
        found: dict[tuple[int, ...], PartFeatures] = {}
        for copy in self.copies:
            features = {m: h for m, h in copy.features.items() if m not in absent}
            depths = {m: of for m, of in copy.depths.items() if m not in absent}
            found.setdefault(
                tuple(map(id, features.values())), PartFeatures(features, copy.labels, copy.present, depths)
            )
        return list(found.values())

    def thresholds(self, predictor: Predictor, inference: Inference | None, *, alpha: float) -> Thresholds:
        """Return thresholds that are calibrated for a pattern when a sample first has it."""

        def calibrate(absent: tuple[str, ...]) -> list[Predictions]:
            with predictor.config.compute.applied():
                return [predictor.predict(copy, inference) for copy in self.without(absent)]

        return Thresholds(calibrate, alpha=alpha)
