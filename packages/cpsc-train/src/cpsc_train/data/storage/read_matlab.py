"""A program: read variables of the MATLAB file on the standard input, and write them as JSON, flat.

It is a process of its own because SciPy's reader can end its process on a damaged file, and because a process can be
given a limit of its memory. Arguments: bytes of memory, values of a variable at most, and the names of the variables.
"""

import contextlib
import io
import json
import sys

import numpy as np
from scipy.io import loadmat


def limit(memory: int) -> None:
    """Refuse this process more memory, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def plain(values: object, most: int) -> list[object]:
    """Return numbers, or the strings of a cell array."""
    flat = np.asarray(values).ravel()
    if flat.size > most:
        raise ValueError(f"a variable has {flat.size:,} values, more than the {most:,} of a list")
    return [str(np.asarray(cell).ravel()[0]) for cell in flat] if flat.dtype == object else flat.tolist()


if __name__ == "__main__":
    memory, most, *names = sys.argv[1:]
    limit(int(memory))
    held = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=names)
    json.dump({name: plain(held[name], int(most)) for name in names if name in held}, sys.stdout)
