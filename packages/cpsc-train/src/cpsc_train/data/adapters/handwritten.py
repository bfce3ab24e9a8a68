"""UCI Multiple Features: 2,000 handwritten digits in six feature sets. The embedded default."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, Dataset, Modality, check_modalities
from cpsc_train.data.storage.npz import read_npz
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


@dataclass(frozen=True, kw_only=True)
class HandwrittenConfig(DataConfig, name="handwritten"):
    """Handwritten digits of the UCI Multiple Features data set (CC BY 4.0)."""

    modalities: tuple[str, ...] = ("pix", "fou")
    """Two to six of pix (16×15 image), fou, kar, fac, zer, mor (vectors)."""
    file: str | None = None
    """An .npz file with the same arrays. If None, the embedded one."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, list(VIEWS))

    def load(self) -> Handwritten:
        """Read the file."""
        file = Path(self.file) if self.file else Path(str(files("cpsc_train").joinpath(EMBEDDED)))
        return Handwritten(file, self.modalities)


class Handwritten(Dataset):
    """All views in memory.

    Parameters
    ----------
    file
        An .npz file with one (N, features) array per view and ``label``, (N,) in 0…9.
    modalities
        The views to read.
    """

    classes = tuple("0123456789")

    def __init__(self, file: Path, modalities: tuple[str, ...]) -> None:
        self.modalities = {name: VIEWS[name] for name in modalities}
        arrays = read_npz(file)
        for name in ("label", *modalities):
            if name not in arrays:
                raise UserError(f"{file}: has no array {name!r} (it holds: {', '.join(arrays)})")
        self.labels = _labels(file, arrays["label"], len(self.classes))
        self.ids = [f"{row:04d}" for row in range(len(self.labels))]
        self._views = {name: self._view(file, name, arrays[name]) for name in modalities}

    def _view(self, file: Path, name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = self.modalities[name].shape
        expected = (len(self.labels), int(np.prod(shape)))
        if array.shape != expected:
            raise UserError(f"{file}: {name} must have shape {expected}, got {array.shape}")
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            row, column = bad[0]
            raise UserError(
                f"{file}: {name} holds {array[row, column]} at row {row}, column {column} ({len(bad)} bad values in "
                "all): remove or impute them"
            )
        return array.reshape(-1, *shape).astype(np.float32)

    def read(self, modality: str, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Return the samples at `rows`."""
        return self._views[modality][rows]


def _labels(file: Path, labels: NDArray[np.float32], classes: int) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{file}: label must hold one integer a row, got {labels.dtype} of shape {labels.shape}")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise UserError(f"{file}: label at row {bad[0]} must lie in 0…{classes - 1}, got {labels[bad[0]]}")
    return labels.astype(np.int64)
