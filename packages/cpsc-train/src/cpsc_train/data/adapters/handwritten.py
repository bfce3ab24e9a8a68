"""UCI Multiple Features: 2,000 handwritten digits in six feature sets. The embedded default."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, check_modalities
from cpsc_train.data.families.arrays import Arrays, View
from cpsc_train.data.modality import Modality
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.data.strings import StringArray
from cpsc_train.errors import UserError

VIEWS = {
    "pix": Modality(kind="image", shape=(1, 16, 15), bounds=(0.0, 6.0)),
    "fou": Modality(kind="vector", shape=(76,)),
    "kar": Modality(kind="vector", shape=(64,)),
    "fac": Modality(kind="vector", shape=(216,)),
    "zer": Modality(kind="vector", shape=(47,)),
    "mor": Modality(kind="vector", shape=(6,)),
}
EMBEDDED = "data/embedded/handwritten.npz"
CLASSES = tuple("0123456789")


@dataclass(frozen=True, kw_only=True)
class HandwrittenConfig(DataConfig, name="handwritten"):
    """Handwritten digits of the UCI Multiple Features data set (CC BY 4.0)."""

    licence = "CC BY 4.0"

    modalities: tuple[str, ...] = ("pix", "fou")
    """Two to six of pix (16×15 image), fou, kar, fac, zer, mor (vectors)."""
    file: str | None = None
    """An .npz file with the same arrays. If None, the embedded one."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, list(VIEWS))

    def load(self) -> Arrays:
        """Read the file: one (N, features) array per view and ``label``, (N,) in 0…9."""
        file = Path(self.file) if self.file else Path(str(files("cpsc_train").joinpath(EMBEDDED)))
        arrays = read_npz(file)
        for name in ("label", *self.modalities):
            if name not in arrays:
                raise UserError(f"{file}: has no array {name!r} (it holds: {', '.join(arrays)})")
        labels = _labels(file, arrays["label"], len(CLASSES))
        views = {name: View(VIEWS[name], arrays[name], f"{file}: {name}") for name in self.modalities}
        return Arrays(StringArray.of(f"{row:04d}" for row in range(len(labels))), labels, CLASSES, views)


def _labels(file: Path, labels: NDArray[np.float32], classes: int) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{file}: label must hold one integer a row, got {labels.dtype} of shape {labels.shape}")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise UserError(f"{file}: label at row {bad[0]} must lie in 0…{classes - 1}, got {labels[bad[0]]}")
    return labels.astype(np.int64)
