"""Files that released versions wrote are read as they were there.

Run as a script, this adds the files of this version to ``released/``. An archive there is never changed.
"""

import json
import shutil
import wave
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import pytest
import torch

import cpsc_train
from cpsc_train.config import override, write_toml
from cpsc_train.data import DataConfig, Splits, preparation
from cpsc_train.deployment import DeployedModel
from cpsc_train.experiments.tune import TUNED, Tuned, tuned_options
from cpsc_train.recipes import RECIPES, recipe
from cpsc_train.reporting import Observer
from cpsc_train.training import Mode, RunConfig

FOLDER = Path(__file__).parent / "released"
BRIEF = {
    "data.root": "data.npz",
    "splits.calibration": 0.25,
    "epochs": 2,
    "leave_out": False,
    "batch_size": 16,
    "feature_dim": 6,
    "encoders": {m: {"name": "mlp", "hidden": 6} for m in ("left", "right")},
    "method.parts": "both",
    "method.warmup": 1,
    "method.components": 3,
    "method.top_k": 2,
    "compute.device": "cpu",
    "checkpoints.keep": 1,
}


class Stop(Observer):
    """Ends a run within its second epoch."""

    steps = 0

    def step(self):
        self.steps += 1
        if self.steps == 5:
            raise KeyboardInterrupt


def samples():
    """Return three classes of vectors, some of which are missing."""
    generator, labels = np.random.default_rng(0), np.arange(90) % 3
    left, right = (
        2 * np.eye(3, d, dtype=np.float32)[labels] + generator.normal(size=(90, d)).astype(np.float32) for d in (4, 5)
    )
    return {"label": labels, "left": left, "right": right, "present/left": generator.uniform(size=90) > 0.2}


def write_recordings(folder):
    """Write a short sound and a frame for each of six emotions, in the layout of CREMA-D."""
    from PIL import Image  # noqa: PLC0415  # an extra

    names = [f"1001_DFA_{emotion}_XX" for emotion in ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")]
    for place, name in enumerate(names):
        (folder / "Image-01-FPS" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 40 * place).save(folder / "Image-01-FPS" / name / "1.png")
        (folder / "AudioWAV").mkdir(exist_ok=True)
        with wave.open(str(folder / "AudioWAV" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((np.arange(400) * 10 * (place + 1)).astype("<i2").tobytes())
    for part, listed in (("train", names[:4]), ("test", names[4:])):
        lines = [f"{name},{name.split('_')[2]}\n" for name in listed]
        (folder / f"{part}.csv").write_text("".join(lines), encoding="utf-8")


def recordings(root):
    return DataConfig.named("crema-d")(root=root, size=8)


def write(archive):
    """Write a file of every kind that users keep, and what the run predicts."""
    if archive.exists():
        raise FileExistsError(f"{archive}: is never changed")
    archive.parent.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, chdir(folder):
        np.savez_compressed("data.npz", **samples())
        config = override(recipe("arrays"), BRIEF)
        cpsc_train.train(config, "run")
        with pytest.raises(KeyboardInterrupt):
            cpsc_train.train(config, "unfinished", Stop())
        np.savez_compressed("predictions.npz", **predictions())
        cpsc_train.export("run", "model.safetensors")
        preparation.write_splits(config.data, config.splits, Path("splits.json"), "stratified")
        write_recordings(Path("files"))
        preparation.pack(recordings("files"), "packed")
        options = {"optimizer.lr": 0.003, "method.top_k": 2}
        write_toml(Path(TUNED), {"cpsc": asdict(Tuned(90.0, 80.0, 8, 1, options, {"optimizer.lr": 0.001}))})
        plain = {f"{name} {mode}": recipe(name, mode=mode).to_plain() for name in RECIPES for mode in get_args(Mode)}
        Path("recipes.json").write_text(json.dumps(plain), encoding="utf-8")
        shutil.make_archive(str(archive.with_suffix("")), "zip")


def inputs_and_masks():
    """Return nine new samples, some without the first modality; a calibration row could lie exactly at a threshold."""
    with np.load("data.npz") as data:
        inputs = {m: torch.from_numpy(1.1 * data[m][:9]) for m in ("left", "right")}
        return inputs, {"left": torch.from_numpy(data["present/left"][:9]), "right": torch.ones(9, dtype=torch.bool)}


def predictions():
    """Return what the run predicts for the samples."""
    inputs, present = inputs_and_masks()
    batch = cpsc_train.load("run").predict({m: x.where(present[m][:, None], torch.nan) for m, x in inputs.items()})
    return {"probabilities": batch.probabilities, "sets": batch.sets, **batch.trust}


@pytest.fixture(
    scope="module", params=[None, *sorted(FOLDER.glob("*.zip"))], ids=lambda path: path.stem if path else "now"
)
def archive(request, tmp_path_factory):
    """An archive that is written now, or by a released version."""
    if request.param:
        return request.param
    for package in ("PIL", "safetensors"):
        pytest.importorskip(package, reason="an extra")
    path = tmp_path_factory.mktemp("released") / "now.zip"
    write(path)
    return path


@pytest.fixture(autouse=True)
def _unpacked(archive, tmp_path, monkeypatch):
    """Work in a copy of the files, to which the paths in them refer."""
    shutil.unpack_archive(archive, tmp_path)
    monkeypatch.chdir(tmp_path)


def test_the_archive_is_small_and_never_changed(archive):
    assert archive.stat().st_size < 150_000
    with pytest.raises(FileExistsError):
        write(archive)


def test_a_run_predicts():
    with np.load("predictions.npz") as expected:
        for name, values in predictions().items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)  # on any machine


def test_a_run_is_evaluated(cpsc):
    before = json.loads(Path("run/results.json").read_text("utf-8"))
    outcome = cpsc("evaluate", "run", "--out", "again.json")
    assert outcome.code == 0, outcome.err
    after = json.loads(Path("again.json").read_text("utf-8"))
    for part in ("validation", "test"):
        accuracy = pytest.approx(before[part]["clean"]["accuracy"], abs=0.1)  # a row may be a tie on another machine
        assert after[part]["clean"]["accuracy"] == accuracy


@pytest.mark.slow
def test_runs_are_reported(cpsc):
    pytest.importorskip("matplotlib", reason="an extra")
    outcome = cpsc("report", "run", "unfinished", "--out", "report.html")
    assert outcome.code == 0, outcome.err


def test_an_unfinished_run_resumes(cpsc):
    epochs = Path("unfinished/metrics.jsonl").read_text("utf-8").splitlines()
    outcome = cpsc("train", "--resume", "unfinished")
    assert outcome.code == 0, outcome.err
    after = Path("unfinished/metrics.jsonl").read_text("utf-8").splitlines()
    assert (len(epochs), len(after)) == (1, 2)
    assert after[0] == epochs[0]
    assert cpsc_train.load("unfinished").classes == ("0", "1", "2")


def test_exports_answer_as_the_run(cpsc):
    safetensors = pytest.importorskip("safetensors", reason="an extra")
    inputs, present = inputs_and_masks()
    outcome = cpsc("export", "run", "--out", "again.safetensors")
    assert outcome.code == 0, outcome.err
    with np.load("predictions.npz") as expected:
        for name in ("model.safetensors", "again.safetensors"):
            with safetensors.safe_open(name, "pt") as file:
                module = DeployedModel({key: json.loads(text) for key, text in file.metadata().items()})
                module.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
            outputs = module(inputs, present)
            np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"], atol=1e-5)
            np.testing.assert_array_equal(outputs["sets"], expected["sets"])


def test_shards_are_read_as_the_files_are():
    pytest.importorskip("PIL", reason="an extra")
    files, packed = recordings("files").open(), recordings("packed").open()
    assert list(packed.ids) == list(files.ids)
    for m in files.modalities:
        np.testing.assert_array_equal(packed.read(m, np.arange(6)), files.read(m, np.arange(6)))


def test_the_configuration_of_every_recipe_is_read():
    for name, table in json.loads(Path("recipes.json").read_text("utf-8")).items():
        now = RunConfig.from_plain(table).to_plain()
        assert all(now[key] == value for key, value in table.items() if not isinstance(value, dict | list)), name


def test_splits_and_tuned_options_are_read():
    config = override(override(recipe("arrays"), BRIEF), tuned_options(Path())["cpsc"])
    assert config.optimizer.lr == 0.003
    sizes = {part: len(ids) for part, ids in json.loads(Path("splits.json").read_text("utf-8")).items()}
    assert Splits.load(Path("splits.json"), config.data.open()).sizes == sizes


if __name__ == "__main__":
    write(FOLDER / f"{cpsc_train.__version__}.zip")
