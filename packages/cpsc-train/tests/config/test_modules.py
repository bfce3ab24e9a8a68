"""Modules that are imported before names are looked up: ``--import`` and ``imports`` of a configuration."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cpsc_train.config import import_modules, located, read_toml
from cpsc_train.errors import UserError

OWN = '''
from dataclasses import dataclass, replace

import numpy as np

from cpsc_train.data import DataConfig, Dataset, Modality
from cpsc_train.recipes import RECIPES, Recipe, recipe

@dataclass(frozen=True, kw_only=True)
class TwoViews(DataConfig, name="{name}"):
    """Two noisy views of two classes."""

    modalities: tuple[str, ...] = ("left", "right")
    root: str = "."

    def load(self):
        return Views(self.modalities)

class Views(Dataset):
    classes = ("no", "yes")

    def __init__(self, names):
        self.ids = [f"row-{{i}}" for i in range(200)]
        self.labels = np.arange(200) % 2
        self.modalities = {{name: Modality(kind="vector", shape=(3,)) for name in names}}
        noise = np.random.default_rng(0).standard_normal((200, 3))
        self.values = (self.labels[:, None] + noise).astype(np.float32)

    def read(self, modality, rows, /):
        return self.values[rows]

def own(mode, modalities):
    base = recipe("handwritten", epochs=6)
    mlp = base.encoders["fou"]
    return Recipe(replace(base, recipe="{name}", data=TwoViews(), encoders={{"left": mlp, "right": mlp}}, noise=()))

DataConfig.register(TwoViews)
RECIPES["{name}"] = own
'''
FAST = ("--epochs", 2, "--set", "method.warmup=1", "--inference", "none")


def own_file(folder, name):
    file = folder / f"{name}.py"
    file.write_text(OWN.format(name=name.replace("_", "-")))
    return file


@pytest.fixture
def path(monkeypatch):
    """A search path, and registered modules, that a test may extend."""
    monkeypatch.setattr(sys, "path", sys.path.copy())


@pytest.mark.usefixtures("path")
def test_a_run_of_an_imported_data_set_is_resumed_and_evaluated_from_its_folder(cpsc, tmp_path):
    file, run = own_file(tmp_path, "own_views"), tmp_path / "run"
    assert "own-views" in cpsc("data", "list", "--import", file).out
    outcome = cpsc("train", "--import", file, "--recipe", "own-views", "--out", run, *FAST)
    assert outcome.code == 0, outcome.err
    assert read_toml(run / "config.toml")["imports"] == [str(file)]
    alone = [sys.executable, "-m", "cpsc_train", "evaluate", str(run)]
    done = subprocess.run(alone, capture_output=True, text=True, check=False)
    assert "identical to results.json" in done.stdout, done.stderr
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    file.rename(moved / file.name)
    done = subprocess.run(alone, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"--import {file}: no such file: name its new place with --import" in done.stderr
    again = [*alone, "--import", str(moved / file.name)]
    done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert "identical to results.json" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("path")
def test_processes_of_a_benchmark_import_them_too(cpsc, tmp_path):
    file = own_file(tmp_path, "views_of_mine")
    options = ("--recipe", "views-of-mine", "--methods", "joint", "--seeds", "0", "--out", tmp_path / "grid")
    outcome = cpsc("benchmark", "--import", file, *options, "--set", "epochs=2", "--set", "noise=[]", "-q")
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "grid/joint/seed-0/results.json").read_text())
    assert results["data"]["name"] == "views-of-mine"


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.py", None, "absent.py: no such file"),
        ("two-words.py", "", "must be one of a Python module"),
        ("json.py", "", r"the name is that of another module, .*json.__init__.py: rename the file"),
        ("own_failure.py", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("own_typo.py", "def", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(tmp_path, name, content, message):
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        import_modules([str(file)])
    assert str(raised.value).startswith(f"--import {file}")


def test_files_are_located_and_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located(["mine.py", "json", str(tmp_path / "mine.py"), "json"]) == (str(tmp_path / "mine.py"), "json")


def test_an_absent_module_is_told_in_one_sentence(cpsc):
    outcome = cpsc("methods", "list", "--import", "no_such_module")
    assert outcome.code == 2
    assert "--import no_such_module cannot be imported: ModuleNotFoundError" in outcome.err
