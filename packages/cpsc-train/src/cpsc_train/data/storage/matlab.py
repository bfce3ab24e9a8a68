"""Readers of MATLAB files: SciPy for those of version 5, h5py for those of version 7.3, which are HDF5."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from cpsc_train.data.storage.files import Place, read_bytes
from cpsc_train.data.storage.untrusted import LARGEST_LIST, LONGEST_LIST, READER_MEMORY
from cpsc_train.errors import DataError, UserError, needs, out_of_memory, reason
from cpsc_train.reading import check_file

READER = Path(__file__).with_name("read_matlab.py")
LONGEST = 60
"""Seconds that reading a list may take."""


def load(path: Place, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return variables of a file of version 5, flat: numbers, or the strings of a cell array.

    Raises
    ------
    DataError
        If the file is missing or damaged, or lacks a variable, or one is longer than a list of samples.
    """
    content = read_bytes(path)
    if len(content) > LARGEST_LIST:
        raise DataError(f"{path}: must have at most {LARGEST_LIST:,} bytes, got {len(content):,}", "wrong size")
    command = [sys.executable, "-P", str(READER), str(READER_MEMORY), str(LONGEST_LIST), *names]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # every thread takes memory
    try:
        with TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603  # our own program
                command,
                input=content,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=LONGEST,
                check=False,
                env=environment,
            )
            output.seek(0)
            variables: dict[str, list[Any]] = json.loads(output.read(LARGEST_LIST))
    except subprocess.TimeoutExpired:
        raise DataError(f"{path}: is not a readable file of MATLAB (reading took {LONGEST} s)") from None
    except ValueError:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"its reader ended with {done.returncode}"
        raise DataError(f"{path}: is not a readable file of MATLAB ({why})") from None
    for name in names:
        if name not in variables:
            raise DataError(f"{path}: has no variable {name!r}", "bad file")
    return variables


@contextmanager
def open_hdf5(path: Path, what: str, kind: str = "damaged") -> Iterator[Any]:
    """Open a file of version 7.3 to read `what`.

    Raises UserError if it is not a file or cannot be opened, or h5py is not installed; and for any error inside the
    block, as a `DataError` of this kind.
    """
    with needs("h5py", extra="vision"):
        import h5py  # noqa: PLC0415  # an extra
    try:
        check_file(path, largest=None)
        opened = h5py.File(path, "r")
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: is not a readable file of MATLAB 7.3 ({reason(error)})") from None
    with opened as file:
        try:
            yield file
        except UserError:
            raise
        except Exception as error:  # a damaged file can make h5py fail in any way
            if out_of_memory(error):
                raise
            raise DataError(f"{path}: {what} cannot be read ({reason(error)})", kind) from None
