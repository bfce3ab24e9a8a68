"""Files of MATLAB, old ones by SciPy and those of version 7.3, which are HDF5, by h5py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import LARGEST_LIST, LONGEST_LIST, READER_MEMORY
from cpsc_train.errors import DataError, needs, reason
from cpsc_train.reading import check_file

READER = Path(__file__).with_name("read_matlab.py")
LONGEST = 60
"""Seconds that reading a list may take."""


def load(path: Place, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return variables of a file of version 5, flat: numbers, or the strings of a cell array.

    Raises
    ------
    DataError
        If it is missing, damaged, or lacks one, or one is longer than a list of samples.
    """
    held = read_bytes(path)
    if len(held) > LARGEST_LIST:
        raise DataError(f"{path}: must have at most {LARGEST_LIST:,} bytes, got {len(held):,}", "wrong size")
    command = [sys.executable, "-P", str(READER), str(READER_MEMORY), str(LONGEST_LIST), *names]
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread of it would ask for memory
    try:
        with TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603  # our own program
                command, input=held, stdout=output, stderr=subprocess.PIPE, timeout=LONGEST, check=False, env=one_thread
            )
            output.seek(0)
            found: dict[str, list[Any]] = json.loads(output.read(LARGEST_LIST))
    except subprocess.TimeoutExpired:
        raise DataError(f"{path}: is not a readable file of MATLAB (reading took {LONGEST} s)") from None
    except ValueError:
        told = done.stderr.decode(errors="replace").strip().splitlines() or [f"its reader ended with {done.returncode}"]
        raise DataError(f"{path}: is not a readable file of MATLAB ({told[-1]})") from None
    for name in names:
        if name not in found:
            raise DataError(f"{path}: has no variable {name!r}", "bad file")
    return found


def open_hdf5(path: str) -> Any:
    """Open a file of version 7.3, to be closed by the caller.

    Raises
    ------
    UserError
        If it is no file or cannot be opened, or h5py is not installed.
    """
    with needs("h5py", extra="vision"):
        import h5py  # noqa: PLC0415  # an extra
    try:
        check_file(Path(path), largest=None)
        return h5py.File(path, "r")
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: is not a readable file of MATLAB 7.3 ({reason(error)})") from None
