"""The array libraries every function is tried on."""

from __future__ import annotations

import os
import sys
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
        module = module.removesuffix("-strided")
        self.xp = pytest.importorskip("jax.numpy" if module == "jax" else module)

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
        if self.name == "torch":
            return self.xp.from_numpy(array.copy())
        if self.name == "torch-strided":
            return self.xp.from_numpy(np.repeat(array[..., None], 2, axis=-1))[..., 0]
        return self.xp.asarray(array)

    def back(self, array) -> np.ndarray:
        return np.asarray(array)


LIBRARIES = ["numpy", "read-only", "strided", "strict", "torch", "torch-strided"]
# Most tests hold for jax as well. XLA takes denormal numbers for zero and rounds a division differently, so that those
# which ask for the same bits do not.
LIBRARIES += ["jax"] if "CONFORMAL_CORE_TEST_JAX" in os.environ else []


@pytest.fixture(scope="session", params=LIBRARIES)
def lib(request) -> Library:
    if request.param == "jax":
        jax = pytest.importorskip("jax")
        jax.config.update("jax_enable_x64", True)
    return Library(request.param)
