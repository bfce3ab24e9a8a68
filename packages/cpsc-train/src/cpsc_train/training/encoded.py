"""Encoded parts of the data, kept so that each modality is encoded once under each noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cpsc_rsc import Taps
from cpsc_train.data import Dataset, Noise
from cpsc_train.evaluation import Predictions
from cpsc_train.inference import Inference
from cpsc_train.methods import PartFeatures
from cpsc_train.models.multimodal import NO_TAPS
from cpsc_train.training.evaluator import Evaluator

UNKEPT = "test"
"""Part whose noisy features are not kept: each condition uses them once."""


class EncodedParts:
    """Parts of the data, encoded by one model.

    - `evaluator`: encodes and predicts.
    - `taps`: by modality, depths at which activations are taken, too.

    Notes
    -----
    Modalities are encoded separately, so noise on some of them, and leaving some out, leaves the features of the others
    as they are: only noisy modalities are encoded again.
    """

    def __init__(self, evaluator: Evaluator, taps: Mapping[str, Taps] = NO_TAPS) -> None:
        self._evaluator = evaluator
        self._taps = taps
        self._kept: dict[tuple[str, str, tuple[Noise, ...]], PartFeatures] = {}

    @property
    def dataset(self) -> Dataset:
        """The data set of the run."""
        return self._evaluator.setup.dataset

    def part(self, name: str, noise: Sequence[Noise] = ()) -> PartFeatures:
        """Return the features of all rows of a part, clean or with noise."""
        return self._rows(name, tuple(noise), tuple(self.dataset.modalities))

    def collect(self, part: str, noise: Sequence[Noise] = (), without: Sequence[str] = ()) -> Predictions:
        """Return the predictions of the model for all rows of a part, with `noise`, and `without` some modalities."""
        kept = tuple(m for m in self.dataset.modalities if m not in without)
        return self._evaluator.predict(self._rows(part, tuple(noise), kept))

    def vary(self, inference: Inference, plain: Predictions) -> Predictions:
        """Return the predictions of an inference variant for the rows of `plain`, from the features in it."""
        present = {m: mask for m, mask in plain.present.items() if m in self.dataset.modalities}
        rows = PartFeatures(plain.features, plain.labels, present, plain.depths)
        return self._evaluator.predict(rows, inference)

    def _rows(self, part: str, noise: tuple[Noise, ...], modalities: tuple[str, ...]) -> PartFeatures:
        keys = {m: (part, m, tuple(one for one in noise if one.modality == m)) for m in modalities}
        missing = [m for m, key in keys.items() if key not in self._kept]
        encoded = {}
        if missing:
            rows = self._evaluator.encode(part, noise, missing, self._taps)
            encoded = {m: _only(rows, m) for m in missing}
            self._kept |= {keys[m]: one for m, one in encoded.items() if part != UNKEPT or not keys[m][2]}
        parts = [encoded.get(m) or self._kept[key] for m, key in keys.items()]
        features = {m: h for one in parts for m, h in one.features.items()}
        depths = {m: h for one in parts for m, h in one.depths.items()}
        return replace(parts[0], features=features, depths=depths)


def _only(rows: PartFeatures, modality: str) -> PartFeatures:
    depths = {modality: rows.depths[modality]} if modality in rows.depths else {}
    return replace(rows, features={modality: rows.features[modality]}, depths=depths)
