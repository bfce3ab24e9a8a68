import json
import shutil

import numpy as np
import pytest

from cpsc_train.cli.train import Train
from cpsc_train.config import read_toml
from cpsc_train.training import RunConfig


def test_results_hold_the_promised_names(finished):
    results = json.loads((finished / "results.json").read_text())
    heads = {"pix", "fou", "fused"}
    missing = {"without-pix": {"fou", "fused"}, "without-fou": {"pix", "fused"}}
    assert len(results["test"]) == 9
    assert all(set(seen["accuracy"]) == missing.get(name, heads) for name, seen in results["test"].items())
    for part in ("calibration", "test"):
        for head in heads:
            assert {"target", "coverage", "mean_size"} <= set(results["coverage"][part][head])
    assert results["data"]["train"] + sum(results["data"][p] for p in ("calibration", "validation", "test")) == 200
    assert results["seconds"] > 0
    assert {file.name for file in finished.iterdir()} == {
        ".lock",
        "checkpoint.pt",
        "checkpoints",
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "predictions.npz",
        "results.json",
        "splits.npz",
    }
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["status"] == "done"
    assert environment["versions"]["torch"]


def test_evaluate_needs_the_folder_alone(cpsc, finished, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished, moved)
    outcome = cpsc("evaluate", moved)
    assert outcome.code == 0
    assert "identical to results.json, to the last digit" in outcome.out
    results = json.loads((moved / "results.json").read_text())
    assert f"{100 * results['test']['clean']['accuracy']['fused']:.1f}" in outcome.out

    results["test"]["clean"]["accuracy"]["fused"] += 1e-12
    (moved / "results.json").write_text(json.dumps(results))
    assert "differs from results.json in: test" in cpsc("evaluate", moved).out


def test_a_run_can_be_repeated_from_its_folder(cpsc, finished, tmp_path):
    outcome = cpsc("train", "--config", finished / "config.toml", "--out", tmp_path / "again", "-q")
    assert outcome.code == 0, outcome.err
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (finished, tmp_path / "again"))
    assert first | {"seconds": 0} == second | {"seconds": 0}


def test_what_a_person_sees(cpsc, tmp_path, quick):
    outcome = cpsc("train", "--out", tmp_path / "run", *quick)
    assert "handwritten  200 rows, 10 classes, modalities pix + fou" in outcome.out
    assert "train 100  calibration 40  validation 20  test 40" in outcome.out
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    sets = last["validation"]["coverage"]["fused"]
    assert (
        f"epoch 4/4  self-calibration  loss {sum(last['loss'].values()):.3f}  "
        f"accuracy {100 * last['validation']['accuracy']['fused']:.1f}%  coverage {sets['coverage']:.3f}  "
        f"set size {sets['mean_size']:.2f}  in-loop quantile {last['in_loop_quantile']['fused']:.3f}\n"
    ) in outcome.out
    assert "Test accuracy, %" in outcome.out
    assert "Coverage of the prediction sets, target 0.90" in outcome.out
    assert str(tmp_path / "run") in outcome.out.replace("\n", "")
    quiet = cpsc("train", "--out", tmp_path / "quiet", "-q", *quick)
    assert "epoch 4/4" not in quiet.out
    assert "best epoch" in quiet.out
    assert "Test accuracy, %" in quiet.out


def test_options_reach_the_run(cpsc, tmp_path, quick):
    options = ["--method", "joint", "--seed", "5", "--modalities", "fou,zer,mor", "--set", "optimizer.lr=0.01"]
    pairs = zip(quick[::2], quick[1::2], strict=True)
    small = [part for pair in pairs if not pair[1].startswith("method.") for part in pair]
    outcome = cpsc("train", "--out", tmp_path / "run", "-q", *options, *small)
    assert outcome.code == 0, outcome.err
    config = RunConfig.from_plain(read_toml(tmp_path / "run/config.toml"))
    assert (config.method.name, config.seed, config.epochs, config.optimizer.lr) == ("joint", 5, 4, 0.01)
    assert config.data.modalities == ("fou", "zer", "mor")
    assert set(json.loads((tmp_path / "run/results.json").read_text())["test"]["clean"]["accuracy"]) == {
        "fou",
        "zer",
        "mor",
        "fused",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--modalities", "pix,fuo"], "unknown modality 'fuo'; did you mean 'fou'?"),
        (["--modalities", "pix"], "modalities must be 2 to 6 different views"),
        (["--recipe", "handwriten"], "unknown recipe 'handwriten'; did you mean 'handwritten'?"),
        (["--method", "cspc"], "unknown method 'cspc'; did you mean 'cpsc'?"),
        (["--set", "method.topk=3"], "unknown key 'method.topk'; did you mean 'method.top_k'?"),
        (["--set", "method.top_k=11"], "method.top_k must lie in 1…components = 10, got 11"),
        (["--set", "conformal.alpha=0"], "conformal.alpha must lie in (0, 1), got 0"),
        (["--set", "conformal.alpha=0.001"], "200 calibration samples are too few for conformal.alpha = 0.001"),
        (["--set", "conformal.refresh=sometimes"], "conformal.refresh must be exact, rolling, epoch or interval:K"),
        (["--set", "data.file=absent.npz"], "absent.npz: no such file"),
        (["--set", "splits.test=0.9"], "splits must leave a fraction for training"),
        (["--config", "absent.toml"], "absent.toml: cannot be read"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--seed", "-1"], "seed must lie in [0, 2^63), got -1"),
        (["--set", "compute.device=cuda:9"], "device 'cuda:9' cannot be used here"),
        (["--config", "x.toml", "--modalities", "pix,fou"], "--modalities belongs to a recipe, not to --config"),
    ],
)
def test_a_mistake_gets_one_sentence_and_code_2(cpsc, tmp_path, options, message):
    outcome = cpsc("train", "--out", tmp_path / "run", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_nan_in_the_data_is_named_by_row(cpsc, tmp_path, small_file):
    with np.load(small_file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["fou"][12, 7] = np.nan
    np.savez(tmp_path / "bad.npz", **arrays)
    outcome = cpsc("train", "--out", tmp_path / "run", "--set", f"data.file={tmp_path / 'bad.npz'}")
    assert outcome.code == 2
    assert "bad.npz: fou holds nan at row 12, column 7" in outcome.err
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_left_as_it_is(cpsc, finished, quick):
    before = {file.name: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    outcome = cpsc("train", "--out", finished, *quick)
    assert outcome.code == 2
    assert "exists already, and a run never overwrites: choose another --out" in outcome.err
    assert {file.name: file.read_bytes() for file in finished.rglob("*") if file.is_file()} == before


def test_evaluate_refuses_what_is_no_run(cpsc, tmp_path, finished):
    assert "is not a run folder" in cpsc("evaluate", tmp_path).err
    broken = tmp_path / "broken"
    shutil.copytree(finished, broken)
    (broken / "checkpoint.pt").write_bytes(b"junk")
    outcome = cpsc("evaluate", broken)
    assert outcome.code == 2
    assert "is not a readable checkpoint" in outcome.err
    (broken / "splits.npz").write_text("{}")
    assert "splits.npz: is not a readable .npz file" in cpsc("evaluate", broken).err


def test_wrong_usage_is_code_2(cpsc):
    assert cpsc("trian").code == 2
    assert cpsc("train", "--epochs", "many").code == 2
    assert cpsc("train", "--no-such-option").code == 2
    assert cpsc("evaluate").code == 2


def test_our_own_fault_is_code_1(cpsc, monkeypatch, tmp_path):
    monkeypatch.setattr("cpsc_train.training.train", lambda *_: 1 / 0)
    outcome = cpsc("train", "--out", tmp_path / "run")
    assert outcome.code == 1
    assert "this is a bug" in outcome.err
    assert "ZeroDivisionError" in outcome.err


def test_help_teaches_by_example(cpsc):
    assert "train" in cpsc("--help").out
    for command in ("train", "evaluate"):
        outcome = cpsc(command, "--help")
        assert outcome.code == 0
        assert f"cpsc {command}" in outcome.out


@pytest.mark.parametrize(
    "line",
    [
        line.split("  ")
        for line in Train.examples.splitlines()
        if line.startswith("  cpsc train") and not {"--resume", "--seeds", "--root"} & set(line.split())
    ],
)
def test_the_examples_of_the_help_are_valid(cpsc, tmp_path, line, finished, quick):
    """Each runs, on a tenth of the data and for fewer epochs."""
    words = next(part for part in line if part).split()[2:]
    words = [str(finished / "config.toml") if word == "runs/A/config.toml" else word for word in words]
    small = ["--epochs", "4", *(() if "--config" in words else quick[2:-4] if "joint" in words else quick[2:])]
    outcome = cpsc("train", *words, "--out", tmp_path / "run", "-q", *small)
    assert outcome.code == 0, outcome.err


def test_names_that_look_like_markup(cpsc, quick, tmp_path):
    """The run ended with a MarkupError after training, and the log's name was sent to the terminal as it is."""
    folder, log = tmp_path / "exp[" / "v2][lr=0.1]", tmp_path / "a\x1b[31m.log"
    arguments = ("train", "--out", folder, *quick, "--epochs", "2", "--set", "method.warmup=1")
    outcome = cpsc(*arguments, "--log-file", log)
    assert outcome.code == 0, outcome.err
    assert f"everything is in {folder}\n" in outcome.out
    assert f" in {folder}: " in log.read_text()
    assert cpsc("evaluate", folder, "-h").code == 0
    outcome = cpsc("train", "--out", folder, "--log-file", tmp_path / "absent\x1b[31m" / "a")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err + outcome.out
