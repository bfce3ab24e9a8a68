"""The array libraries every function is tried on."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # for `import reference`

settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")


class Library:
    """Makes arrays of one library from numpy ones, and numpy ones from them."""

    def __init__(self, name: str) -> None:
        self.name = name
        module = {"read-only": "numpy", "strided": "numpy", "strict": "array_api_strict"}.get(name, name)
        module = module.removesuffix("-strided").removesuffix("-cuda")
        self.xp = pytest.importorskip("jax.numpy" if module == "jax" else module)
        self.check = True if name in {"torch-cuda", "cupy"} else None
        """What asks for a look at the values: on a device they are not read unless told."""

    def __call__(self, values, dtype=None):
        array = np.asarray(values, dtype=dtype)
        if self.name == "read-only":
            array = array.copy()
            array.flags.writeable = False
            return array
        if self.name == "strided":
            wide = np.zeros((*array.shape, 2), dtype=array.dtype)
            wide[..., 0] = array
            return wide[..., 0]
        if self.name == "numpy":
            return array
        if self.name in {"torch", "torch-cuda"}:
            tensor = self.xp.from_numpy(array.copy())
            return tensor.cuda() if self.name == "torch-cuda" else tensor
        if self.name == "torch-strided":
            return self.xp.from_numpy(np.repeat(array[..., None], 2, axis=-1))[..., 0]
        return self.xp.asarray(array)

    def back(self, array) -> np.ndarray:
        if self.name == "torch-cuda":
            return array.cpu().numpy()
        if self.name == "cupy":
            return array.get()
        return np.asarray(array)


def cuda_is_here() -> bool:
    """Whether torch is installed and sees a GPU."""
    return find_spec("torch") is not None and importlib.import_module("torch").cuda.is_available()


LIBRARIES = ["numpy", "read-only", "strided", "strict", "torch", "torch-strided"]
LIBRARIES += ["torch-cuda", "cupy"] if cuda_is_here() else []
# Most tests hold for jax as well. XLA takes denormal numbers for zero and rounds a division differently, so that those
# which ask for the same bits do not.
LIBRARIES += ["jax"] if "CONFORMAL_CORE_TEST_JAX" in os.environ else []


@pytest.fixture(scope="session", params=LIBRARIES)
def lib(request) -> Library:
    if request.param == "jax":
        jax = pytest.importorskip("jax")
        jax.config.update("jax_enable_x64", True)
    return Library(request.param)


def pytest_runtest_setup(item):
    """Before torch 2.9 its compiler stops at what a step calls."""
    torch = sys.modules.get("torch")
    if item.get_closest_marker("newer_torch") and torch and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9):
        pytest.skip("needs torch 2.9")
