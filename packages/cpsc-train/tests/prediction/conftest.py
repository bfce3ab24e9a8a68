"""A run with trust on digits of which some lack a modality, and the arrays that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import cpsc_train
from cpsc_train.config import apply_settings
from cpsc_train.recipes import recipe

SMALL = ["splits.calibration=0.2", "epochs=3"]


@dataclass(frozen=True)
class Digits:
    """A run, its file of arrays, and the test rows."""

    run: Path
    file: Path
    arrays: dict
    rows: np.ndarray

    def given(self, *modalities):
        """Return the test rows of some modalities."""
        return {m: self.arrays[m][self.rows] for m in modalities or ("pix", "fou")}

    @property
    def labels(self):
        return self.arrays["label"][self.rows]


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A run on 60 rows a class, with predictions by trust."""
    folder = tmp_path_factory.mktemp("digits")
    with np.load(str(files("cpsc_train").joinpath("data/embedded/handwritten.npz"))) as archive:
        arrays = {name: archive[name] for name in ("label", "pix", "fou")}
    rows = np.concatenate([np.flatnonzero(arrays["label"] == label)[:60] for label in range(10)])
    arrays = {name: array[rows] for name, array in arrays.items()}
    np.savez(folder / "digits.npz", **arrays)
    config = apply_settings(recipe("handwritten"), [*SMALL, f"data.file={folder / 'digits.npz'}"])
    cpsc_train.train(replace(config, noise=()), folder / "run")
    with np.load(folder / "run/predictions.npz") as predictions:
        test = predictions["ids"].astype(int)
    return Digits(folder / "run", folder / "digits.npz", arrays, test)
