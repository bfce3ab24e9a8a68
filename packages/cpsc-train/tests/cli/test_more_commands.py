"""Recipes, export, logs, sweeps of noise, and what stands beside --resume."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch

import cpsc_train


def test_recipes_are_listed_and_shown(cpsc, tmp_path):
    outcome = cpsc("recipes", "list")
    assert outcome.code == 0
    for name in (
        "handwritten",
        "av-digits",
        "crema-d",
        "kinetics-sounds",
        "ave",
        "mvsa-single",
        "nyu-depth-v2",
        "sun-rgbd",
    ):
        assert name in outcome.out
    shown = cpsc("recipes", "show", "handwritten", "--mode", "released")
    assert shown.code == 0
    assert 'inference = "features"  # released' in shown.out


def test_a_shown_recipe_is_what_train_takes(cpsc, quick, tmp_path):
    (tmp_path / "mine.toml").write_text(cpsc("recipes", "show", "handwritten").out, encoding="utf-8")
    outcome = cpsc("train", "--config", tmp_path / "mine.toml", "--out", tmp_path / "run", *quick)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipes", "show"], "needs a name, one of arrays, av-digits"),
        (["recipes", "show", "crema"], "unknown recipe 'crema'; did you mean 'crema-d'"),
        (["train", "--recipe", "crema-d", "--root", "absent"], "absent: no such folder: set the folder"),
        (["ablate", "--axes", "part"], "did you mean 'parts'"),
        (["export", "absent"], "no such folder"),
        (["train", "--log-file", "absent/log.txt"], r"--log-file absent/log\.txt: cannot be written"),
    ],
)
def test_mistakes(cpsc, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = cpsc(*arguments)
    assert outcome.code == 2
    assert re.search(said, outcome.err), outcome.err


def test_the_model_is_exported(cpsc, finished, tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="an extra")
    path = tmp_path / "model.safetensors"
    outcome = cpsc("export", finished, "--out", path)
    assert outcome.code == 0, outcome.err
    kept = torch.load(finished / "checkpoint.pt", weights_only=True)
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["config"])["recipe"] == "handwritten"
        names = set(file.keys())
        for name, value in kept["model"].items():
            assert torch.equal(file.get_tensor(f"model.{name}"), value)
        assert {"qhat.pix", "qhat.fou", "qhat.fused"} <= names
    outcome = cpsc("export", finished, "--out", tmp_path / "absent" / "model.safetensors")
    assert outcome.code == 2
    assert "cannot be written" in outcome.err


def test_a_sweep_of_noise(cpsc, finished, tmp_path):
    outcome = cpsc("evaluate", finished, "--noise", "pix:gaussian:0.5,3", "--out", tmp_path / "sweep.json")
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "sweep.json").read_text())
    recorded = json.loads((finished / "results.json").read_text())
    assert list(found["test"]) == ["clean", "pix-gaussian-0.5", "pix-gaussian-3", "without-pix", "without-fou"]
    for name in ("clean", "pix-gaussian-0.5"):
        assert found["test"][name] == recorded["test"][name]
    assert found["test"]["pix-gaussian-3"]["accuracy"]["pix"] < found["test"]["clean"]["accuracy"]["pix"]
    assert found["conditions"]["pix-gaussian-3"][0]["level"] is None
    assert found["curves"] == {}
    for text, said in (
        ("pix:0.5", "must read MODALITY:KIND"),
        ("pxi:gaussian:1", "modality must be one of pix, fou, got 'pxi'"),
    ):
        outcome = cpsc("evaluate", finished, "--noise", text)
        assert outcome.code == 2
        assert said in outcome.err


def test_levels_of_noise(cpsc, finished, tmp_path):
    levels = ("--noise", "pix:gaussian@1,5", "--noise", "fou:gaussian@2", "--noise", "pix:blur@3+fou:gaussian@3")
    outcome = cpsc("evaluate", finished, *levels, "--out", tmp_path / "levels.json")
    assert outcome.code == 0, outcome.err
    assert "Area under the severity curve" in outcome.out
    found = json.loads((tmp_path / "levels.json").read_text())
    names = ["pix:gaussian@1", "pix:gaussian@5", "fou:gaussian@2", "pix:blur@3+fou:gaussian@3"]
    assert list(found["conditions"]) == names
    assert [part["level"] for part in found["conditions"][names[3]]] == [3, 3]
    assert list(found["curves"]) == ["pix:gaussian"]
    clean, mild, severe = (found["test"][name]["accuracy"]["fused"] for name in ("clean", *names[:2]))
    area = (clean + mild) / 2 / 5 + (mild + severe) / 2 * 4 / 5
    assert found["curves"]["pix:gaussian"]["area"]["fused"] == pytest.approx(area)


def test_kinds_of_corruption_are_listed(cpsc):
    outcome = cpsc("data", "corruptions")
    assert outcome.code == 0, outcome.err
    assert "words-mistyped" in outcome.out
    outcome = cpsc("data", "corruptions", "handwritten")
    assert "pix       jpeg             1: 25, 2: 18, 3: 15, 4: 10, 5: 7" in outcome.out
    assert "fou       gaussian         1: 0.5, 2: 1, 3: 1.5, 4: 2, 5: 3" in outcome.out


def test_a_log_file_and_tensorboard(cpsc, quick, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="an extra", exc_type=ImportError
    )
    log = tmp_path / "log.txt"
    outcome = cpsc("train", "--out", tmp_path / "run", "--log-file", log, "--track", "tensorboard", "-v", *quick)
    assert outcome.code == 0, outcome.err
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [re.sub(r"^\S+ ", "", line).split(" ", 2)[:2] for line in lines] == [
        ["start", "handwritten"],
        *(["epoch", str(n)] for n in range(1, 5)),
        ["test", "accuracy:"],
    ]
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    shown = [event.value for event in events.Scalars("validation accuracy/fused")]
    assert shown == pytest.approx([record["validation"]["accuracy"]["fused"] for record in records])
    for place, record in enumerate(records):  # one name is one number, wherever it is shown
        quantile = record["in_loop_quantile"]
        if quantile:
            assert f"in-loop quantile {quantile['fused']:.3f}" in outcome.out
            assert f"epoch {place + 1} in-loop quantile: pix {quantile['pix']:.3f}" in outcome.out
            assert re.search(rf"in-loop quantile: pix=\S+ .*fused={quantile['fused']:.4f} staleness", lines[place + 1])
        sets = record["validation"]["coverage"]["fused"]
        assert events.Scalars("validation threshold/fused")[place].value == pytest.approx(sets["threshold"])
    shown = {event.step: event.value for event in events.Scalars("in-loop quantile/fused")}
    assert shown == pytest.approx({n: records[n - 1]["in_loop_quantile"]["fused"] for n in (3, 4)})


def test_what_is_resumed_is_not_configured_anew(cpsc, finished, tmp_path):
    for more, said in (
        ([], "the run is done; there is nothing to resume"),
        (["--epochs", 9], "cannot be combined with --epochs"),
        (["--set", "ema=0.9"], "cannot be combined with --set"),
    ):
        outcome = cpsc("train", "--resume", finished, *more)
        assert outcome.code == 2
        assert said in outcome.err
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "results.json").unlink()
    newest = max((run / "checkpoints").iterdir())
    (newest / "0.bin").write_bytes((newest / "0.bin").read_bytes()[:99])
    outcome = cpsc("train", "--resume", run)
    assert outcome.code == 2
    assert "is not a readable checkpoint" in outcome.err
    assert "remove it to continue from step-" in outcome.err
    shutil.rmtree(newest)
    outcome = cpsc("train", "--resume", run)
    assert outcome.code == 0, outcome.err
    results = [json.loads((folder / "results.json").read_text()) | {"seconds": 0} for folder in (finished, run)]
    assert results[0] == results[1]


def test_five_lines_of_python(small_config, tmp_path):
    config = cpsc_train.recipe("handwritten", epochs=3, data=small_config.data, method=small_config.method)
    results = cpsc_train.train(config, tmp_path / "run")
    assert results["test"] == cpsc_train.evaluate(tmp_path / "run")["test"]
    assert set(cpsc_train.__all__) == set(dir(cpsc_train))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        cpsc_train.trian  # noqa: B018
    for name in cpsc_train.__all__:
        assert getattr(cpsc_train, name) is not None


def test_importing_the_package_is_cheap():
    code = "import sys, cpsc_train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_methods_are_explained(cpsc):
    listed = cpsc("methods")
    assert listed.code == 0
    assert "eau" in listed.out
    for name, option in (("smv", "method.most"), ("eau", "method.latent")):
        shown = cpsc("methods", "show", name)
        assert shown.code == 0
        assert option in shown.out
