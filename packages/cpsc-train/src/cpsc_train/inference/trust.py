"""Calibrated trust in each modality, from conformal distances at several depths of its encoder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpsc_rsc import ConformalTrust, HeldOutCopy, Taps
from cpsc_train.config.choice import COUNT, FRACTION
from cpsc_train.inference.base import NO_DEPTHS, Depths, Inference, InferenceConfig, Source, Trained
from cpsc_train.inference.generic import corrupted_copies, kinds_of
from cpsc_train.methods import PartFeatures
from cpsc_train.methods.base import Heads
from cpsc_train.models import COMPLETE, FUSED, Present, only_present
from cpsc_train.models.depths import model_taps


class Trust(Inference):
    """Multiply the features of each modality by its weight, from a `ConformalTrust`.

    Distances are those to the training rows; thresholds and curves are fitted to the validation rows, clean and with
    generic corruptions. The calibration rows are used by the prediction sets alone, so these stay split-conformal.
    The weights that are reported are the trust g in [0, 1].
    """

    config: TrustConfig
    by_row = True

    def __init__(self, config: TrustConfig, trained: Trained) -> None:
        super().__init__(config, trained)
        self.taps: Mapping[str, Taps] = model_taps(trained.model, config.taps, config.depths)
        self._widths: dict[str, list[int]] = {}
        self._trust: ConformalTrust

    def prepare(self, source: Source) -> None:
        """Set the corrupted copies, which depend on the data."""
        self.copies = corrupted_copies(source.dataset, self.config.corruptions)
        self.seen = kinds_of(self.copies)

    def fit(self, source: Source) -> None:
        """Fit distances to the training rows; thresholds and curves to the validation rows."""
        training, held_out = source.part("train"), source.part("validation")
        self.build_module({m: [h.shape[1] for h in depths] for m, depths in training.depths.items()})
        self._trust.update({m: self._tensors(training.depths_of(m)) for m in training.depths})
        with warnings.catch_warnings(record=True) as caught:  # that rows are too few is no fault of the program
            warnings.simplefilter("always")
            self._trust.calibrate({m: self._tensors(held_out.depths_of(m)) for m in held_out.depths})
        self.notes = [str(one.message) for one in caught]
        copies = [self._copy(source.part("validation", noise), clean=not noise) for noise in [(), *self.copies]]
        with torch.enable_grad():
            self._trust.fit_curve(copies, self._fused)

    def state_dict(self) -> dict[str, Any]:
        """Return the widths of the depths, the notes, and the state of the `ConformalTrust`."""
        return {"widths": self._widths, "notes": list(self.notes), "trust": self._trust.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.build_module(state["widths"])
        self.notes = state["notes"]
        self._trust.load_state_dict(state["trust"])

    def build_module(self, widths: Mapping[str, Sequence[int]]) -> ConformalTrust:
        """Create and return the `ConformalTrust`."""
        self._widths = {m: list(of) for m, of in widths.items()}
        self._trust = ConformalTrust(widths, alpha=self.config.alpha).to(self._device)
        return self._trust

    def predict(self, features: Heads, present: Present = COMPLETE, depths: Depths = NO_DEPTHS) -> tuple[Heads, Heads]:
        """Return the logits of the weighted features, and the trust; 0 for rows that lack a modality."""
        distances = self._trust.distances(depths)
        weights, trust = self._trust.weights_at(distances, present=present), self._trust.trust(distances)
        logits = self.trained.logits(self._trust.scale(features, weights), present)
        return logits, {m: only_present(g, present.get(m)) for m, g in trust.items()}

    def typicality(self, depths: Depths) -> Heads:
        """Return exp(−D): prediction sets depend on the distance even where the curve keeps every weight at 1."""
        return {m: (-distance).exp() for m, distance in self._trust.distances(depths).items()}

    def novelty(self, depths: Mapping[str, Sequence[NDArray[np.float32]]]) -> dict[str, NDArray[np.float64]]:
        """Return by modality the novelty (N,) of activations (N, d_k), in nats; at most 0 if not down-weighted."""
        with torch.no_grad():
            novelty = self._trust.novelty({m: self._tensors(values) for m, values in depths.items()})
        return {m: values.double().cpu().numpy() for m, values in novelty.items()}

    def _copy(self, rows: PartFeatures, *, clean: bool) -> HeldOutCopy:
        depths = {m: self._tensors(values) for m, values in rows.depths.items()}
        return HeldOutCopy(
            features={m: torch.from_numpy(h).to(self._device) for m, h in rows.features.items()},
            distances=self._trust.distances(depths),
            labels=torch.from_numpy(rows.labels).to(self._device),
            present={m: torch.from_numpy(mask).to(self._device) for m, mask in rows.present.items()},
            clean=clean,
        )

    def _fused(self, features: Heads, present: Present) -> Tensor:
        """Return the fused logits (N, C) of all rows at once, with gradients to the features.

        They are those before calibration: components of CPSC would cost far more in hundreds of evaluations.
        """
        return self.trained.method.predict(self.trained.model, features, None, present)[FUSED]

    def _tensors(self, values: Any) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(h).to(self._device) for h in values)

    @property
    def _device(self) -> torch.device:
        return next(self.trained.model.heads.parameters()).device


@dataclass(frozen=True, kw_only=True)
class TrustConfig(InferenceConfig, name="trust"):
    """Calibrated trust: modalities with unusual activations are down-weighted by what they are worth then."""

    inference = Trust
    rules = {"alpha": FRACTION, "depths": COUNT}

    alpha: float = 0.05
    """Largest fraction of clean samples in which a modality is down-weighted."""
    depths: int = 2
    """Depths of each encoder at which activations are taken."""
    taps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Submodules of the encoder by modality, in place of a spread over its depth."""
    corruptions: tuple[str, ...] = ()
    """Corruptions of the validation rows, such as ``image:blur@1,3,5``. If empty, a generic kind for each modality:
    Gaussian noise, masked words, or noise on a waveform, at levels 1, 3 and 5, Gaussian noise also at twice level 5,
    and all modalities together."""
