import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.experiments.task import run_command
from cpsc_train.runs import RunFolder


def trained(folder):
    """Results, probabilities and losses of a run, without its times."""
    run = RunFolder(folder)
    results = {key: value for key, value in run.read_results().items() if key != "seconds"}
    records = [{key: r[key] for key in ("epoch", "loss", "validation")} for r in run.read_metrics()]
    with np.load(run.predictions) as arrays:
        return results, records, {name: arrays[name].tobytes() for name in arrays}


def test_a_forked_run_is_that_of_a_process_of_its_own(quick, tmp_path):
    words = ["train", "--quiet", *map(str, quick), "--out"]
    code = run_command([*words, str(tmp_path / "forked")], tmp_path / "log")
    assert code == 0, (tmp_path / "log").read_text()
    subprocess.run([sys.executable, "-m", "cpsc_train", *words, tmp_path / "alone"], check=True)
    assert trained(tmp_path / "forked") == trained(tmp_path / "alone")


def test_errors_have_a_code_and_a_log(tmp_path):
    log = tmp_path / "log"
    assert run_command(["train", "--set", "epochs=0"], log) == 2
    assert "epochs must be" in log.read_text()
    assert run_command(["methods", "list"], log) == 0
    assert "joint-unimodal" in log.read_text()


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux")
def test_a_crash_ends_one_command(quick, tmp_path):
    words = ["train", *map(str, quick), "--set", "epochs=100000", "--out", str(tmp_path / "run")]
    codes, before = [], descendants(os.getpid())
    running = threading.Thread(target=lambda: codes.append(run_command(words, tmp_path / "log")))
    running.start()
    wait((tmp_path / "run/metrics.jsonl").exists)
    # Of the new processes, the youngest is the command; the others start it.
    command = max(descendants(os.getpid()) - before)
    os.kill(command, signal.SIGKILL)
    running.join(60)
    assert codes == [-signal.SIGKILL]
    assert run_command(["--version"], tmp_path / "log") == 0


def descendants(process):
    found = set()
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found


def wait(condition):
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
