"""Small data sets in the forms of the real ones, made once for all tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def layouts():
    """Return the module that makes them."""
    for name in ("PIL", "av", "h5py", "soundfile"):
        pytest.importorskip(name, reason=f"{name} reads these files")
    spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def crema_native(layouts, tmp_path_factory):
    """Return CREMA-D as it is distributed: ten actors, six recordings each, without lists. Not to be written to."""
    return layouts.crema_d_native(tmp_path_factory.mktemp("crema-d-native"))
