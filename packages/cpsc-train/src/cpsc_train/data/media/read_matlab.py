"""A program: read variables of the MATLAB file on the standard input, and write them as JSON, flat.

It is a process of its own because SciPy's reader can end its process on a damaged file.
"""

import io
import json
import sys

import numpy as np
from scipy.io import loadmat


def plain(values: object) -> list[object]:
    """Return numbers, or the strings of a cell array."""
    flat = np.asarray(values).ravel()
    return [str(np.asarray(cell).ravel()[0]) for cell in flat] if flat.dtype == object else flat.tolist()


if __name__ == "__main__":
    held = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=sys.argv[1:])
    json.dump({name: plain(held[name]) for name in sys.argv[1:] if name in held}, sys.stdout)
