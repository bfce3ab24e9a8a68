"""Files of MATLAB, old ones by SciPy and those of version 7.3, which are HDF5, by h5py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpsc_train.data.media.files import Place, read_bytes
from cpsc_train.errors import DataError, needs, reason

READER = Path(__file__).with_name("read_matlab.py")
LONGEST = 60
"""Seconds that reading a list may take."""


def load(path: Place, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return variables of a file of version 5, flat: numbers, or the strings of a cell array.

    Raises
    ------
    DataError
        If it is missing, damaged, or lacks one.
    """
    held = read_bytes(path)
    try:
        done = subprocess.run(  # noqa: S603  # our own program
            [sys.executable, "-P", str(READER), *names], input=held, capture_output=True, timeout=LONGEST, check=False
        )
        found: dict[str, list[Any]] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise DataError(f"{path}: is not a readable file of MATLAB (reading took {LONGEST} s)") from None
    except ValueError:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"its reader ended with {done.returncode}"]
        raise DataError(f"{path}: is not a readable file of MATLAB ({said[-1]})") from None
    for name in names:
        if name not in found:
            raise DataError(f"{path}: has no variable {name!r}", "bad file")
    return found


def open_hdf5(path: str) -> Any:
    """Open a file of version 7.3, to be closed by the caller.

    Raises
    ------
    UserError
        If it cannot be opened, or h5py is not installed.
    """
    with needs("h5py", extra="vision"):
        import h5py  # noqa: PLC0415  # an extra
    try:
        return h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: is not a readable file of MATLAB 7.3 ({reason(error)})") from None
