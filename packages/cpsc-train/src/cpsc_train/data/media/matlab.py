"""Files of MATLAB, old ones by SciPy and those of version 7.3, which are HDF5, by h5py."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from cpsc_train.data.media.files import Place, read_bytes
from cpsc_train.errors import DataError, UserError, reason


def load(path: Place, names: Sequence[str]) -> dict[str, Any]:
    """Return variables of a file of version 5.

    Raises
    ------
    DataError
        If it is missing, damaged, or lacks one.
    """
    from scipy.io import loadmat  # noqa: PLC0415  # slow to import, and seldom needed

    held = read_bytes(path)
    try:
        found = dict(loadmat(io.BytesIO(held), variable_names=list(names)))
    except Exception as error:  # a damaged file can make the reader fail in any way
        raise DataError(f"{path}: is not a readable file of MATLAB ({reason(error)})") from None
    for name in names:
        if name not in found:
            raise DataError(f"{path}: has no variable {name!r}", "bad file")
    return found


def cells(values: Any, path: Place) -> list[str]:
    """Return the strings of a cell array."""
    try:
        return [str(np.asarray(cell).ravel()[0]) for cell in np.asarray(values).ravel()]
    except IndexError:
        raise DataError(f"{path}: must hold strings, and has an empty cell", "bad file") from None


def open_hdf5(path: str) -> Any:
    """Open a file of version 7.3, to be closed by the caller.

    Raises
    ------
    UserError
        If it cannot be opened, or h5py is not installed.
    """
    try:
        import h5py  # noqa: PLC0415  # an extra
    except ImportError:
        raise UserError('h5py is not installed: pip install "cpsc-train[vision]"') from None
    try:
        return h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: is not a readable file of MATLAB 7.3 ({reason(error)})") from None
