"""What released versions saved loads and answers as it did there."""

import re
from pathlib import Path

import numpy as np
import pytest

import released
import test_states as cases

CHANGES = (Path(__file__).parents[1] / "CHANGELOG.md").read_text("utf-8")
VERSIONS = re.findall(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", CHANGES, flags=re.MULTILINE)


def check(path):
    for name, (answers, state) in released.read(path).items():
        made = cases.MADE[name]()
        made.load_state_dict(state)
        np.testing.assert_allclose(cases.answers(name, made), answers, rtol=1e-12, err_msg=name)


def test_states_that_are_written_now_are_read(tmp_path):
    path = tmp_path / "states.npz"
    released.write(path)
    assert set(released.read(path)) == set(cases.MADE)
    check(path)
    with pytest.raises(FileExistsError):
        released.write(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_states_of_a_released_version_are_read(version):
    path = released.FOLDER / f"{version}.npz"
    assert path.exists(), "run python packages/conformal-core/tests/released.py"
    check(path)
