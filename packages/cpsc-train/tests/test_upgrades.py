"""A run folder that a released version has made is evaluated, resumed, reported and exported by this one.

``python packages/cpsc-train/tests/test_upgrades.py`` freezes a folder of this version, as a part of its release.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from cpsc_train.__about__ import __version__
from cpsc_train.training import checkpoint

GOLDEN = Path(__file__).with_name("golden")
SMALL = ["feature_dim=4", "encoders.fou.hidden=4", "encoders.kar.hidden=4", "method.components=3", "method.top_k=2"]
SMALL += ["method.warmup=2", "ema=0.9", "splits.calibration=20", "checkpoints.keep=2", "missing=false", "batch_size=16"]
SMALL += ["compute.threads=1"]


def freeze():
    """Train on 25 rows for four epochs; what is kept is the folder with the last two states."""
    splits = {part: [f"{row:04d}" for row in range(i, 2000, 80)] for i, part in enumerate(PARTS)}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "splits.json"
        file.write_text(json.dumps(splits), encoding="utf-8")
        words = [*SMALL, f"splits.file={file}"]
        options = ["--modalities", "fou,kar", "--epochs", "4", *(word for one in words for word in ("--set", one))]
        command = [sys.executable, "-m", "cpsc_train", "train", "--out", str(GOLDEN / __version__), *options]
        subprocess.run(command, check=True)
    made = GOLDEN / __version__  # without what is true of one machine alone
    (made / ".lock").unlink()
    config, environment = made / "config.toml", made / "environment.json"
    config.write_text(config.read_text(encoding="utf-8").replace(str(file), "splits.json"), encoding="utf-8")
    told = json.loads(environment.read_text(encoding="utf-8"))
    kept = {name: told[name] for name in ("status", "processes", "versions")}
    environment.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


PARTS = ("train", "calibration", "validation", "test")
VERSIONS = sorted(folder.name for folder in GOLDEN.glob("*"))


@pytest.fixture(params=VERSIONS)
def folder(request, tmp_path):
    return shutil.copytree(GOLDEN / request.param, tmp_path / "run")


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_this_version_is_frozen():
    assert __version__ in VERSIONS


def test_it_is_evaluated_to_what_it_was_there(folder, cpsc):
    found = cpsc("evaluate", folder, "--out", folder / "again.json")
    assert found.code == 0, found.err
    again = json.loads((folder / "again.json").read_text(encoding="utf-8"))
    for name, seen in results(folder)["test"].items():
        assert again["test"][name]["accuracy"] == pytest.approx(seen["accuracy"], abs=0.041)  # one row of 25 more
        for head, sets in seen["coverage"].items():
            assert again["test"][name]["coverage"][head]["qhat"] == pytest.approx(sets["qhat"], rel=1e-4)


def test_it_is_resumed_to_the_end_that_it_had_there(folder, cpsc):
    before = metrics(folder)
    (folder / "results.json").unlink()
    newest = max((folder / "checkpoints").glob("*.pt"))
    newest.unlink()
    found = cpsc("train", "--resume", folder)
    assert found.code == 0, found.err
    after = metrics(folder)
    assert [line["epoch"] for line in after] == [1, 2, 3, 4]
    assert after[-1]["loss"] == pytest.approx(before[-1]["loss"], rel=1e-3)
    assert after[-1]["qhat"] == pytest.approx(before[-1]["qhat"], rel=1e-3)
    assert newest.exists()


def test_it_is_reported_and_exported(folder, cpsc):
    for words in (("report", folder), ("export", folder)):
        found = cpsc(*words)
        assert found.code == 0, found.err


@pytest.mark.parametrize("format_", [1, 3, None])
def test_another_format_is_refused_by_name(folder, cpsc, format_):
    for file in (folder / "checkpoint.pt", *folder.glob("checkpoints/*.pt")):
        torch.save(torch.load(file, weights_only=True) | {"format": format_}, file)
    rule = f"must have format {checkpoint.FORMAT}, got {format_}: it was written by another version of cpsc-train"
    found = cpsc("evaluate", folder)
    assert (found.code, rule in found.err, "checkpoint.pt" in found.err) == (2, True, True)
    (folder / "results.json").unlink()
    found = cpsc("train", "--resume", folder)
    assert (found.code, rule in found.err, "step-" in found.err) == (2, True, True)


if __name__ == "__main__":
    freeze()
