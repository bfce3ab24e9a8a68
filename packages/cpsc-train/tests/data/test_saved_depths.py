"""Saved features of several depths in a file of arrays."""

from __future__ import annotations

import numpy as np
import pytest

from cpsc_train.data.adapters.arrays import ArraysConfig
from cpsc_train.errors import UserError
from cpsc_train.training.settled import encoder_of

ROWS = 12


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(ROWS, 9)).astype(np.float16),
        "text": rng.normal(size=(ROWS, 4)).astype(np.float16),
        "label": np.arange(ROWS) % 3,
        "widths/image": np.array([2, 3, 4]),
    }


def opened(path, arrays):
    np.savez(path, **arrays)
    return ArraysConfig(root=str(path)).open()


def test_widths_are_those_of_the_modality(tmp_path, arrays):
    dataset = opened(tmp_path / "f.npz", arrays)
    assert list(dataset.modalities) == ["image", "text"]
    assert {name: modality.depths for name, modality in dataset.modalities.items()} == {"image": (2, 3, 4), "text": ()}
    assert [encoder_of(modality).name for modality in dataset.modalities.values()] == ["saved-features", "mlp"]
    assert not dataset.notes


def test_as_many_depths_as_rows_are_still_widths(tmp_path, arrays):
    arrays = {name: array[:3] for name, array in arrays.items()}
    assert opened(tmp_path / "f.npz", arrays).modalities["image"].depths == (2, 3, 4)


@pytest.mark.parametrize("widths", [[2, 3], [2.0, 3.0, 4.0], [[2, 3, 4]], [0, 5, 4], [-1, 6, 4]])
def test_widths_that_do_not_fit_are_refused(tmp_path, arrays, widths):
    with pytest.raises(UserError, match=r"widths/image must hold positive integers whose sum .* row of image"):
        opened(tmp_path / "f.npz", arrays | {"widths/image": np.array(widths)})
