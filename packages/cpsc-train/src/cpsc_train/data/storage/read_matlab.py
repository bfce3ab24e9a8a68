"""Program that reads variables of the MATLAB file on standard input and writes them as JSON, flattened.

SciPy's reader can crash on a damaged file, and the memory of a process can be limited, so it runs in a process of its
own. Arguments: bytes of memory, largest number of values of a variable, and the names of the variables.
"""

import contextlib
import io
import json
import sys

import numpy as np
from scipy.io import loadmat


def limit(memory: int) -> None:
    """Limit the memory of this process, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def flatten(values: object, most: int) -> list[object]:
    """Return numbers, or the strings of a cell array."""
    flat = np.asarray(values).ravel()
    if flat.size > most:
        raise ValueError(f"a variable has {flat.size:,} values, more than the {most:,} of a list")
    return [str(np.asarray(cell).ravel()[0]) for cell in flat] if flat.dtype == object else flat.tolist()


if __name__ == "__main__":
    memory, most, *names = sys.argv[1:]
    limit(int(memory))
    variables = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=names)
    json.dump({name: flatten(variables[name], int(most)) for name in names if name in variables}, sys.stdout)
