"""Model inputs of new samples, without the model, so that other processes can read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpsc_train.config import unknown
from cpsc_train.data import DataConfig, Modality
from cpsc_train.data.readers import Reader
from cpsc_train.errors import DataError, UserError

Inputs = Mapping[str, NDArray[Any]]
"""Model inputs of one sample by modality that it has, (*shape), not standardised."""


class SampleReader:
    """Reader of samples that need not belong to a data set.

    - `data`: options of the data set of the run.
    - `modalities`: properties of the model's inputs by modality, in order.
    """

    def __init__(self, data: DataConfig, modalities: Mapping[str, Modality]) -> None:
        self.modalities = dict(modalities)
        self._readers = data.readers(modalities)

    @property
    def decodes(self) -> bool:
        """Whether a modality is read from files."""
        return any(type(reader).decode is not Reader.decode for reader in self._readers.values())

    def read(self, sample: Mapping[str, object]) -> dict[str, NDArray[Any]]:
        """Return the inputs of one sample, as `cpsc_train.Model.read` does."""
        inputs = {}
        for m, given in sample.items():
            self.check_name(m)
            if not _is_missing(given):
                inputs[m] = self._read(m, given)
        if not inputs:
            raise DataError(f"the sample has no modality of {', '.join(self._readers)}", "missing")
        return inputs

    def check_name(self, m: str) -> None:
        """Raise UserError if the model has no such modality."""
        if m not in self.modalities:
            raise UserError(unknown("modality", m, list(self.modalities)))

    def check(self, inputs: Inputs, *, like: tuple[int, ...] | None = None) -> None:
        """Check the modalities and shapes of inputs that were read otherwise.

        Parameters
        ----------
        inputs
            Model inputs of a sample.
        like
            Expected shape of waveforms, whose length the model does not determine. If None, any.

        Raises
        ------
        UserError
            If a modality is unknown, or an input has another shape; names the modality.
        """
        for m, values in inputs.items():
            self.check_name(m)
            modality = self.modalities[m]
            expected = modality.shape if modality.spectrum is None else like or values.shape
            if values.shape != expected:
                raise DataError(f"{m}: the model's input must have shape {expected}, got {values.shape}", "wrong size")

    def _read(self, m: str, given: object) -> NDArray[Any]:
        reader = self._readers[m]
        try:
            values: NDArray[Any] = reader.inputs(reader.read(given)[None])[0]
        except UserError as error:
            raise DataError(f"{m}: {error}", getattr(error, "kind", "damaged")) from None
        except OSError as error:
            raise DataError(f"{m}: {error.filename or given}: cannot be read ({error.strerror or error})") from None
        return values


def _is_missing(given: object) -> bool:
    """Return whether a sample lacks a modality: None, or NaN in every place."""
    if given is None or (isinstance(given, float) and math.isnan(given)):
        return True
    values = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else given
    return isinstance(values, np.ndarray) and values.dtype.kind == "f" and bool(np.isnan(values).all())
