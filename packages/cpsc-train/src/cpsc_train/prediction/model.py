"""A trained model that predicts new samples."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpsc_train.data import Batch, DataConfig, Modality
from cpsc_train.data.preprocessing import standardised
from cpsc_train.errors import DataError, UserError
from cpsc_train.evaluation import prediction_sets
from cpsc_train.methods import PartFeatures
from cpsc_train.models import FUSED
from cpsc_train.models.multimodal import NO_TAPS
from cpsc_train.prediction.reading import Inputs, SampleReader
from cpsc_train.prediction.result import PredictionBatch
from cpsc_train.prediction.state import Restored, restore
from cpsc_train.runs import RunFolder
from cpsc_train.training.objective import as_array

ONE = (str, bytes, bytearray, memoryview, Path, tuple)
"""Types of a value that is one sample; any other iterable holds several."""


def load(run: str | os.PathLike[str], *, device: str | None = None, inference: str | None = None) -> Model:
    """Load the best model of a run for predictions; neither data nor training rows are needed.

    Parameters
    ----------
    run
        Run folder.
    device
        ``cpu``, ``cuda``, ``cuda:1`` and so on. If None, that of the run; ``auto`` uses a GPU if there is one.
    inference
        Inference variant of the run, or ``plain`` for none. If None, ``trust`` if the run has it, else ``plain``.

    Raises
    ------
    UserError
        If the run is not finished, its checkpoint lacks what predictions need, a file is damaged, or the device or the
        variant is unknown.
    """
    return Model(restore(RunFolder(run), device=device, inference=inference))


class Model:
    """The trained model of a run. `load` returns one."""

    def __init__(self, restored: Restored) -> None:
        self._predictor, self._inference = restored.predictor, restored.inference
        self._config, self._state = restored.predictor.config, restored.state
        self._thresholds = restored.thresholds
        self._lock = threading.Lock()
        self.reader = SampleReader(self._config.data, restored.state.modalities)
        """Reads samples; it can be sent to other processes."""
        self.inference = restored.name
        """Inference variant, ``plain`` if there is none."""

    def __repr__(self) -> str:
        """Return modalities, classes and inference variant."""
        inputs = ", ".join(f"{m}: {modality.summary}" for m, modality in self.modalities.items())
        return f"<Model of {inputs}; {len(self.classes)} classes; inference {self.inference}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """C class names."""
        return self._state.classes

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modalities by name, in order."""
        return dict(self._state.modalities)

    @property
    def alpha(self) -> float:
        """Miscoverage of the prediction sets, that of the run."""
        return self._thresholds.alpha

    @property
    def data(self) -> DataConfig:
        """Options of the data set that the run was trained on."""
        return self._config.data

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self._predictor.objective.device

    @property
    def batch_size(self) -> int:
        """Samples predicted at once by default: the batch size of the run."""
        return self._config.batch_size

    def predict(self, samples: Mapping[str, object], *, batch_size: int | None = None) -> PredictionBatch:
        """Predict one or several samples.

        Parameters
        ----------
        samples
            By modality, a list with an entry for each sample, None where a sample lacks it, or an array or tensor with
            the samples along its first dimension, NaN for those that lack it. A modality may be left out. An entry is a
            path, the content of a file as bytes, an array in the form of the training data, such as an image (height,
            width, 3), or a text; a single one that is not an array may stand in place of a list.
        batch_size
            Samples read and predicted at once. If None, `batch_size` of the model.

        Returns
        -------
        PredictionBatch
            The predictions, a sequence in the order of the samples.

        Raises
        ------
        UserError
            If a modality is unknown, modalities differ in their number of samples, or a sample cannot be read or has
            no modality; names its place.
        """
        size = self.batch_size if batch_size is None else batch_size
        if size < 1:
            raise UserError(f"batch_size must be at least 1, got {size}")
        columns = self._columns(samples)
        rows = len(next(iter(columns.values())))
        batches = [
            self.predict_inputs([self._read_row(columns, row) for row in range(start, min(start + size, rows))])
            for start in range(0, max(1, rows), size)
        ]
        return PredictionBatch.joined(batches)

    def read(self, sample: Mapping[str, object]) -> dict[str, NDArray[Any]]:
        """Return the model inputs of one sample by modality that it has, for `predict_inputs`.

        Parameters
        ----------
        sample
            By modality, an entry as for `predict`; None if it is missing.

        Raises
        ------
        UserError
            If a modality is unknown, an entry cannot be read, or there is none.
        """
        return self.reader.read(sample)

    def predict_inputs(self, samples: Sequence[Inputs]) -> PredictionBatch:
        """Predict samples from their model inputs, as `read` returns them, in one batch. Threads take turns.

        Raises
        ------
        UserError
            If an input has the wrong shape, or a sample has no modality.
        """
        present = {m: np.array([m in sample for sample in samples], dtype=np.bool_) for m in self._state.modalities}
        if not samples:
            nothing = np.zeros((0, len(self.classes)))
            return PredictionBatch(self.classes, self.alpha, nothing, nothing > 0, present, {})
        if not np.logical_or.reduce(list(present.values())).all():
            raise DataError(f"a sample has no modality of {', '.join(self.modalities)}", "missing")
        with self._lock, self._config.compute.applied():
            rows = self._encoded(samples, present)
            predictions = self._predictor.predict(rows, self._inference)
            sets = prediction_sets(self._thresholds, predictions, FUSED)
        lacking = np.full(len(samples), np.nan)
        weights = predictions.weights
        trust = {m: np.where(mask, weights.get(m, lacking), np.nan) for m, mask in present.items()} if weights else {}
        return PredictionBatch(
            self.classes, self.alpha, np.asarray(predictions.probabilities[FUSED]), sets, present, trust
        )

    def _encoded(self, samples: Sequence[Inputs], present: Mapping[str, NDArray[np.bool_]]) -> PartFeatures:
        """Return the features of samples; a modality that all of them lack is left out."""
        inputs = {m: torch.from_numpy(self._stacked(m, samples)) for m, mask in present.items() if mask.any()}
        masks = {m: torch.from_numpy(mask) for m, mask in present.items() if mask.any() and not mask.all()}
        labels = torch.full((len(samples),), -1)
        batch = Batch((), labels, inputs, torch.arange(len(samples)), masks).to(self.device)
        taps = NO_TAPS if self._inference is None else self._inference.taps
        features, depths = self._predictor.objective.encode(batch, taps)
        return PartFeatures(
            {m: as_array(h) for m, h in features.items()},
            labels.numpy(),
            {m: present[m] for m in masks},
            {m: tuple(as_array(h) for h in values) for m, values in depths.items()},
        )

    def _stacked(self, m: str, samples: Sequence[Inputs]) -> NDArray[Any]:
        """Return the standardised inputs of one modality; zeros for samples that lack it."""
        modality, scale = self._state.modalities[m], self._state.scales[m]
        first = next(sample[m] for sample in samples if m in sample)
        for sample in samples:
            self.reader.check({m: sample[m]} if m in sample else {}, like=first.shape)
        places = [place for place, sample in enumerate(samples) if m in sample]
        values = standardised(np.stack([samples[place][m] for place in places]), modality, scale)
        stacked = np.zeros((len(samples), *values.shape[1:]), values.dtype)
        stacked[places] = values
        return stacked

    def _columns(self, samples: Mapping[str, object]) -> dict[str, Sequence[object]]:
        """Return the entries of each modality, all of one length."""
        if not isinstance(samples, Mapping):
            raise UserError(f"samples must map each modality to its entries, got {type(samples).__name__}")
        columns: dict[str, Sequence[object]] = {}
        for m, given in samples.items():
            self.reader.check_name(m)
            if given is not None:
                columns[m] = list(_entries(given))
        sizes = {len(column) for column in columns.values()}
        if not columns:
            raise UserError(f"samples must have at least one modality of {', '.join(self.modalities)}")
        if len(sizes) > 1:
            numbers = ", ".join(f"{m} {len(column)}" for m, column in columns.items())
            raise UserError(f"samples must have an entry for each sample in every modality, got {numbers}")
        return columns

    def _read_row(self, columns: Mapping[str, Sequence[object]], row: int) -> dict[str, NDArray[Any]]:
        try:
            return self.read({m: column[row] for m, column in columns.items()})
        except DataError as error:
            raise DataError(f"sample {row}: {error}", error.kind) from None


def _entries(given: object) -> Iterator[object]:
    """Yield the samples of one modality: one that is not an array, or those along the first dimension."""
    if isinstance(given, ONE) or hasattr(given, "convert") or not isinstance(given, Iterable):
        yield given
        return
    if getattr(given, "ndim", 1) == 0:
        raise UserError("an array of samples must have a first dimension that counts them, got a single number")
    yield from given
