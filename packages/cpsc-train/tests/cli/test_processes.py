"""What only a real process can show: signals, imports, entry points."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from cpsc_train.training.checkpoints import Checkpoints
from cpsc_train.training.distributed import Process

COMMAND = [sys.executable, "-m", "cpsc_train"]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_end_leaves_a_usable_folder(tmp_path, quick, how, code):
    folder = tmp_path / "run"
    options = [*map(str, quick), "--epochs", "10000"]
    # A job in the background of a shell ignores the signal, and so would a process of a test that runs in one.
    process = subprocess.Popen(
        [*COMMAND, "train", "--out", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads before it
    )
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert f"interrupted; to continue: cpsc train --resume {folder}; to evaluate it: cpsc evaluate {folder}" in out
    assert "Traceback" not in err
    assert json.loads((folder / "environment.json").read_text())["status"] == "interrupted"
    again = subprocess.run([*COMMAND, "evaluate", str(folder)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "the run was not finished" in again.stdout


def test_a_killed_run_goes_on_to_the_same_end(tmp_path, quick):
    """SIGKILL at a moment of its own choosing; the outcome is that of a run that was left alone, to the last digit."""
    options = [*quick, "--epochs", "12", "-q", "--set", "checkpoints.every_steps=1", "--set", "ema=0.9"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*COMMAND, "train", "--out", whole, *options], check=True, capture_output=True)
    process = subprocess.Popen([*COMMAND, "train", "--out", str(killed), *map(str, options)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(killed.glob("checkpoints/step-*7"))) == 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (killed / "results.json").exists()
    assert json.loads((killed / "environment.json").read_text())["status"] == "running"
    subprocess.run([*COMMAND, "train", "--resume", killed, "-q"], check=True, capture_output=True)
    assert outcome(killed) == outcome(whole)


def outcome(folder):
    """Everything a run says but how long it took."""
    results = json.loads((folder / "results.json").read_text()) | {"seconds": 0}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    arrays = (folder / "predictions.npz").read_bytes()
    return results, [line | {"seconds": 0, "time": 0, "cost": 0} for line in lines], arrays


LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
LAUNCHER += ["--rdzv-endpoint", "localhost:0", "-m", "cpsc_train", "train"]


@pytest.mark.slow
def test_two_processes_remember_the_rows_of_both(tmp_path, quick):
    settings = [
        "batch_size=7",
        "optimizer.accumulate=2",
        "method.name=qmf",
        "method.ranking=0",
        "noise=[]",
        "inference=[]",
    ]
    options = [*map(str, quick[:4]), "--epochs", "2", "--modalities", "fou,kar", "-q"]
    options += [w for s in settings for w in ("--set", s)]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([*COMMAND, "train", "--out", one, *options], check=True, capture_output=True)
    subprocess.run([*LAUNCHER, "--out", two, *options], check=True, capture_output=True)
    key = "method.history._extra_state"
    histories = [Checkpoints(folder / "checkpoints", 1, Process()).newest()["objective"][key] for folder in (one, two)]
    assert (histories[0] > 0).all()
    torch.testing.assert_close(histories[1], histories[0], rtol=1e-4, atol=1e-5)


def test_two_processes_are_one(tmp_path, quick):
    """The same q̂, losses to seven digits, and the same metrics, on the same global batches with a remainder."""
    settings = ["encoders.fou.hidden=32", "encoders.kar.hidden=32", "batch_size=33", "optimizer.accumulate=2"]
    options = [*map(str, quick), "--modalities", "fou,kar", "-q", *(w for s in settings for w in ("--set", s))]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([*COMMAND, "train", "--out", one, *options], check=True, capture_output=True)
    found = subprocess.run([*LAUNCHER, "--out", two, *options], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("Test accuracy, %") == 1  # only the first process prints
    (first, lines, _), (second, others, _) = outcome(one), outcome(two)
    for line, other in zip(lines, others, strict=True):
        assert line["train"] == pytest.approx(other["train"], rel=1e-5)
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert line["in_loop_quantile"] == pytest.approx(other["in_loop_quantile"], abs=1e-5)
        assert line["validation"]["accuracy"] == other["validation"]["accuracy"]
    with np.load(one / "predictions.npz") as arrays, np.load(two / "predictions.npz") as arrays_of_two:
        assert arrays.files == arrays_of_two.files
        for name in arrays.files:
            if arrays[name].dtype == np.float32:
                np.testing.assert_allclose(arrays_of_two[name], arrays[name], atol=1e-4)
            else:
                np.testing.assert_array_equal(arrays_of_two[name], arrays[name])
    for name, seen in first["test"].items():
        assert seen["accuracy"] == second["test"][name]["accuracy"]
        for head, sets in seen["coverage"].items():
            assert sets["coverage"] == second["test"][name]["coverage"][head]["coverage"]
            assert sets["threshold"] == pytest.approx(second["test"][name]["coverage"][head]["threshold"], abs=1e-5)


NAMED_BY_RANK = """
import os, sys
from cpsc_train.cli import main

sys.exit(main(["train", "--out", sys.argv[1] + os.environ["RANK"], *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_all_processes_use_the_folder_of_the_first(tmp_path, quick):
    """Their own names differ, as those with the time of the start do."""
    script = tmp_path / "train.py"
    script.write_text(NAMED_BY_RANK)
    command = [*LAUNCHER[:-3], script, tmp_path / "run", *quick]
    found = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert [path.name for path in tmp_path.glob("run*")] == ["run0"]
    assert (tmp_path / "run0" / "results.json").exists()


def rounded(figures):
    """Figures with numbers that compare as equal if they differ by rounding."""
    if isinstance(figures, dict):
        return {key: rounded(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return pytest.approx(figures, rel=1e-5, abs=1e-6) if isinstance(figures, float) else figures


EVALUATE = """
import json, os, pathlib, sys
from cpsc_train.training import evaluate

results = evaluate(sys.argv[1], inference=["trust", "read", "dasp"])
pathlib.Path(sys.argv[2] + os.environ.get("RANK", "")).write_text(json.dumps(results))
"""


@pytest.mark.slow
def test_two_processes_evaluate_as_one(tmp_path, digits):
    """Also variants that adapt to all rows of a condition."""
    script = tmp_path / "evaluate.py"
    script.write_text(EVALUATE)
    for launcher in ([sys.executable], LAUNCHER[:-3]):
        command = [*launcher, script, digits.run, tmp_path / "figures"]
        found = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    alone, *both = (json.loads((tmp_path / f"figures{rank}").read_text()) for rank in ("", 0, 1))
    assert both[0] == both[1] == rounded(alone)


def last_parameters(folder):
    state = Checkpoints(folder / "checkpoints", 1, Process()).newest()
    return state["steps"], {name: value for name, value in state["objective"].items() if name.startswith("model.")}


@pytest.mark.slow
def test_replicas_and_shards_learn_what_one_process_learns(tmp_path, quick):
    """Over more than 50 steps with warm-up and without; a resumed run with shards is the same to the last digit."""
    settings = ["batch_size=33", "encoders.fou.hidden=31", "encoders.kar.hidden=32", "checkpoints.keep=30"]
    options = [*map(str, quick[2:]), "--epochs", "18", "--modalities", "fou,kar", "-q"]
    options += [w for s in settings for w in ("--set", s)]
    shards = ["--set", "compute.sharding=encoders"]
    folders = [tmp_path / name for name in ("one", "replicas", "shards")]
    for folder, command, more in zip(folders, ([*COMMAND, "train"], LAUNCHER, LAUNCHER), ([], [], shards), strict=True):
        subprocess.run([*command, "--out", folder, *options, *more], check=True, capture_output=True)
    (steps, one), *others = map(last_parameters, folders)
    assert steps > 50
    for _, parameters in others:
        torch.testing.assert_close(parameters, one, rtol=0, atol=1e-5)
    before = outcome(folders[-1])
    for command in (LAUNCHER, [*COMMAND, "train"]):
        for checkpoint in sorted((folders[-1] / "checkpoints").iterdir())[8:]:
            shutil.rmtree(checkpoint)
        (folders[-1] / "results.json").unlink()
        subprocess.run([*command, "--resume", folders[-1], "-q"], check=True, capture_output=True)
        assert (outcome(folders[-1]) == before) is (command is LAUNCHER)
    torch.testing.assert_close(last_parameters(folders[-1])[1], one, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_processes_resume_within_an_epoch_what_one_began(tmp_path, quick):
    """The figures of the epoch are over all its rows, and its parameters are those of one process."""
    settings = ["batch_size=33", "encoders.fou.hidden=32", "encoders.kar.hidden=32", "checkpoints.every_steps=5"]
    options = [*map(str, quick[2:]), "--epochs", "3", "--modalities", "fou,kar", "-q"]
    options += [w for s in [*settings, "checkpoints.keep=30"] for w in ("--set", s)]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    subprocess.run([*COMMAND, "train", "--out", whole, *options], check=True, capture_output=True)
    shutil.copytree(whole, resumed)
    for checkpoint in sorted((resumed / "checkpoints").iterdir())[1:]:
        shutil.rmtree(checkpoint)
    (resumed / "results.json").unlink()
    found = subprocess.run([*LAUNCHER, "--resume", resumed], check=True, capture_output=True, text=True)
    assert "resuming with another number of processes, 2 instead of 1" in found.stdout
    torch.testing.assert_close(last_parameters(resumed)[1], last_parameters(whole)[1], rtol=0, atol=1e-6)
    for line, other in zip(outcome(whole)[1], outcome(resumed)[1], strict=True):
        assert line["train"] == pytest.approx(other["train"], rel=1e-6)
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_are_one_on_incomplete_rows(tmp_path, quick):
    """With the fused loss alone; means of a modality are those of the part of a batch that a process has."""
    settings = ["batch_size=33", "optimizer.accumulate=2", "method.name=joint", "missing.share={fou=0.5,kar=0.3}"]
    options = [*map(str, quick[:-4]), "--epochs", "3", "--modalities", "fou,kar", "-q"]
    options += [w for s in settings for w in ("--set", s)]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([*COMMAND, "train", "--out", one, *options], check=True, capture_output=True)
    found = subprocess.run([*LAUNCHER, "--out", two, *options], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    (first, lines, _), (second, others, _) = outcome(one), outcome(two)
    assert first["data"] == second["data"]
    for line, other in zip(lines, others, strict=True):
        assert line["train"] == pytest.approx(other["train"], rel=1e-5)
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert line["validation"]["accuracy"] == other["validation"]["accuracy"]
    assert first["test"]["clean"]["accuracy"] == second["test"]["clean"]["accuracy"]


def test_a_mistake_is_told_once_by_two_processes(tmp_path):
    run = ["--out", str(tmp_path / "run")]
    found = subprocess.run([*LAUNCHER, *run, "--set", "batch_size=1"], check=False, capture_output=True, text=True)
    assert found.returncode != 0
    assert found.stderr.count("cpsc: error: batch_size must be at least the number of processes, 2, got 1") == 1
    assert not (tmp_path / "run").exists()


def test_help_does_not_wait_for_torch():
    code = "import sys, cpsc_train.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0
