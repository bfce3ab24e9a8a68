"""Parts of the embedded data, and finished runs on them that many tests look at."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

import cpsc_train
from cpsc_train.cli import main
from cpsc_train.config import apply_settings
from cpsc_train.recipes import recipe
from cpsc_train.training import RunConfig

sys.path.insert(0, str(Path(__file__).parent))  # for `import damage`
settings.register_profile("train", deadline=None)
settings.load_profile("train")
PAPER = {"inference": "[]", "method.parts": "both", "method.warmup": 2}
"""Options with which a run has every stage of training, and the plain inference alone."""


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Digits:
    """A run, its file of arrays, and the test rows."""

    run: Path
    file: Path
    arrays: dict
    rows: np.ndarray

    def given(self, *modalities):
        """Return the test rows of some modalities."""
        return {m: self.arrays[m][self.rows] for m in modalities or ("pix", "fou")}

    @property
    def labels(self):
        return self.arrays["label"][self.rows]


def run_cpsc(*arguments: object) -> Outcome:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def cpsc():
    return run_cpsc


@pytest.fixture(scope="session")
def small_file(tmp_path_factory) -> Path:
    """20 rows a class."""
    with np.load(str(files("cpsc_train").joinpath("data/embedded/handwritten.npz"))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    rows = np.concatenate([np.flatnonzero(arrays["label"] == label)[:20] for label in range(10)])
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, **{name: array[rows] for name, array in arrays.items()})
    return path


@pytest.fixture(scope="session")
def quick(small_file) -> list[str]:
    """Options of `cpsc train` for a run of seconds; those of the method are the last four."""
    settings = {"data.file": small_file, "splits.calibration": 0.2} | PAPER
    return ["--epochs", "4", *(part for item in settings.items() for part in ("--set", "{}={}".format(*item)))]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, quick) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    outcome = run_cpsc("train", "--out", folder, *quick)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A run on 60 rows a class, with predictions by trust."""
    folder = tmp_path_factory.mktemp("digits")
    with np.load(str(files("cpsc_train").joinpath("data/embedded/handwritten.npz"))) as archive:
        arrays = {name: archive[name] for name in ("label", "pix", "fou")}
    rows = np.concatenate([np.flatnonzero(arrays["label"] == label)[:60] for label in range(10)])
    arrays = {name: array[rows] for name, array in arrays.items()}
    np.savez(folder / "digits.npz", **arrays)
    config = apply_settings(
        recipe("handwritten"), ["splits.calibration=0.2", "epochs=3", f"data.file={folder / 'digits.npz'}"]
    )
    cpsc_train.train(replace(config, noise=()), folder / "run")
    with np.load(folder / "run/predictions.npz") as predictions:
        test = predictions["ids"].astype(int)
    return Digits(folder / "run", folder / "digits.npz", arrays, test)


@pytest.fixture
def small_config(small_file) -> RunConfig:
    table = recipe("handwritten").to_plain()
    table["data"]["file"] = str(small_file)
    table["splits"]["calibration"] = 0.2
    return apply_settings(
        RunConfig.from_plain(table | {"epochs": 4}), [f"{key}={value}" for key, value in PAPER.items()]
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors are slower on two threads than on one."""
    torch.set_num_threads(1)
