"""Settings every test of this package shares."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# for `import fuzzing`, `import reference` and `import frameworks`; next to an unpacked sdist, the folder has a version
core = map(str, Path(__file__).parents[2].glob("conformal[-_]core*/tests"))
sys.path[:0] = [*core, str(Path(__file__).parent)]

settings.register_profile("rsc", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("rsc")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pytest_runtest_setup(item):
    """Before torch 2.9 its compiler stops at array-api-compat, and a fake device of CUDA asks for a real one."""
    if item.get_closest_marker("newer_torch") and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9):
        pytest.skip("needs torch 2.9")
