"""What released versions saved loads and answers as it did there.

Run as a script, this adds the states of this version to ``released/``. A file there is never changed.
"""

from pathlib import Path

import numpy as np
import pytest

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


def check(path):
    """Compare the answers of the classes of a file with those that they gave there."""
    parts = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            name, _, part = key.partition("/")
            parts.setdefault(name, {})[part] = file[key]
    for name, state in parts.items():
        made, answers = cases.MADE[name](), state.pop(ANSWERS)
        made.load_state_dict(unflatten_state(state))
        np.testing.assert_allclose(cases.answers(name, made), answers, rtol=1e-12, err_msg=name)
    return set(parts)


def test_states_that_are_written_now_are_read(tmp_path):
    write(tmp_path / "now.npz")
    assert check(tmp_path / "now.npz") == set(cases.MADE)
    with pytest.raises(FileExistsError):
        write(tmp_path / "now.npz")


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.npz")))
def test_states_of_a_released_version_are_read(name):
    check(FOLDER / name)


if __name__ == "__main__":
    write(FOLDER / f"{__version__}.npz")
