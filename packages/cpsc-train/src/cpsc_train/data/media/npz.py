"""Arrays of a ``.npz`` file: none of objects, and none larger than the file can hold."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cpsc_train.errors import DataError


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays by name.

    What headers claim is compared with what lies there before memory is asked for, so that a file makes at most 1,032
    times its own size, which is as far as its compression goes.

    Raises
    ------
    DataError
        If it is missing or damaged, holds objects, or claims to be larger than it is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    _check_header(member, info.file_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "missing") from None
    except (
        *(OSError, ValueError, TypeError, EOFError, MemoryError, RuntimeError, NotImplementedError),
        *(zipfile.BadZipFile, zlib.error),
    ):
        raise DataError(f"{path}: is not a readable .npz file", "damaged") from None


def _check_header(member: IO[bytes], size: int) -> None:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    if math.prod(shape) * dtype.itemsize > size or min(shape, default=0) < 0:
        raise ValueError("claims more than it holds")
