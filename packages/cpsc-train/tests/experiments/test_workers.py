import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.experiments.workers import FORKS, Workers
from cpsc_train.runs import RunFolder

forks = pytest.mark.skipif(not FORKS, reason="each command is a process of its own here")


def trained(folder):
    """Results, probabilities and losses of a run, without its times."""
    run = RunFolder(folder)
    results = {key: value for key, value in run.read_results().items() if key != "seconds"}
    records = [{key: r[key] for key in ("epoch", "loss", "validation")} for r in run.read_metrics()]
    with np.load(run.predictions) as arrays:
        return results, records, {name: arrays[name].tobytes() for name in arrays}


def test_runs_of_a_worker_are_those_of_processes_of_their_own(quick, tmp_path):
    methods = ("cpsc", "joint-unimodal", "tmc")
    words = {m: ["--method", m, *quick] for m in methods}
    for plain in methods[1:]:  # which have other options
        pairs = zip(words[plain][::2], words[plain][1::2], strict=True)
        words[plain] = [word for pair in pairs if not str(pair[1]).startswith("method.") for word in pair]
    with Workers() as workers:
        for method in (*methods, "cpsc"):  # the last again, after others
            out = tmp_path / (f"{method}-again" if (tmp_path / method).exists() else method)
            log = tmp_path / "log"
            code = workers.run(["train", "--quiet", *map(str, words[method]), "--out", str(out)], log)
            assert code == 0, log.read_text()
    for method in methods:
        out = tmp_path / f"{method}-alone"
        subprocess.run(
            [sys.executable, "-m", "cpsc_train", "train", "--quiet", *words[method], "--out", out], check=True
        )
        assert trained(tmp_path / method) == trained(out)
    assert trained(tmp_path / "cpsc-again") == trained(tmp_path / "cpsc")


def test_errors_have_a_code_and_a_log(tmp_path):
    log = tmp_path / "log"
    with Workers() as workers:
        assert workers.run(["train", "--set", "epochs=0"], log) == 2
        assert "epochs must be" in log.read_text()
        assert workers.run(["methods", "list"], log) == 0
    assert "joint-unimodal" in log.read_text()


@forks
@pytest.mark.parametrize("whom", ["command", "worker"])
def test_a_crash_ends_one_command(quick, tmp_path, whom):
    words = ["train", *map(str, quick), "--set", "epochs=100000"]
    with Workers() as workers:
        assert workers.run(["--version"], tmp_path / "log") == 0
        (worker,) = workers._idle
        codes = []
        running = threading.Thread(
            target=lambda: codes.append(workers.run([*words, "--out", str(tmp_path / "run")], tmp_path / "log"))
        )
        running.start()
        command = wait(lambda: children(worker._process.pid))[0]
        wait((tmp_path / "run/metrics.jsonl").exists)
        os.kill(command if whom == "command" else worker._process.pid, signal.SIGKILL)
        running.join(60)
        assert codes == [-signal.SIGKILL]
        wait(lambda: not Path(f"/proc/{command}").exists())
        assert workers.run(["--version"], tmp_path / "log") == 0


def children(process):
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait(condition):
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
