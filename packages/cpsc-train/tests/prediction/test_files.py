"""Predictions from files: images, texts, sound and videos are read as in the evaluation of the run."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import cpsc_train
from cpsc_train.config import override
from cpsc_train.recipes import recipe
from own_table import digits, write_table

SMALL = {"name": "small-cnn"}
DIVISION = {"splits.calibration": 0.3, "splits.validation": 0.3, "conformal.alpha": 0.3}
CHANGES = DIVISION | {"epochs": 1, "patience": None, "compute.workers": 0, "method.parts": "neither", "noise": []}


@pytest.fixture(scope="module")
def layouts():
    """Return the module that makes small data sets, where all that reads media is installed."""
    for package in ("PIL", "av", "h5py", "soundfile"):
        pytest.importorskip(package, reason=f"{package} reads these files")
    spec = importlib.util.spec_from_file_location("layouts", Path(__file__).parents[1] / "data" / "layouts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(name, root, folder, **changes):
    """Train a run, and return its predictions of the test rows, in order."""
    config = override(recipe(name), CHANGES | {"data.root": str(root), **changes})
    cpsc_train.train(config, folder)
    with np.load(folder / "predictions.npz") as saved:
        return dict(zip(saved["ids"].tolist(), saved["probabilities/fused"], strict=True))


def rows_of(outcome):
    return {row["id"]: row for row in map(json.loads, outcome.out.splitlines())}


def check(rows, expected):
    for name, probabilities in expected.items():
        np.testing.assert_allclose(list(rows[name]["probabilities"].values()), probabilities, atol=1e-6)


@pytest.fixture(scope="module")
def posts(layouts, tmp_path_factory):
    pytest.importorskip("transformers", reason="transformers encodes texts")
    folder = tmp_path_factory.mktemp("mvsa")
    (folder / "data").mkdir()
    root = layouts.mvsa_single(folder / "data")
    text = {"name": "transformer", "width": 32, "layers": 1, "attention_heads": 2}
    changes = {"data.size": 32, "data.tokens": 16, "encoders": {"image": SMALL, "text": text}, "feature_dim": 32}
    return folder, root, trained("mvsa-single", root, folder / "run", **changes)


def test_a_folder_in_the_layout_of_the_data_set(posts, cpsc):
    folder, root, expected = posts
    outcome = cpsc("predict", folder / "run", root, "--inference", "plain")
    assert outcome.code == 0, outcome.err
    rows = rows_of(outcome)
    assert len(rows) == 36
    check(rows, expected)


def test_trust_and_sets_are_those_of_the_evaluation(posts, cpsc):
    folder, root, _ = posts
    rows = rows_of(cpsc("predict", folder / "run", root))
    results = json.loads((folder / "run/results.json").read_text())["inference"]["trust"]["test"]["clean"]
    with np.load(folder / "run/predictions.npz") as saved:
        truth = {str(name): str(saved["classes"][k]) for name, k in zip(saved["ids"], saved["labels"], strict=True)}
    sets = {name: rows[name]["set"] for name in truth}
    figures = results["coverage"]["fused"]
    assert np.mean([rows[name]["class"] == label for name, label in truth.items()]) == results["accuracy"]["fused"]
    assert np.mean([label in sets[name] for name, label in truth.items()]) == figures["coverage"]
    assert np.mean([len(one) for one in sets.values()]) == figures["mean_size"]
    for m in ("image", "text"):
        mean = np.mean([rows[name]["trust"][m] for name in truth])
        assert mean == pytest.approx(results["trust"][m]["mean"], abs=1e-6)


@pytest.mark.slow
def test_processes_read_the_same(posts, cpsc, tmp_path):
    folder, root, _ = posts
    names = [f"data/{k}.jpg" for k in range(1, 9)]
    text = "image,text\n" + "".join(f"{name},a text\n" for name in [*names, "data/none.jpg"])
    (root / "new.csv").write_text(text, encoding="utf-8")
    common = ("predict", folder / "run", root / "new.csv", root, "--batch-size", 4)
    outcomes = [cpsc(*common, "--out", tmp_path / f"{workers}.csv", "--workers", workers) for workers in (0, 2)]
    assert [outcome.code for outcome in outcomes] == [2, 2]
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_images_and_texts_of_a_table(posts, cpsc):
    folder, root, expected = posts
    listed = [json.loads(line) for line in (root / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    with (root / "new.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "image", "text", "label"])
        writer.writeheader()
        for post in listed:
            writer.writerow({"id": post["id"], "image": post["img"], "text": post["text"], "label": "unknown"})
        writer.writerow({"id": "text only", "text": "a text"})
        writer.writerow({"id": "no image", "image": "data/none.jpg", "text": "a text"})
    outcome = cpsc("predict", folder / "run", root / "new.csv", "--inference", "plain")
    rows = rows_of(outcome)
    assert outcome.code == 2
    assert rows["no image"]["error"].endswith("none.jpg: no such file")
    assert rows["text only"]["missing"] == ["image"]
    check(rows, expected)
    model = cpsc_train.load(folder / "run", inference="plain")
    images = [root / post["img"] for post in listed]
    of_bytes = model.predict({"image": [one.read_bytes() for one in images], "text": [one["text"] for one in listed]})
    np.testing.assert_allclose(of_bytes.probabilities, list(expected.values()), atol=1e-6)
    one = model.predict({"image": images[0], "text": listed[0]["text"]})
    np.testing.assert_allclose(one.probabilities, of_bytes.probabilities[:1], atol=1e-6)


def test_a_file_that_cannot_be_read_in_a_folder(posts, cpsc):
    folder, root, expected = posts
    damaged = root / "data" / "1.jpg"
    content = damaged.read_bytes()
    try:
        damaged.write_bytes(content[:100])
        (root / "data" / "2.jpg").rename(root / "data" / "2.hidden")
        outcome = cpsc("predict", folder / "run", root, "--inference", "plain")
    finally:
        damaged.write_bytes(content)
        (root / "data" / "2.hidden").rename(root / "data" / "2.jpg")
    assert outcome.code == 2
    rows = rows_of(outcome)
    assert "1.jpg: is not a readable image" in rows["1"]["error"]
    assert "2.jpg is missing" in rows["2"]["error"]
    check(rows, expected)


@pytest.mark.parametrize("spectrogram", ["loader", "model"])
def test_sound_and_frames(layouts, cpsc, tmp_path, spectrogram):
    (tmp_path / "data").mkdir()
    root = layouts.crema_d(tmp_path / "data")
    expected = trained(
        "crema-d",
        root,
        tmp_path / "run",
        **{
            "data.size": 32,
            "data.seconds": 0.5,
            "data.spectrogram": spectrogram,
            "encoders": {"audio": SMALL, "video": SMALL},
        },
    )
    outcome = cpsc("predict", tmp_path / "run", root, "--inference", "plain")
    assert outcome.code == 0, outcome.err
    check(rows_of(outcome), expected)
    names = [str(root / "Image-01-FPS" / name) for name in expected]
    sounds = [f"data/AudioWAV/{name}.wav" for name in expected]
    lines = ["id,audio,video", *map(",".join, zip(expected, sounds, names, strict=True))]
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    check(rows_of(cpsc("predict", tmp_path / "run", tmp_path / "new.csv", "--inference", "plain")), expected)
    alone = cpsc_train.load(tmp_path / "run", inference="plain").predict(
        {"audio": [root.parent / one for one in sounds]}
    )
    assert {one.missing for one in alone} == {("video",)}


def test_a_table_like_that_of_the_training(cpsc, tmp_path):
    pytest.importorskip("PIL", reason="Pillow reads images")
    pytest.importorskip("transformers", reason="transformers encodes texts")
    rows = digits(tmp_path, 120)
    expected = trained("table", write_table(tmp_path / "mine.csv", rows), tmp_path / "run")
    new = [{name: cell for name, cell in row.items() if name != "label"} for row in rows]
    new[0] |= {"image": "", "note": ""}
    names = {name: int(name) for name in expected}
    outcome = cpsc("predict", tmp_path / "run", write_table(tmp_path / "new.csv", new), "--inference", "plain")
    assert outcome.code == 0, outcome.err
    found = rows_of(outcome)
    assert found["0"]["missing"] == ["image", "note"]
    check({name: found[str(row)] for name, row in names.items()}, {n: p for n, p in expected.items() if names[n]})
    refused = cpsc("predict", tmp_path / "run", tmp_path)
    assert (refused.code, "the data set table is not read from a folder" in refused.err) == (2, True)
