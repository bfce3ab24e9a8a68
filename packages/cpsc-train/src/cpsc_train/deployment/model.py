"""A trained model as one module, from unscaled inputs to probabilities, trust and prediction sets.

Shapes: B samples, C classes, M modalities.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from cpsc_train.data.preprocessing import Scale, scales_of
from cpsc_train.deployment.description import describe, modalities_of
from cpsc_train.deployment.sets import PredictionSets
from cpsc_train.errors import UserError
from cpsc_train.inference import Trained, parse_inference
from cpsc_train.models import FUSED
from cpsc_train.models.multimodal import NO_TAPS
from cpsc_train.prediction.state import PLAIN, Restored, restore, untrained
from cpsc_train.runs import RunFolder, written_by_a_run
from cpsc_train.training import RunConfig

ROWS = "_extra_state"
"""Last part of the name of what a method stores for each training row."""


class DeployedModel(nn.Module):
    """The model of a run with all that its predictions need, in evaluation mode and without gradients.

    It computes in single precision; its outputs are those of `cpsc_train.Model.predict_inputs`, to rounding.

    Parameters
    ----------
    description
        What the module is built from, as JSON values: see `cpsc_train.deployment.description.describe`.

    Raises
    ------
    UserError
        If a part of the configuration does not fit this version, or a file that an encoder is built from is missing.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.description = description
        config = RunConfig.from_plain(description["config"])
        self.modalities = modalities_of(description)
        self.classes = tuple(description["classes"])
        scales = _scales(description["scales"])
        self.model, self.method = untrained(config, self.modalities, scales, classes=len(self.classes))
        qhat = description["qhat"]
        self.qhat = nn.ParameterDict({head: torch.zeros(()) for head in qhat or ()})
        trained = Trained(
            self.model,
            self.method,
            None if qhat is None else dict(self.qhat.items()),
            batch_size=None,  # a loop over batches cannot be exported
            seed=config.seed,
        )
        self._trained, name = trained, description["inference"]
        self._variant = None if name == PLAIN else parse_inference(name).build(trained)
        self.trust = None if self._variant is None else self._variant.build_module(description["widths"])
        self.sets = PredictionSets(description["thresholds"], list(self.modalities))
        for m in self._scaled(scales):
            self.register_buffer(f"_mean_{m}", torch.from_numpy(scales[m].mean), persistent=False)
            self.register_buffer(f"_std_{m}", torch.from_numpy(scales[m].std), persistent=False)
        self.requires_grad_(False).eval()
        self.register_state_dict_post_hook(_without_rows)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_without_missing_rows)  # type: ignore[no-untyped-call]

    @classmethod
    def from_run(cls, run: str | os.PathLike[str], *, inference: str | None = None) -> Self:
        """Return the best model of a run, on the CPU.

        Parameters
        ----------
        run
            Run folder.
        inference
            Inference variant, as for `cpsc_train.load`.

        Raises
        ------
        UserError
            As `cpsc_train.load`, and if the variant has a state that is not a module.
        """
        folder = RunFolder(run)
        restored = restore(folder, device="cpu", inference=inference)
        with written_by_a_run([folder.path]):
            return cls.from_restored(restored)

    @classmethod
    def from_restored(cls, restored: Restored) -> Self:
        """Return the module with the parameters of a run.

        Raises
        ------
        UserError
            If the inference variant has a state that is not a module.
        """
        of_variant = {} if restored.inference is None else restored.inference.state_dict()
        module = cls(description=describe(restored, of_variant.get("widths", {})))
        if of_variant and module.trust is None:
            raise UserError(f"inference variant {restored.name!r} cannot be exported: choose inference plain")
        objective, qhat = restored.predictor.objective, restored.predictor.qhat
        parts = {"model": objective.model.state_dict(), "method": objective.method.state_dict(), "qhat": qhat or {}}
        parts["trust"] = of_variant.get("trust", {})
        known = module.state_dict()
        state = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        module.load_state_dict({name: value for name, value in state.items() if name in known})
        return module

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict a batch.

        Parameters
        ----------
        inputs
            By modality, all of them, ``(B, *shape)``: not standardised, as `cpsc_train.Model.read` returns them. Rows
            of samples that lack the modality may hold any values.
        present
            By modality, true for samples that have it, (B,) bool. A sample has at least one.

        Returns
        -------
        dict
            ``probabilities`` (B, C) of the fused decision and ``sets`` (B, C) bool, its prediction set; by modality M,
            ``probabilities.M`` of its head, which mean nothing for samples that lack it, and, with an inference
            variant that has weights, ``trust.M`` (B,) in [0, 1], 0 for samples that lack it.
        """
        scaled = {m: self._standardised(m, inputs[m]) for m in self.modalities}
        mask = {m: present[m] for m in self.modalities}
        taps = NO_TAPS if self._variant is None else self._variant.taps
        features, depths = self.model.encode_depths(scaled, mask, taps)
        weights: dict[str, Tensor] = {}
        typicality: dict[str, Tensor] = {}
        if self._variant is None:
            logits = self._trained.logits(features, mask)
        else:
            logits, weights = self._variant.predict(features, mask, depths)
            typicality = self._variant.typicality(depths) or weights
        probabilities = {head: z.double().softmax(-1) for head, z in logits.items()}
        typical = torch.stack([typicality[m].double() for m in mask], -1) if typicality else None
        sets = self.sets(probabilities[FUSED], torch.stack(list(mask.values()), -1), typical)
        return (
            {"probabilities": probabilities[FUSED].float(), "sets": sets}
            | {f"probabilities.{m}": probabilities[m].float() for m in mask if m in probabilities}
            | {f"trust.{m}": weight for m, weight in weights.items()}
        )

    def _standardised(self, m: str, x: Tensor) -> Tensor:
        if not hasattr(self, f"_mean_{m}"):
            return x
        scaled: Tensor = (x - getattr(self, f"_mean_{m}")) / getattr(self, f"_std_{m}")
        return scaled

    def _scaled(self, scales: Mapping[str, Scale]) -> list[str]:
        """Return the modalities whose inputs are standardised here: texts are not, and waveforms in their encoder."""
        return [m for m, one in self.modalities.items() if one.spectrum is None and one.kind != "text" and m in scales]


def _without_rows(_module: nn.Module, state: dict[str, Any], _prefix: str, _metadata: object) -> None:
    """Remove what a method stores for each training row, which predictions do not need, from a state."""
    for name in [name for name in state if name.endswith(ROWS)]:
        del state[name]


def _without_missing_rows(_module: nn.Module, keys: Any) -> None:
    """Accept a state without it."""
    keys.missing_keys[:] = [name for name in keys.missing_keys if not name.endswith(ROWS)]


def _scales(described: Mapping[str, Any]) -> dict[str, Scale]:
    """Return the scales that a description holds as lists."""
    return scales_of(
        {m: None if one is None else [np.array(values, np.float32) for values in one] for m, one in described.items()}
    )
