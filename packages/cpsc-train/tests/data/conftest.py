"""Small data sets in the forms of the real ones, made once for all tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def beside(name):
    """Return a module of this folder, where all that reads media is installed."""
    for package in ("PIL", "av", "h5py", "soundfile"):
        pytest.importorskip(package, reason=f"{package} reads these files")
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def layouts():
    """Return the module that makes them."""
    return beside("layouts")


@pytest.fixture(scope="session")
def recordings():
    """Return the module that makes recordings whose frames and samples are known."""
    return beside("recordings")


@pytest.fixture(scope="session")
def crema_native(layouts, tmp_path_factory):
    """Return CREMA-D as it is distributed: ten actors, six recordings each, without lists. Not to be written to."""
    return layouts.crema_d_native(tmp_path_factory.mktemp("crema-d-native"))
