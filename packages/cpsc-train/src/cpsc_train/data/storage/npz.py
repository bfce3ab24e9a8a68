"""Reader of ``.npz`` files that refuses objects, and arrays larger than the file can hold."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cpsc_train.data.storage.untrusted import check_archive
from cpsc_train.errors import DataError, out_of_memory, reason
from cpsc_train.reading import check_file

Numbers = NDArray[np.unsignedinteger[Any]]


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays by name.

    Headers are compared with the size of the file before memory is allocated: all arrays together take at most 1,032
    times that size, the limit of deflate. Raises DataError if the file is missing or damaged, holds objects or anything
    else than arrays, uses a compression other than deflate, or claims to be larger than it is.
    """
    try:
        check_file(path, largest=None)
        with path.open("rb") as file:
            return parse_npz(file, os.fstat(file.fileno()).st_size)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "missing") from None
    except (OSError, ValueError) as error:
        if out_of_memory(error):
            raise
        raise DataError(f"{path}: is not a readable .npz file ({reason(error)})", "damaged") from None


def parse_npz(file: IO[bytes], size: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an open file of `size` bytes, as `read_npz`; ValueError in place of DataError."""
    try:
        with zipfile.ZipFile(file) as archive:
            check_archive(archive, size)
            return {info.filename.removesuffix(".npy"): _array(archive, info) for info in archive.infolist()}
    except (TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if out_of_memory(error):
            raise
        raise ValueError(reason(error)) from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as member:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(member)
        if dtype.hasobject:
            name = info.filename.removesuffix(".npy")
            raise ValueError(f"{name[:80]!r} holds Python objects: save numbers or strings, such as astype(str)")
        if math.prod(shape) * dtype.itemsize > info.file_size or min(shape, default=0) < 0:
            raise ValueError("states a larger size than its content")
    with archive.open(info) as member:
        return np.asarray(npy.read_array(member, allow_pickle=False))


def narrow(numbers: NDArray[Any]) -> Numbers:
    """Return integers of at least 0 in the smallest unsigned type, for a small file."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))
