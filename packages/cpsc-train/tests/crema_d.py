"""CREMA-D as tests of prepared data open it, and the comparison of two copies."""

from __future__ import annotations

import numpy as np

from cpsc_train.data import DataConfig

OPTIONS = {"split": "speaker", "size": 16, "frames": 2}


def config(root, **options):
    return DataConfig.named("crema-d")(root=str(root), **{**OPTIONS, **options})


def same(one, other):
    assert list(one.ids) == list(other.ids)
    rows = np.arange(0, len(one), 7)
    for modality in one.modalities:
        np.testing.assert_array_equal(one.read(modality, rows), other.read(modality, rows))
        draws = [[np.random.default_rng(row) for row in rows] for _ in range(2)]
        np.testing.assert_array_equal(
            one.augmented(modality, rows, draws[0]), other.augmented(modality, rows, draws[1])
        )
