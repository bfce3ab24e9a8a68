"""``--root`` of commands that read a run whose data has moved."""

from __future__ import annotations

import json

import numpy as np
import pytest

FAST = ("--epochs", 2, "--set", "method.warmup=1", "--inference", "none")


@pytest.fixture(scope="module")
def trained(cpsc, tmp_path_factory):
    """A run on arrays, its data, and the folder of both."""
    folder = tmp_path_factory.mktemp("moved")
    generator = np.random.default_rng(0)
    label = np.arange(150) % 2
    views = {name: (label[:, None] + generator.normal(size=(150, 4))).astype(np.float32) for name in ("near", "far")}
    data = {"id": np.array([f"s{row}" for row in range(150)]), "label": label, **views}
    np.savez(folder / "first.npz", **data)
    run = folder / "run"
    outcome = cpsc("train", "--recipe", "arrays", "--root", folder / "first.npz", "--out", run, "-q", *FAST)
    assert outcome.code == 0, outcome.err
    (folder / "first.npz").unlink()
    return run, data, folder


def test_evaluate_and_stream_accept_its_new_place(cpsc, trained):
    run, data, folder = trained
    assert "no such file" in cpsc("evaluate", run).err
    more = {name: np.concatenate([array, array[:1]]) for name, array in data.items()}  # a further sample is not used
    more["id"] = np.append(data["id"], "new")
    np.savez(folder / "second.npz", **more)
    results = json.loads((run / "results.json").read_text())
    outcome = cpsc("evaluate", run, "--root", folder / "second.npz", "--out", folder / "again.json")
    assert outcome.code == 0, outcome.err
    again = json.loads((folder / "again.json").read_text())
    assert again["test"] == results["test"]
    assert cpsc("stream", run, "--root", folder / "second.npz", "--drift", "near:gaussian:0.5").code == 0


def test_other_data_is_refused_in_one_sentence(cpsc, trained):
    run, data, folder = trained
    np.savez(folder / "other.npz", **(data | {"id": np.array([f"t{row}" for row in range(150)])}))
    for command in (("evaluate", run), ("stream", run)):
        outcome = cpsc(*command, "--root", folder / "other.npz")
        assert outcome.code == 2
        assert f"--root {folder / 'other.npz'}: is not the data of the run: {run / 'splits.npz'}: id 's" in outcome.err
        assert "of train is not in the data set (of 90 ids, 90 are not)" in outcome.err
        assert len(outcome.err.splitlines()) == 1


def test_an_interrupted_run_resumes_with_moved_data(cpsc, trained):
    run, data, folder = trained
    np.savez(folder / "third.npz", **data)
    results = (run / "results.json").read_text()
    (run / "results.json").unlink()
    outcome = cpsc("train", "--resume", run, "--root", folder / "third.npz", "-q")
    assert outcome.code == 0, outcome.err
    assert json.loads((run / "results.json").read_text())["test"] == json.loads(results)["test"]


def test_embedded_data_has_no_root(cpsc, finished):
    assert "--root: the data set handwritten is not read from a folder" in cpsc("evaluate", finished, "--root", ".").err
