"""States of every class, as released versions saved them: `python released.py` adds those of this version.

A file is never changed afterwards: it shows that later versions load what this one saved.
"""

import sys
from pathlib import Path

import numpy as np

import test_states as cases
from conformal_core import __version__
from conformal_core._state import flatten_state, unflatten_state

FOLDER = Path(__file__).parent / "released"
ANSWERS = "answers"


def write(path):
    """Save the state of every class, and what it answers afterwards."""
    arrays = {}
    for name, make in cases.MADE.items():
        made = make()
        cases.feed(name, made)
        arrays |= {f"{name}/{key}": value for key, value in flatten_state(made.state_dict()).items()}
        arrays[f"{name}/{ANSWERS}"] = np.asarray(cases.answers(name, made), dtype=float)
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        np.savez_compressed(file, **arrays)


def read(path):
    """Return the state and the answers of each class that a version saved."""
    with np.load(path, allow_pickle=False) as file:
        parts = {}
        for key in file.files:
            name, _, part = key.partition("/")
            parts.setdefault(name, {})[part] = file[key]
    return {name: (part.pop(ANSWERS), unflatten_state(part)) for name, part in parts.items()}


if __name__ == "__main__":
    if (FOLDER / f"{__version__}.npz").exists():
        sys.exit(f"{__version__} has its states already, and they are never changed")
    write(FOLDER / f"{__version__}.npz")
